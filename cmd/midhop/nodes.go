package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/tracer/source/nodefile"
)

// openNodes reads a nodes file, or stdin for "-", for a watch that begins now.
func openNodes(ctx context.Context, path string) (*nodefile.Source, error) {
	nodes, err := readNodes(ctx, path)
	if err != nil {
		return nil, err
	}
	return nodefile.New(nodes, time.Now()), nil
}

// readNodes reads a nodes file, or stdin for "-". It is read before anything is watched, so that a mistake in it is told
// at once; what is left out of it is told on stderr.
func readNodes(ctx context.Context, path string) ([]event.Node, error) {
	name := path
	if path == "-" {
		name = "standard input"
	}
	list, err := await(ctx, func() (nodefile.List, error) {
		from := io.Reader(os.Stdin)
		if path != "-" {
			f, err := os.Open(path)
			if err != nil {
				return nodefile.List{}, usageRemedy("the file that --nodes names: kubectl get nodes -o json > FILE", err)
			}
			defer f.Close()
			from = f
		}
		return nodefile.Read(from, name)
	})
	for _, w := range list.Warnings {
		fmt.Fprintf(os.Stderr, "midhop: nodes file %s: %s\n", report.Clean(name), report.Clean(w))
	}
	return list.Nodes, err
}
