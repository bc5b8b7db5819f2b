package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
)

// lookTimeout bounds one look: a census of a million sockets takes about a second.
const lookTimeout = 15 * time.Second

// viaOptions are the flags of `midhop via`.
type viaOptions struct {
	sight   sightOptions
	output  string
	spot    bool
	save    string
	compare string
}

func newVia() *cobra.Command {
	var opts viaOptions
	cmd := &cobra.Command{
		Use:   "via",
		Short: "Take one look: who crosses which node",
		Long: `Takes one look and says who crosses which node, of what kind that node is, and how full its conntrack table is.

--save keeps the look in a file; --compare shows what has changed since: the share that crosses other nodes, the entries of
each node's conntrack table, and where connections come from that cross none. So a migration, such as to container-native
load balancing, has a before and an after.`,
		Example: "  midhop via --save before.json\n  midhop via --compare before.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output != outTable && opts.output != "json" {
				return usagef("unknown output %q: table or json", opts.output)
			}
			if err := opts.sight.check(cmd); err != nil {
				return err
			}
			return runVia(cmd.Context(), opts)
		},
	}
	opts.sight.register(cmd, 0, "")
	f := cmd.Flags()
	f.StringVarP(&opts.output, "output", "o", outTable, "table or json")
	f.BoolVar(&opts.spot, "spot", false, "only nodes that may be taken at any time: spot and preemptible ones")
	f.StringVar(&opts.save, "save", "", "keep the look in this `file`, for --compare; it is replaced where it exists")
	f.StringVar(&opts.compare, "compare", "", "show what has changed since the look in this `file`")
	return cmd
}

// runVia looks once and prints what it saw.
func runVia(ctx context.Context, o viaOptions) error {
	if o.compare != "" && o.spot {
		return usagef("--compare and --spot contradict each other: what has changed is of all nodes")
	}
	var before *report.ViaJSON
	if o.compare != "" { // before a look is taken for nothing
		var err error
		if before, err = await(ctx, func() (*report.ViaJSON, error) { return readLook(o.compare) }); err != nil {
			return err
		}
	}
	var sample []model.SocketView
	// One look needs no events: without the right to load probes there is still what every process may see.
	o.sight.local.blindOK = func(err error) {
		var b blindError
		if errors.As(err, &b) {
			b.effect = "this look is sock_diag's: the sockets of this network namespace only, without owners and deadlines"
			err = b
		}
		explain(os.Stderr, "midhop: ", err)
	}
	seen, err := see(ctx, o.sight, func(ctx context.Context, engine *tracer.Engine, s *sight) error {
		sample = sampleOf(ctx, engine, s.snap)
		return nil
	})
	if err != nil {
		return err
	}
	if len(seen.waiting) > 0 {
		return fmt.Errorf("the first look took longer than %s", lookTimeout)
	}
	s := seen.snap
	now := report.NewViaJSON(s)
	if o.save != "" {
		if err := saveLook(o.save, now); err != nil {
			return err
		}
	}
	cx := report.Context{Now: s.Clock, Zone: time.Local}
	switch {
	case before != nil && o.output == "json":
		return writeJSON(os.Stdout, report.CompareVias(before, &now))
	case before != nil:
		return report.CompareVias(before, &now).Table(cx).Write(os.Stdout, terminalWidth(os.Stdout))
	}
	if o.spot {
		s = spotOnly(s)
		now = report.NewViaJSON(s)
	}
	if o.output == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(now)
	}
	return report.Vias(s, report.ViaOptions{Context: cx, Sample: sample}).Write(os.Stdout, terminalWidth(os.Stdout))
}

// spotOnly keeps the rows of nodes that may be taken at any time; shares stay those of all sockets.
func spotOnly(s *model.Snapshot) *model.Snapshot {
	some := *s
	some.Vias = slices.DeleteFunc(slices.Clone(s.Vias), func(r model.ViaRow) bool { return r.Kind != model.KindNode || r.Node.Spot == "" })
	return &some
}

// readLook reads what --save wrote.
func readLook(path string) (*report.ViaJSON, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError{err}
	}
	defer f.Close()
	look, err := report.ReadViaJSON(f)
	if err != nil {
		return nil, usagef("--compare %s: %w", path, err)
	}
	return look, nil
}

// saveLook writes a look, whole or not at all.
func saveLook(path string, look report.ViaJSON) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	err = errors.Join(f.Chmod(0o644), writeJSON(f, look), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

// viaTable is the table of vias with sockets of the heaviest one, whose clocks the sentence below it tells.
func viaTable(engine *tracer.Engine, s *model.Snapshot, cx report.Context) report.Table {
	return report.Vias(s, report.ViaOptions{Context: cx, Sample: sampleOf(context.Background(), engine, s)})
}

func sampleOf(ctx context.Context, engine *tracer.Engine, s *model.Snapshot) []model.SocketView {
	row := report.Heaviest(s)
	if row == nil {
		return nil
	}
	page, err := engine.Page(ctx, model.PageQuery{Via: row.Via})
	if err != nil {
		return nil
	}
	return page.Rows
}
