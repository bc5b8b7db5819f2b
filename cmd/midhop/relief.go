package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/relief"
	"github.com/midhop/midhop/tracer/report"
)

// reliefOptions are the flags of `midhop relief`.
type reliefOptions struct {
	sight  sightOptions
	via    string
	rate   float64
	yes    bool
	output string
}

// defaultRate is gentle: whoever is disconnected reconnects at once, and thousands who do so together are an incident of
// their own.
const defaultRate = 50

func newRelief() *cobra.Command {
	var opts reliefOptions
	cmd := &cobra.Command{
		Use:   "relief",
		Short: "Close sockets that are proven dead behind a culprit, on this machine",
		Long: `Looks at this machine, shows which sockets are dead behind an open incident's culprit, and closes them, so that
their applications get an error now and reconnect, instead of waiting for a clock of up to 15 minutes.

Without --yes it closes nothing: on a terminal it asks, elsewhere it only shows the plan. A socket is closed if it is
stalled, or idle behind a node that is proven gone; one that has received anything since is left alone. It acts on this
machine only, by exact connection, and enters the network namespaces of the pods to do so (root).`,
		Example: "  midhop relief --via node-a\n  midhop relief --via node-a --yes --rate 20",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case opts.output != outTable && opts.output != outJSONL:
				return usagef("unknown output %q: table or jsonl", opts.output)
			case !(opts.rate > 0 && opts.rate <= 10_000):
				return usagef("--rate %g: from above 0 to 10000 sockets a second", opts.rate)
			}
			if err := opts.sight.check(cmd); err != nil {
				return err
			}
			return runRelief(cmd.Context(), opts)
		},
	}
	opts.sight.local.register(cmd)
	f := cmd.Flags()
	f.DurationVar(&opts.sight.span, "for", 3*time.Second, "look at this machine this long before planning")
	f.StringVar(&opts.via, "via", "", "only behind this `node` or address (default: every open incident's culprit)")
	f.Float64Var(&opts.rate, "rate", defaultRate, "sockets closed a second, at most")
	f.BoolVar(&opts.yes, "yes", false, "close them without asking")
	f.StringVarP(&opts.output, "output", "o", outTable, "table, or jsonl: a tcp.closed fact for each")
	return cmd
}

func runRelief(ctx context.Context, o reliefOptions) error {
	if o.sight.local.hub.url != "" {
		return usagef("--hub: relief closes sockets of this machine, and looks at it itself")
	}
	if err := reliefRights(); err != nil {
		return err
	}
	newProgress(os.Stderr).say("looking at this machine for %s ...", o.sight.span)
	var plans []relief.Plan
	s, err := see(ctx, o.sight, func(ctx context.Context, e *tracer.Engine, s *sight) (err error) {
		plans, err = plansOf(ctx, e, s, o.via)
		return err
	})
	if err != nil {
		return err
	}
	people := io.Writer(os.Stdout)
	if o.output == outJSONL {
		people = os.Stderr
	}
	if err := writePlans(people, s, plans, o); err != nil {
		return err
	}
	total := 0
	for i := range plans {
		total += plans[i].Sockets()
	}
	switch {
	case total == 0:
		return nil
	case !o.yes && !isTerminal(os.Stdin):
		_, err := fmt.Fprintln(people, "nothing was closed: this is the plan; --yes carries it out")
		return err
	case !o.yes && !confirmed(os.Stdin, os.Stderr, total):
		_, err := fmt.Fprintln(people, "nothing was closed")
		return err
	}
	return carryOut(ctx, o, s, plans, people)
}

// plansOf plans the relief of every open incident that relief covers.
func plansOf(ctx context.Context, e *tracer.Engine, s *sight, via string) ([]relief.Plan, error) {
	var plans []relief.Plan
	for _, v := range report.IncidentOrder(s.incidents) {
		name := v.Culprit.Name
		if !relief.Covers(&v.Incident) || via != "" && via != name && via != v.Culprit.IP.String() {
			continue
		}
		var sockets []model.SocketView
		for {
			page, err := e.Page(ctx, model.PageQuery{Via: name, Offset: len(sockets)})
			if err != nil {
				return nil, err
			}
			sockets = append(sockets, page.Rows...)
			if len(page.Rows) == 0 || len(sockets) >= page.Total {
				break
			}
		}
		plans = append(plans, relief.Make(v.Incident, name, sockets))
	}
	return plans, nil
}

// writePlans shows what would be done, and why the rest is left alone.
func writePlans(w io.Writer, s *sight, plans []relief.Plan, o reliefOptions) error {
	cx := report.Context{Now: s.snap.Clock}
	var lines []report.Line
	if len(plans) == 0 {
		what := "no open incident leaves dead sockets on this machine"
		if o.via != "" {
			what = "no open incident names " + o.via + " as gone, as seen from this machine"
		}
		lines = append(lines, report.Words(report.OK, "nothing to relieve: "+what), report.Words(report.Muted, report.Seen(cx, s.snap)))
		return report.WriteLines(w, lines)
	}
	for i := range plans {
		p := &plans[i]
		lines = append(lines, report.Words(report.Strong, fmt.Sprintf("%s: close %s, %s a second at most",
			p.Incident.Title, plural(p.Sockets(), "socket"), strings.TrimSuffix(fmt.Sprintf("%.1f", o.rate), ".0"))))
		for _, sp := range p.Spaces {
			lines = append(lines, report.Words(report.Plain, "  "+describeSpace(cx, &sp)))
		}
		if p.LeftAlone > 0 {
			why := "not shown to be dead"
			if p.Incident.Culprit.Sure != event.Proved {
				why = p.Via + " is inferred to be gone, not proved, so idle ones wait for their own keepalive"
			}
			lines = append(lines, report.Words(report.Muted, fmt.Sprintf("  left alone: %s (%s)", plural(p.LeftAlone, "socket"), why)))
		}
		if p.Unreachable > 0 {
			lines = append(lines, report.Words(report.Warn, fmt.Sprintf("  cannot be named beyond doubt: %s without owner or cookie", plural(p.Unreachable, "socket"))))
		}
		lines = append(lines,
			report.Words(report.Muted, "  effect: blocked reads and writes fail at once (ECONNABORTED), and the applications may reconnect"),
			report.Words(report.Muted, "  elsewhere: on other nodes with sockets through "+p.Via+" run: midhop relief --via "+p.Via))
	}
	return report.WriteLines(w, lines)
}

// describeSpace says whose sockets a namespace's are and when they would have given up.
func describeSpace(cx report.Context, sp *relief.Space) string {
	v := &sp.Views[0]
	owner := fmt.Sprintf("%s (pid %d)", report.Clean(v.Socket.Owner.Comm), v.Socket.Owner.PID)
	if v.Socket.K8s.Pod != "" {
		owner = report.Clean(v.Socket.K8s.Namespace+"/"+v.Socket.K8s.Pod) + ", " + owner
	}
	var first, last time.Time
	never := 0
	for i := range sp.Views {
		d := sp.Views[i].Deadline
		switch {
		case d.IsZero():
			never++
			continue
		case first.IsZero() || d.Before(first):
			first = d
		}
		if d.After(last) {
			last = d
		}
	}
	out := fmt.Sprintf("%s of %s in network namespace %d", plural(len(sp.Targets), "socket"), owner, sp.Netns)
	if !first.IsZero() {
		out += fmt.Sprintf(": would give up from %s to %s", cx.Time(first), cx.Time(last))
	}
	if never > 0 {
		out += fmt.Sprintf("; %d never", never)
	}
	return out
}

// confirmed asks on a terminal.
func confirmed(in io.Reader, out io.Writer, n int) bool {
	fmt.Fprintf(out, "close %s? [y/N] ", plural(n, "socket"))
	answer, _ := bufio.NewReader(in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true
	}
	return false
}

// tellClosed writes a fact about each closed socket, where that is asked for.
func tellClosed(o reliefOptions, source string) (tell func(*model.SocketView, time.Time) error, end func() error) {
	if o.output != outJSONL {
		return func(*model.SocketView, time.Time) error { return nil }, func() error { return nil }
	}
	lines := jsonl.New(os.Stdout, jsonl.Options{})
	return func(v *model.SocketView, at time.Time) error {
		return lines.Write([]event.Event{relief.Fact(source, at, v.Socket, v.TCP)})
	}, lines.Close
}
