package main

import "time"

// soak are the good days: clients that come, go and vanish, drains, and nodes that restart one after another, all for so
// long. Nothing may be found.
func soak(long time.Duration) []row {
	var out []row
	for _, scenario := range []string{"healthy", "mobile-clients", "rolling", "drain"} {
		out = append(out, row{scenario: scenario, runs: 1, args: []string{"--whole", "--duration", long.String()}})
	}
	return out
}
