// Package kernel turns the probes' records into facts: retransmissions, unanswered probes, resets, errors, ends of
// connections, and translations as they come and go. It must not know what a node or a pod is, nor what a fact means.
package kernel
