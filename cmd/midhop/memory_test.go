package main

import (
	"testing"
	"time"
)

// A small heap and one full of pointers are left to Go's own pace; one of rows without pointers grows by what the collector
// has to look through, and by more while events storm.
func TestPaceOfTheCollector(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live, scanned uint64
		want          int
	}{
		{0, 0, 100}, {6 * mb, 5 * mb, 100}, {300 * mb, 290 * mb, 96}, {160 * mb, 4 * mb, 3}, {4000 * mb, 4 * mb, leastPercent},
	} {
		p := pace{}
		if got, _ := p.step(reading{live: c.live, scanned: c.scanned}, time.Now()); got != c.want {
			t.Errorf("%d MB alive, %d with pointers: %d %%, want %d", c.live/mb, c.scanned/mb, got, c.want)
		}
	}
	p, now := pace{}, time.Now()
	r := reading{live: 160 * mb, scanned: 4 * mb}
	p.step(r, now)
	for range 10 {
		r.cycles += 2 * mostCycles
		p.step(r, now)
	}
	if p.percent != 100 {
		t.Errorf("in a storm the pace is %d %%, want Go's own", p.percent)
	}
	for range 10 {
		p.step(r, now)
	}
	if p.percent > 7 {
		t.Errorf("after the storm the pace is %d %%", p.percent)
	}
}

// Memory that a first look left free is given back, once, and not what a heap of that size needs to breathe.
func TestFreeMemoryIsGivenBack(t *testing.T) {
	const mb = 1 << 20
	p, now := pace{}, time.Now()
	for i, c := range []struct {
		free uint64
		at   time.Duration
		want bool
	}{{8 * mb, 0, false}, {80 * mb, 0, true}, {80 * mb, time.Second, false}, {80 * mb, returnEvery, true}} {
		if _, got := p.step(reading{live: 160 * mb, free: c.free}, now.Add(c.at)); got != c.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
	// Garbage is given back where the collector rests, and is its own business where it runs.
	p = pace{}
	for i, c := range []struct {
		used, cycles uint64
		want         bool
	}{{80 * mb, 4, false}, {80 * mb, 4, true}, {80 * mb, 4, false}} {
		if _, got := p.step(reading{live: 30 * mb, used: c.used, cycles: c.cycles}, now); got != c.want {
			t.Errorf("garbage, step %d: %t", i, got)
		}
	}
}
