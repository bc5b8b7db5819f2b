// Package report turns a model.Snapshot and events into words: columns, tables, incident text and one-line events whose
// parts carry a [Class] (ok, warn, bad, ...) instead of a colour. It must not know who paints or prints them, whether
// there is a terminal, or where the data came from.
//
// Everything that a cluster, a kernel or a file named passes [Clean] before it becomes part of a [Text]. Unknown is
// written as "?" and never as a number; "-" stands where nothing applies.
package report
