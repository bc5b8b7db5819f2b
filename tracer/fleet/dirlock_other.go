//go:build !unix

package fleet

import "os"

// lockDir makes the directory; hubs run on Linux.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, dirError(dir, err)
	}
	return func() {}, nil
}
