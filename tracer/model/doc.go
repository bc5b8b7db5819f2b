// Package model is the fold: it turns facts, one after another, into what is known of sockets, of the hops that they
// cross, of NAT entries, nodes, pods and services. It must not know where facts come from, what blames whom, or the time
// of day: its only clock is the time that facts carry.
package model
