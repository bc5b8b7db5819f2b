package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/midhop/midhop/tracer/tick"
)

// The collector's pace. Go's own is to run when as much has been allocated as lives, which takes rows without pointers twice
// although the collector need not look into them. Here it runs when as much has been allocated as it has to look through,
// at least leastGarbage bytes, and twice as much after every second in which it ran more than mostCycles times: a storm of
// events shall not be slowed down for memory's sake.
const (
	leastGarbage = 6 << 20
	mostCycles   = 8
	paceEvery    = time.Second
	leastPercent = 3
)

// Memory that is free is given back at once where it is more than idleMemory and a little of the heap, at most every
// returnEvery: Go's own way takes minutes after a first look at a million sockets. While the collector has no reason to run,
// what it would find counts too: a process at rest allocates so little that it might find it two minutes later.
const (
	idleMemory  = 6 << 20
	returnEvery = 30 * time.Second
)

// pace is what decides about the collector.
type pace struct {
	garbage uint64 // bytes that may be allocated between two cycles
	cycles  uint64 // of the collector so far
	percent int    // as set
	given   time.Time
}

// reading is what the runtime says of its memory.
type reading struct {
	live    uint64 // bytes that the last cycle found alive
	scanned uint64 // of them, those that it has to look through
	used    uint64 // bytes alive or not found dead yet
	free    uint64 // bytes that nothing uses
	cycles  uint64 // so far
}

// step returns the percentage to set, 0 to leave it, and whether to give free memory back.
func (p *pace) step(r reading, now time.Time) (percent int, giveBack bool) {
	ran := r.cycles - p.cycles
	switch {
	case ran > mostCycles:
		p.garbage *= 2
	case ran <= 1:
		p.garbage /= 2
	}
	p.cycles = r.cycles
	p.garbage = max(p.garbage, leastGarbage, r.scanned)
	p.garbage = min(p.garbage, max(r.live, leastGarbage))
	next := 100
	if r.live > 0 {
		next = int(min(100, max(leastPercent, 100*p.garbage/r.live)))
	}
	if next < p.percent*4/5 || next >= p.percent*5/4 && next != p.percent { // each change stops the world for a moment
		p.percent, percent = next, next
	}
	idle := r.free
	if ran == 0 && r.used > r.live {
		idle += r.used - r.live
	}
	if idle > idleMemory+r.live/64 && now.Sub(p.given) >= returnEvery {
		p.given, giveBack = now, true
	}
	return percent, giveBack
}

// paceCollector keeps the collector's pace until ctx ends.
func paceCollector(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/heap/objects:bytes"}}
	p := pace{percent: 100, given: time.Now().Add(-returnEvery / 2)} // not in the middle of the start
	timer := time.NewTimer(tick.Next(paceEvery))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-timer.C:
			timer.Reset(tick.Next(paceEvery))
			metrics.Read(sample)
			percent, giveBack := p.step(reading{
				live: sample[0].Value.Uint64(), scanned: sample[1].Value.Uint64(), free: sample[2].Value.Uint64(), cycles: sample[3].Value.Uint64(), used: sample[4].Value.Uint64(),
			}, now)
			if percent != 0 {
				debug.SetGCPercent(percent)
			}
			if giveBack {
				debug.FreeOSMemory()
			}
		}
	}
}
