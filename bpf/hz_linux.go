package bpf

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// hzChoices are the values that kernel/Kconfig.hz offers.
var hzChoices = []uint32{100, 250, 300, 1000}

// clocksReading is struct clocks of clock.bpf.c.
type clocksReading struct {
	Jiffies uint64
	KTime   uint64 // ns
}

// HZ returns how many jiffies the kernel counts a second, as its build has it.
func (p *Probes) HZ() uint32 { return p.hz }

// kernelHZ works out how many jiffies make a second. The kernel does not say: it is a constant of its build, whose
// configuration is often out of reach in a container. But jiffies start at -300 s (INITIAL_JIFFIES, include/linux/jiffies.h)
// when CLOCK_MONOTONIC starts at 0, so one reading of both tells the choices apart, except around an uptime of 300 s, when
// all of them agree and two readings are compared instead.
func kernelHZ(types *btf.Cache) (uint32, error) {
	spec, err := loadClock()
	if err != nil {
		return 0, err
	}
	var objs clockObjects
	if err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{Cache: types}); err != nil {
		return 0, fmt.Errorf("load the clock probe: %w", err)
	}
	defer objs.Close()
	read := func() (c clocksReading, err error) {
		if _, err := objs.ReadClocks.Run(&ebpf.RunOptions{}); err != nil {
			return c, fmt.Errorf("run the clock probe: %w", err)
		}
		if err := objs.Clocks.Lookup(uint32(0), &c); err != nil {
			return c, fmt.Errorf("read the clocks: %w", err)
		}
		return c, nil
	}
	first, err := read()
	if err != nil {
		return 0, err
	}
	if hz, ok := hzFromBoot(first); ok {
		return hz, nil
	}
	// 250 and 300 differ by a fifth: 40 jiffies of 250 tell them apart in spite of one jiffy's error at either end.
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		second, err := read()
		if err != nil {
			return 0, err
		}
		if hz, ok := hzFromPair(first, second); ok {
			return hz, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, errors.New("cannot tell how many jiffies make a second")
}

// hzFromBoot picks the choice for which the time since boot by jiffies is the time since boot by the monotonic clock, and
// says whether one stands out.
func hzFromBoot(c clocksReading) (uint32, bool) {
	uptime := float64(c.KTime) / 1e9
	var best uint32
	bestOff, nextOff := math.Inf(1), math.Inf(1)
	for _, hz := range hzChoices {
		// INITIAL_JIFFIES is an unsigned int widened to 64 bits
		start := uint64(uint32(-300 * int32(hz)))
		off := math.Abs(float64(int64(c.Jiffies-start))/float64(hz) - uptime)
		if off < bestOff {
			best, bestOff, nextOff = hz, off, bestOff
		} else if off < nextOff {
			nextOff = off
		}
	}
	return best, bestOff < 5 && nextOff > 4*bestOff+2
}

// hzFromPair picks the choice nearest to the rate between two readings, and says whether they are far enough apart.
func hzFromPair(a, b clocksReading) (uint32, bool) {
	jiffies, span := b.Jiffies-a.Jiffies, float64(b.KTime-a.KTime)/1e9
	if jiffies < 40 || span <= 0 {
		return 0, false
	}
	rate := float64(jiffies) / span
	best := hzChoices[0]
	for _, hz := range hzChoices {
		if math.Abs(rate-float64(hz)) < math.Abs(rate-float64(best)) {
			best = hz
		}
	}
	return best, true
}
