// Package jsonl is the sink that writes the stream as NDJSON, one event a line. It must not know what events mean, nor
// whether a pipe, a file or a terminal stands behind its io.Writer.
package jsonl
