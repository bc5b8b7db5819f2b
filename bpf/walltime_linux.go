package bpf

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clockSet is how long a measured difference between the clocks is trusted. Setting the time of day moves it.
const clockSet = time.Second

// WallClock turns the probes' time (CLOCK_MONOTONIC, ns) into the time of day. The zero value is ready; it may be used
// from several goroutines.
type WallClock struct {
	mu       sync.Mutex
	offset   int64 // CLOCK_REALTIME - CLOCK_MONOTONIC, ns
	measured uint64
}

// Now returns the probes' time of this moment.
func (c *WallClock) Now() (uint64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
	}
	return uint64(t.Nano()), nil
}

// Time returns the time of day at which the probes' clock showed ktime, in UTC.
func (c *WallClock) Time(ktime uint64) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := c.Now()
	if err != nil {
		return time.Time{}, err
	}
	if c.measured == 0 || now-c.measured > uint64(clockSet) {
		var wall unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &wall); err != nil {
			return time.Time{}, fmt.Errorf("read CLOCK_REALTIME: %w", err)
		}
		c.offset, c.measured = wall.Nano()-int64(now), now
	}
	return time.Unix(0, int64(ktime)+c.offset).UTC(), nil
}
