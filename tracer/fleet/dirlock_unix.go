//go:build unix

package fleet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir takes a directory of streams for this process alone: two servers on one would each write over what the other wrote, and
// neither would know. The lock goes with the process, however that ends.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, dirError(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, dirError(dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &DirError{
				cause:  fmt.Sprintf("another hub keeps its streams in %s", dir),
				remedy: "end that one, or give this one a --dir of its own; two hubs beside each other share a cluster, --nats",
			}
		}
		return nil, dirError(dir, err)
	}
	return func() { f.Close() }, nil
}
