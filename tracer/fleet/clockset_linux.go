package fleet

import (
	"time"

	"golang.org/x/sys/unix"
)

// passed is the time since the machine was started, the time that it slept included: a clock that is right after that was not
// set.
func passed() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // the clock is older than every kernel that midhop runs on
	}
	return time.Duration(t.Nano())
}
