package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Fact names one kind of thing that the kernel can be asked for.
type Fact string

// The facts, each served by a ladder of rungs.
const (
	FactRetransmit Fact = "retransmit" // segments sent again
	FactError      Fact = "error"      // errors reported to applications
	FactReset      Fact = "reset"      // resets received
	FactState      Fact = "state"      // the end of sockets in trouble
	FactProbe      Fact = "probe"      // unanswered keepalive and window probes
	FactSockets    Fact = "sockets"    // the census
	FactNAT        Fact = "nat"        // translated connections, as they come and go
	FactRecovery   Fact = "recovery"   // how sockets in trouble get on, with those that no process holds any more
	FactResetSent  Fact = "reset_sent" // resets for segments of connections that this machine does not know
)

// Attempt is a rung that did not serve.
type Attempt struct {
	Rung string
	Err  error
}

// Obstacle is the kind of thing that keeps a program from running.
type Obstacle string

// The obstacles.
const (
	Forbidden Obstacle = "forbidden" // EPERM: the kernel would run it, and does not permit it here
	Rejected  Obstacle = "rejected"  // the verifier cannot prove that it is safe; its text says where
	Lacking   Obstacle = "lacking"   // this kernel does not have the place or the function
	NotAsked  Obstacle = "not asked" // another rung was asked for by name
)

// LackingError says what this kernel does not have, in this package's own words.
type LackingError struct{ Err error }

// Error implements error.
func (e *LackingError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *LackingError) Unwrap() error { return e.Err }

// ErrNotAsked says that a rung was not tried because another one was asked for.
var ErrNotAsked = errors.New("not tried, as another rung was asked for")

// ErrUntrusted is wrapped by what the verifier rejects because it does not trust a pointer: no fault of the program, which it takes
// where it does.
var ErrUntrusted = errors.New("the verifier does not trust a pointer")

// ObstacleOf says what kind of thing an error of a program that did not load or attach tells of.
func ObstacleOf(err error) Obstacle {
	var rejected *RejectedError
	switch {
	case errors.Is(err, ErrNotAsked):
		return NotAsked
	case errors.As(err, &rejected):
		return Rejected
	case errors.Is(err, os.ErrPermission): // EPERM, and EACCES of what is no program
		return Forbidden
	}
	return Lacking
}

// RejectedError says that the verifier did not accept a program.
type RejectedError struct {
	Program string
	Line    string   // of the verifier's text the one that says why; empty where it was not asked for
	Log     []string // all of it
	Err     error
}

// Error implements error.
func (e *RejectedError) Error() string {
	if e.Line == "" {
		return fmt.Sprintf("the verifier rejects program %s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("the verifier rejects program %s: %v: %s", e.Program, e.Err, e.Line)
}

// Unwrap returns the kernel's own answer, and [ErrUntrusted] where that is why.
func (e *RejectedError) Unwrap() []error {
	if strings.Contains(e.Line, "untrusted_ptr") {
		return []error{e.Err, ErrUntrusted}
	}
	return []error{e.Err}
}

// FactReport says which rung serves a fact.
type FactReport struct {
	Fact    Fact
	Rung    string // such as tp_btf; empty: the fact is not available from this package
	Precise bool   // nothing is missed and times are exact
	Tried   []Attempt

	// What a self-test has found; see [Probes.SelfTest].
	Fired    bool   // the rung was seen to fire
	Unproven string // why it was not, in words; empty where there was no self-test

	hooks []uint32 // of the rung: indexes of the map hook_ran
}

// Why says in words why no better rung serves; empty where the best one does.
func (f FactReport) Why() string {
	var b strings.Builder
	for i, a := range f.Tried {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", a.Rung, a.Err)
	}
	return b.String()
}

// Reasons says the same in plain words, a sentence without a full stop for the rungs that one thing stands in the way of: what a
// policy forbids is told from what the verifier rejects and from what is lacking, and their own texts are left to [FactReport.Why].
func (f FactReport) Reasons() []string {
	var out []string
	rungs := make(map[string]string) // reason to rungs
	for _, a := range f.Tried {
		reason := inWords(a.Err)
		if rungs[reason] == "" {
			out = append(out, reason)
			rungs[reason] = a.Rung
		} else {
			rungs[reason] += ", " + a.Rung
		}
	}
	for i, reason := range out {
		out[i] = rungs[reason] + ": " + reason
	}
	return out
}

func inWords(err error) string {
	var lacks *LackingError
	switch ObstacleOf(err) {
	case NotAsked:
		return "not tried, as another one was asked for by name"
	case Forbidden:
		return "forbidden here (EPERM), by a policy of this kernel or for want of a capability"
	case Rejected:
		return "this kernel's verifier does not take the program (EACCES), as it is stricter or older than the program needs"
	}
	if errors.As(err, &lacks) {
		return lacks.Error()
	}
	return "this kernel does not have the place or the function that it needs (ENOENT)"
}

// VerifierTexts returns what the verifier itself says of the programs that it rejected, whole, where [Options.VerifierText] asked for it.
func (f FactReport) VerifierTexts() []string {
	var out []string
	for _, a := range f.Tried {
		var r *RejectedError
		if errors.As(a.Err, &r) {
			out = append(out, r.Log...)
		}
	}
	return out
}

// Report has one entry per fact, in the order of the constants.
type Report []FactReport

// Fact returns the entry of a fact; the zero entry (no rung) where there is none.
func (r Report) Fact(name Fact) FactReport {
	for _, f := range r {
		if f.Fact == name {
			return f
		}
	}
	return FactReport{Fact: name}
}

// PrivilegeError says that this process may not load probes. Its text is one line; the fields are what a user is shown.
type PrivilegeError struct {
	Cause  string // what is missing
	Effect string // what does not work without it
	Remedy string // what to do
	Err    error  // the kernel's own answer, nil where it was not asked
}

// Error implements error.
func (e *PrivilegeError) Error() string { return e.Cause + "; " + e.Remedy }

// Unwrap returns the kernel's own answer.
func (e *PrivilegeError) Unwrap() error { return e.Err }

// KernelError says that this kernel cannot run the probes, whatever the rights.
type KernelError struct {
	Cause  string
	Effect string
	Remedy string
	Err    error
}

// Error implements error.
func (e *KernelError) Error() string { return e.Cause + "; " + e.Remedy }

// Unwrap returns the kernel's own answer.
func (e *KernelError) Unwrap() error { return e.Err }
