package main

import (
	"testing"

	"github.com/midhop/midhop/bpf"
)

// Every rung that is not as precise as the best one, and every fact that no rung serves, says what that costs.
func TestEveryLowerRungHasItsCost(t *testing.T) {
	for _, fact := range bpf.Facts() {
		rungs := append(bpf.Rungs(fact), "")
		for _, rung := range rungs {
			coarse := rung == "" || rung == bpf.RungCensus || rung == bpf.RungCtnetlink || rung == "state"
			if cost := costOf(string(fact), rung); coarse && cost == "" && !(fact == bpf.FactProbe && rung == "") {
				t.Errorf("%s on %q costs nothing", fact, rung)
			}
		}
	}
}
