package main

import (
	"io"
	"os"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/nodefile"
)

// openNodes reads a nodes file, or stdin for "-", for a watch that begins now.
func openNodes(path string) (*nodefile.Source, error) {
	nodes, err := readNodes(path)
	if err != nil {
		return nil, err
	}
	return nodefile.New(nodes, time.Now()), nil
}

// readNodes reads a nodes file, or stdin for "-". It is read before anything is watched, so that a mistake in it is told
// at once.
func readNodes(path string) ([]event.Node, error) {
	from, name := io.Reader(os.Stdin), "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usageError{err}
		}
		defer f.Close()
		from, name = f, path
	}
	nodes, err := nodefile.Read(from, name)
	if err != nil {
		return nil, usageError{err}
	}
	return nodes, nil
}
