//go:build !linux

package fleet

import "time"

// passed is the time that this process has run: agents are on Linux.
func passed() time.Duration { return time.Since(processStart) }

var processStart = time.Now()
