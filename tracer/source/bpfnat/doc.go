// Package bpfnat is the source that reads translated TCP connections from the BPF maps of dataplanes that translate without
// the kernel's conntrack: Cilium's and Calico's. It must not write to a map, look an entry up from a program (that would
// disturb the order in which their LRU maps evict), or hold a map that its owner has replaced.
//
// Each dataplane has a decoder, which knows the layout of keys and values by version and nothing else, and a reader, which
// joins what several maps say of one connection. What a pass over the maps finds goes into a ledger, whose differences are
// the facts: nat.found in the first pass, then nat.created and nat.destroyed.
//
// Layouts, byte orders and meanings are those of the dataplanes' own sources:
//
//	Cilium 1.12 to 1.20   bpf/lib/common.h (ipv4_ct_tuple, ct_entry, lb4_reverse_nat), bpf/lib/nat.h (ipv4_nat_entry)
//	Calico 3.22 to 3.32   felix/bpf-gpl/conntrack_types.h, felix/bpf/conntrack/v2, v3, v4
package bpfnat
