// Package trial puts worlds before the Engine and holds what it finds against the truth: which invariants were broken, how
// soon the right one was named, and what the smallest world is that still shows a failure. It must not know how the judge
// comes to its findings.
package trial
