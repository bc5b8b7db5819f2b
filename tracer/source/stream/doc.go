// Package stream is the source that reads NDJSON which midhop wrote: a recording, a pipe from an agent, standard input.
// It must not know what events mean beyond fact, finding or neither, nor who reads them.
//
// Facts are handed on as they arrive, one batch for what one read brought. Findings and lab.* lines are left out, since
// the fold computes the former again and must not see the latter; [Options].Others receives them. Lines that cannot be
// read are told with their number, counted, and left out; the rest is used. Input compressed with zstd is recognised by
// its first bytes.
package stream
