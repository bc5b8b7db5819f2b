package model

import "time"

// cadence learns from the census' looks how long the silences of a living peer are. A silence is known to have been one
// only when something was received after it.
type cadence struct {
	pass   uint64
	at     int64 // of the look under way
	newest int64 // newest receive that it told
	before int64 // the same of the look before
	silent int64 // how long the peer had been silent at that look
	usual  int64 // longest silence lately, fading by a 64th with every look
}

// grain is what two readings of one receive may differ by: the kernel stamps it in jiffies, of which a slow kernel has 100
// a second, and the age is cut to one as well.
const grain = int64(20 * time.Millisecond)

func (c *cadence) see(pass uint64, at, received int64) {
	if pass != c.pass {
		silent := c.at - c.newest
		if c.newest > c.before+grain && c.before != 0 {
			c.usual = max(silent, c.silent, c.usual-c.usual/64)
		}
		c.before, c.silent = c.newest, silent
		c.pass, c.at, c.newest = pass, at, 0
	}
	c.newest = max(c.newest, received)
}
