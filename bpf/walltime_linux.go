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

// clocksPair is one reading of the time of day, between two of the probes' clock.
type clocksPair struct {
	before uint64
	wall   int64
	after  uint64
}

func (c *WallClock) pair() (p clocksPair, err error) {
	if p.before, err = c.Now(); err != nil {
		return p, err
	}
	var wall unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &wall); err != nil {
		return p, fmt.Errorf("read CLOCK_REALTIME: %w", err)
	}
	p.wall = wall.Nano()
	p.after, err = c.Now()
	return p, err
}

// Between two readings a busy machine may let a thread wait for long: a difference measured then would date all records of the
// next second wrongly. So it is measured again until all of a pair was read within clockGap, clockTries times at most.
const (
	clockGap   = 20 * time.Microsecond
	clockTries = 10
)

// closest reads pairs and returns the one that took the least time.
func closest(read func() (clocksPair, error)) (best clocksPair, err error) {
	for try := range clockTries {
		p, err := read()
		if err != nil {
			return p, err
		}
		if try == 0 || p.after-p.before < best.after-best.before {
			best = p
		}
		if best.after-best.before <= uint64(clockGap) {
			break
		}
	}
	return best, nil
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
		p, err := closest(c.pair)
		if err != nil {
			return time.Time{}, err
		}
		c.offset, c.measured = p.wall-int64(p.before+(p.after-p.before)/2), p.after
	}
	return time.Unix(0, int64(ktime)+c.offset).UTC(), nil
}
