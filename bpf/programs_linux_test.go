package bpf

import (
	"errors"
	"strings"
	"testing"
)

// TestPrograms is the table of programs and kernels, a subtest for each program of each rung: it passes where the program loads, and is
// skipped where it does not, with "OBSTACLE: what the kernel says; RUNG serves instead". The same rows come out of every guest.
func TestPrograms(t *testing.T) {
	needRoot(t)
	report := rungsHere(t)
	trials, err := TryPrograms(Options{})
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]bool)
	for _, trial := range trials {
		name := string(trial.Fact) + "/" + trial.Rung + "/" + trial.Program
		if errors.Is(trial.Err, errOtherHook) || told[name] {
			continue // of the two variants of a rung the kernel has the other one, or neither
		}
		told[name] = true
		t.Run(name, func(t *testing.T) {
			if trial.Err == nil {
				t.Log("loads")
				return
			}
			instead := report.Fact(trial.Fact).Rung
			if instead == "" && trial.Fact == FactNAT {
				instead = RungCtnetlink
			}
			if instead == "" {
				instead = "nothing"
			}
			text, _, _ := strings.Cut(trial.Err.Error(), "\n")
			if !mayLack(trial.Err) && ObstacleOf(trial.Err) != Lacking {
				t.Fatalf("%s: %s; %s serves instead", ObstacleOf(trial.Err), text, instead)
			}
			t.Skipf("%s: %s; %s serves instead", ObstacleOf(trial.Err), text, instead)
		})
	}
}

// rungsHere says which rungs serve here.
func rungsHere(t *testing.T) Report {
	t.Helper()
	probes, report := mustLoad(t, Options{})
	if err := probes.Close(); err != nil {
		t.Fatal(err)
	}
	return report
}
