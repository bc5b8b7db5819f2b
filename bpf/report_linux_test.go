package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a policy refuses, what the verifier rejects and what is missing are told apart, in words that a verifier has no part in.
func TestReasons(t *testing.T) {
	rejected := &RejectedError{Program: "p", Line: "7: (85) call x: R1 type=untrusted_ptr_", Log: []string{"0: R1=ctx()", "7: (85) call x"}, Err: unix.EACCES}
	f := FactReport{Rung: "c", Tried: []Attempt{
		{"a", fmt.Errorf("the kernel does not permit it: %w", unix.EPERM)},
		{"b", rejected},
		{"b2", &LackingError{errors.New("before Linux 6.2 there is no such thing")}},
		{"b3", fmt.Errorf("attach: %w", fs.ErrNotExist)},
		{"b4", fmt.Errorf("attach: %w", unix.EPERM)},
		{"b5", fmt.Errorf("%w: c", ErrNotAsked)},
	}}
	got := f.Reasons()
	want := []string{"a, b4: forbidden", "b: this kernel's verifier", "b2: before Linux 6.2 there is no such thing", "b3: this kernel does not have", "b5: not tried"}
	if len(got) != len(want) {
		t.Fatalf("%d reasons: %q", len(got), got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) || strings.Contains(got[i], "R1") || strings.Contains(got[i], "; ") {
			t.Errorf("%q, want %q...", got[i], want[i])
		}
	}
	if !errors.Is(rejected, ErrUntrusted) || !errors.Is(rejected, unix.EACCES) || !slices.Equal(f.VerifierTexts(), rejected.Log) {
		t.Errorf("%v, %q", rejected, f.VerifierTexts())
	}
	for want, err := range map[Obstacle]error{
		Forbidden: f.Tried[0].Err, Rejected: rejected, Lacking: f.Tried[3].Err, NotAsked: f.Tried[5].Err,
	} {
		if got := ObstacleOf(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

// The verifier's text is asked for in full only where somebody wants it, and the line that says why is found in it.
func TestTellingLine(t *testing.T) {
	for want, log := range map[string][]string{
		"":                         nil,
		"invalid func unknown#195": {"352: (85) call unknown#195", "invalid func unknown#195", "processed 313 insns (limit 1000000)"},
		"7: (85) call bpf_skc_to_tcp_sock#137: R1 type=untrusted_ptr_": {"6: (79) r1", "7: (85) call bpf_skc_to_tcp_sock#137", "R1 type=untrusted_ptr_", "verification time 3 usec", "stack depth 0", "processed 8 insns"},
	} {
		if got := tellingLine(log); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
