package bpfnat

import "time"

// moment is one reading of the clocks that dataplanes write: they count from the machine's boot.
type moment struct {
	wall    time.Time
	mono    time.Duration // CLOCK_MONOTONIC: bpf_ktime_get_ns
	jiffies uint64        // jiffies_64, 0 where it cannot be read
	hz      uint64        // of it, per second
}

// at turns a time since boot into the time of day.
func (m *moment) at(mono time.Duration) time.Time { return m.wall.Add(mono - m.mono) }

// ciliumClock is the clock by which an agent counts: jiffies / 256 where it was started with enable-bpf-clock-probe (what the
// chart writes), else seconds (bpf_mono_now, bpf/lib/time.h; the flag is the agent's and cannot be read).
type ciliumClock struct {
	now  uint64 // of the same clock
	unit time.Duration
	m    moment
}

// near is how far from now the newest packet of a map may be for a clock to be believed: an idle node's map tells nothing
// newer than its last packet.
const nearest = 15 * time.Minute

// ciliumClockOf decides by what a map tells: newest is the largest time of a packet in it. It says no where neither clock is
// near, or both are.
func ciliumClockOf(newest uint32, m moment) (ciliumClock, bool) {
	seconds := ciliumClock{now: uint64(m.mono / time.Second), unit: time.Second, m: m}
	if m.jiffies == 0 || m.hz == 0 {
		return seconds, seconds.plausible(newest)
	}
	jiffies := ciliumClock{now: m.jiffies >> 8, unit: 256 * time.Second / time.Duration(m.hz), m: m}
	bySeconds, byJiffies := seconds.plausible(newest), jiffies.plausible(newest)
	if byJiffies {
		return jiffies, !bySeconds
	}
	return seconds, bySeconds
}

// plausible reports whether a packet's time lies in the near past of this clock; one unit ahead is a packet since the
// reading of the clocks.
func (c *ciliumClock) plausible(newest uint32) bool {
	behind := int32(uint32(c.now) - newest)
	return behind >= -2 && time.Duration(behind)*c.unit <= nearest
}

// at turns a value of the clock into the time of day. Values are cut to 32 bits in some fields, so only their distance counts.
func (c *ciliumClock) at(v uint32) time.Time {
	return c.m.wall.Add(time.Duration(int32(v-uint32(c.now))) * c.unit)
}
