package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
)

// checkOptions are the flags of `midhop check`.
type checkOptions struct {
	sight       sightOptions
	failOn      string
	partial     bool
	riskSockets int
	output      string
}

// What a gate fails on, from the least to the most serious; each includes those after it.
const (
	failRisk     = "risk"
	failStall    = "stall"
	failIncident = "incident"
)

func newCheck() *cobra.Command {
	var opts checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Gate for scripts: is an incident open?",
		Long: `Looks at this machine for a while, or at a recording, and says whether all is well, by its exit code too:
0 healthy, 4 not, 3 too little was seen to say so.

--fail-on incident fails on open incidents, stall on stalled sockets too, risk also on what is lost when a node goes that
may go any time: see midhop impact.`,
		Example: "  midhop check --for 30s && kubectl drain node-a\n  midhop check --fail-on risk --nodes nodes.yaml --partial",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.sight.check(cmd); err != nil {
				return err
			}
			return runCheck(cmd.Context(), opts)
		},
	}
	opts.sight.register(cmd, 30*time.Second, "look at this machine this long")
	f := cmd.Flags()
	f.StringVar(&opts.failOn, "fail-on", failIncident, "risk, stall or incident")
	f.BoolVar(&opts.partial, "partial", false, "answer for what is seen, where that is not everything")
	f.IntVar(&opts.riskSockets, "risk-sockets", 100, "connections of a service that may cross one risky node")
	f.StringVarP(&opts.output, "output", "o", "text", "text or json")
	return cmd
}

// checkJSON is the one object that `midhop check -o json` prints.
type checkJSON struct {
	Verdict   string           `json:"verdict"` // healthy, incident, stall, risk, unknown: too little was seen
	FailOn    string           `json:"fail_on"`
	Incidents []event.Incident `json:"incidents"` // open ones
	Sockets   int              `json:"sockets"`
	AtRisk    int              `json:"at_risk"`
	Stalled   int              `json:"stalled"`
	Presumed  int              `json:"presumed"`
	Hang      int              `json:"hang"`                 // of the stalled ones, those that have been for 3 s at least
	Risks     []risk           `json:"risks"`                // standing findings without a fault
	TooLittle []string         `json:"too_little,omitempty"` // why this answers for a part only
	Watched   event.Seconds    `json:"watched_s"`
	Coverage  event.Coverage   `json:"coverage"`
}

func runCheck(ctx context.Context, o checkOptions) error {
	levels := []string{failRisk, failStall, failIncident}
	switch {
	case !slices.Contains(levels, o.failOn):
		return usagef("--fail-on %q: risk, stall or incident", o.failOn)
	case o.output != "text" && o.output != "json":
		return usagef("unknown output %q: text or json", o.output)
	case o.riskSockets < 0:
		return usagef("--risk-sockets %d: at least 0", o.riskSockets)
	}
	if o.sight.file == "" {
		newProgress(os.Stderr).say("looking at this machine for %s ...", o.sight.span)
	}
	s, err := see(ctx, o.sight, nil)
	if err != nil {
		return err
	}
	out := judgeCheck(s, o)
	if o.output == "json" {
		err = writeJSON(os.Stdout, out)
	} else {
		err = out.write(os.Stdout, s)
	}
	if err := writeGate(err); err != nil {
		return err
	}
	return out.gate(s, o)
}

// gate is how the command ends. Where the gate fails on incidents only, what hangs without one was said, and does not shut it.
func (c *checkJSON) gate(s *sight, o checkOptions) error {
	stalls := c.Verdict == failStall && o.failOn == failIncident
	switch {
	case c.Verdict == "unknown", stalls && len(c.TooLittle) > 0 && !o.partial:
		return s.blindGate(c.TooLittle)
	case c.Verdict == "healthy", stalls:
		return nil
	}
	return findingsError{}
}

// Sockets that have hung for hangTime are never called healthy from hangLeast of them on, whatever the gate fails on.
const (
	hangTime  = 3 * time.Second
	hangLeast = 3
)

// judgeCheck comes to a verdict. What is found counts however little was seen; that nothing is found does not.
func judgeCheck(s *sight, o checkOptions) checkJSON {
	t := s.snap.Totals
	out := checkJSON{
		Verdict: "healthy", FailOn: o.failOn, Incidents: []event.Incident{}, Sockets: t.Sockets, AtRisk: t.AtRisk, Stalled: t.Stalled,
		Presumed: t.Presumed, Risks: risksOf(s, o.riskSockets), TooLittle: s.tooLittle(),
		Watched: event.Seconds(s.watched), Coverage: s.snap.Coverage,
	}
	for i := range s.snap.Trouble {
		if v := &s.snap.Trouble[i]; v.Status == model.StatusStalled && !v.Since.IsZero() && s.snap.Clock.Sub(v.Since) >= hangTime {
			out.Hang++
		}
	}
	for _, v := range report.IncidentOrder(s.incidents) {
		if !v.Closed.OK {
			out.Incidents = append(out.Incidents, v.Incident)
		}
	}
	switch {
	case len(out.Incidents) > 0:
		out.Verdict = failIncident
	case t.Stalled > 0 && o.failOn != failIncident, out.Hang >= hangLeast:
		out.Verdict = failStall
	case len(out.Risks) > 0 && o.failOn == failRisk:
		out.Verdict = failRisk
	case len(out.TooLittle) > 0 && !o.partial, len(s.damaged) > 0:
		out.Verdict = "unknown"
	}
	return out
}

// write tells the verdict to people.
func (c *checkJSON) write(w io.Writer, s *sight) error {
	cx := report.Context{Now: s.snap.Clock}
	var lines []report.Line
	switch c.Verdict {
	case "healthy":
		lines = append(lines, report.Words(report.OK, "healthy: no incident is open"))
	case "unknown":
		lines = append(lines, report.Words(report.Warn, "unknown: too little was seen"))
	case failStall:
		lines = append(lines, report.Words(report.Bad, fmt.Sprintf("not healthy: stall: no incident is open, and %s", plural(c.Hang, "socket")+" hang for 3 s or more"+hangThrough(s))))
	default:
		lines = append(lines, report.Words(report.Bad, "not healthy: "+c.Verdict))
	}
	for _, in := range c.Incidents {
		head := report.Case{Incident: in}
		lines = append(lines, append(report.Line{{S: "  "}}, head.Headline(cx)...))
	}
	lines = append(lines, report.Words(report.Plain, fmt.Sprintf("  %s of %s stalled, %s at risk",
		report.Count(c.Stalled), plural(c.Sockets, "socket"), report.Count(c.AtRisk))))
	if c.FailOn == failRisk || c.Verdict == failRisk {
		for _, r := range c.Risks {
			lines = append(lines, report.Words(report.Warn, "  risk: "+r.Text))
		}
	}
	seen := report.Seen(cx, s.snap)
	if !s.recorded {
		seen += fmt.Sprintf(", watched for %s", report.Spoken(s.watched))
	}
	lines = append(lines, report.Words(report.Muted, seen))
	if c.Verdict == "healthy" && len(c.TooLittle) > 0 {
		lines = append(lines, report.Words(report.Muted, "answers for a part: "+strings.Join(c.TooLittle, "; ")))
	}
	return report.WriteLines(w, lines)
}

// hangThrough says where stalled sockets lead, the most first.
func hangThrough(s *sight) string {
	var list []string
	for _, v := range s.snap.Vias {
		if v.Stalled > 0 && len(list) < 3 {
			list = append(list, fmt.Sprintf("%s (%s)", report.Clean(v.Via), report.Count(v.Stalled)))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ", by " + strings.Join(list, ", ")
}
