// Package event is midhop's vocabulary: every fact that a source can report and every finding that the fold can
// conclude, as plain values. It must not know where facts come from, how they are folded, or who reads them.
//
// A fact is something that a source saw (a retransmission, a NAT entry, a node's address). A finding is something that
// the fold concluded from facts (a stall, an incident). Facts are folded; findings are computed and never folded. Every
// [Type] is one or the other ([Type.IsFact]); lab.fault is neither and never reaches the Engine.
//
// Conventions that hold for every body: absent means unknown and zero means zero ([Opt] tells them apart), durations are
// [Seconds] and their JSON names end in _s, sizes are bytes and end in _bytes, times are UTC, addresses are unmapped
// netip.Addr values and stand apart from ports. Ages count backwards from the event's own time.
package event
