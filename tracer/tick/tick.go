// Package tick gives the parts of one process the same instants to do what they do now and then. To wake a process costs more
// than most of that: timers that fire together wake it once.
package tick

import "time"

var began = time.Now()

// Next is how long it is until the next multiple of every since the process began: more than zero, at most every. It does not
// follow the wall clock when that is set.
func Next(every time.Duration) time.Duration { return every - time.Since(began)%every }
