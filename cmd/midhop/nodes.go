package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/tracer/source/kubenode"
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

// whichNode finds this machine among the nodes of a file: what is its own must not be taken for another node's. A name that the user
// gives stands; where it is none of theirs, the user hears which it may be.
func whichNode(nodes []event.Node, name string, given bool, log *slog.Logger) string {
	own, why := kubenode.Which(nodes, name, fleet.OwnAddresses())
	there := slices.ContainsFunc(nodes, func(n event.Node) bool { return n.Name == name })
	switch {
	case own == name:
	case given && there && own != "":
		log.Warn("--node names another node than the one that has this machine's addresses", "node", name, "remedy", "--node "+own+" ("+why+")")
	case given && there, !given && own != "":
		if !given {
			log.Info("this machine is found among the nodes", "host name", name, "node", own, "because", why)
			name = own
		}
	default:
		remedy := "--node NAME, or MIDHOP_NODE"
		if own != "" {
			remedy = "--node " + own + " (" + why + "), or MIDHOP_NODE"
		} else if near := nearest(name, namesOf(nodes)); near != "" {
			remedy = "--node " + near + ", if that is meant; or MIDHOP_NODE"
		}
		log.Warn("this machine is none of the nodes in the file, by its addresses or by this name: its own addresses may be taken for another node's", "node", name, "remedy", remedy)
	}
	return name
}

func namesOf(nodes []event.Node) []string {
	names := make([]string, len(nodes))
	for i := range nodes {
		names[i] = nodes[i].Name
	}
	return names
}
