// Package prom is midhop as Prometheus metrics: counters of what passes by in the stream, and gauges read from a Snapshot
// at scrape. It must not know how the text is served, and it never tells an address, a port or a client: every label has a
// closed set of values, all of them initialised, or the names of nodes, which are bounded and counted.
package prom
