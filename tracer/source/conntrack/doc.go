// Package conntrack is the source that reads translated TCP connections from the connection tracking table of the
// namespace in which midhop was started, through ctnetlink. It must not enter another namespace, change a setting or an
// entry, nor know which connections matter.
//
// A dump at the start gives nat.found, events give nat.created and nat.destroyed, and further dumps find what events do
// not tell: an entry that is older than the listener never announces its end (nf_conntrack_events is 2 by default, so
// entries get their event extension only while somebody listens). An entry that is not translated never leaves the
// kernel, where a socket filter drops its events, or the parser, which skips it in dumps.
package conntrack
