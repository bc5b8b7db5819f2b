// Package world is a cluster on paper: machines, pods, services, balancers, clients, TCP as the kernel speaks it and
// conntrack as it forgets, under a virtual clock, with faults. It knows the truth of each incident, and tells beside it what
// midhop's sources would have seen: agents at their rungs, inventory late or never.
//
// A [Plan] says what there is and what happens; [Run] lets it happen. The same plan gives the same facts, to the byte: all
// chance comes from the plan's seed. What a plan says can be read and written as text ([Parse], [Plan.String]), so that a
// world that shows a fault is a file.
//
// It must not know midhop's model, its judge or its sources: it is the witness against them. Constants of TCP are from
// Documentation/networking/ip-sysctl.rst, tcp(7), RFC 6298 (retransmission), RFC 8985 (tail loss probes) and the sources of
// the kernel that these describe; those of conntrack from Documentation/networking/nf_conntrack-sysctl.rst.
package world
