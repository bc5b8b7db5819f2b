package main

import (
	"bytes"
	"context"
	"encoding/json"
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

// incidentsOptions are the flags of `midhop incidents`.
type incidentsOptions struct {
	sight  sightOptions
	id     string
	since  time.Duration
	output string
}

func newIncidents() *cobra.Command {
	var opts incidentsOptions
	cmd := &cobra.Command{
		Use:   "incidents [ID]",
		Short: "List incidents, or tell one in full, to paste into a chat or a post-mortem",
		Long: `Looks at this machine for a moment, or at a recording, and lists the incidents that are open and those that were
closed. With an ID, or an end of one that no other has, it tells that incident in full.

Of this machine only what stands now is known, not what has ended before; a hub, asked with --hub, has kept both.`,
		Example: "  midhop incidents\n  midhop incidents --file incident.jsonl.zst\n  midhop incidents 4711 --file incident.jsonl.zst -o md",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("one incident at a time: %q is too many", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.sight.check(cmd); err != nil {
				return err
			}
			if len(args) == 1 {
				opts.id = args[0]
			}
			return runIncidents(cmd.Context(), opts)
		},
	}
	opts.sight.register(cmd, 5*time.Second, "look at this machine this long: a stall shows within seconds")
	f := cmd.Flags()
	f.DurationVar(&opts.since, "since", 24*time.Hour, "leave out what was closed longer ago")
	f.StringVarP(&opts.output, "output", "o", "text", "text, json or md")
	return cmd
}

func runIncidents(ctx context.Context, o incidentsOptions) error {
	if !slices.Contains([]string{"text", "json", "md"}, o.output) {
		return usagef("unknown output %q: text, json or md", o.output)
	}
	if o.since <= 0 {
		return usagef("--since %s: a time above 0", o.since)
	}
	if o.sight.local.hub.url != "" && o.sight.file == "" {
		s, err := hubIncidents(ctx, o)
		if err != nil {
			return err
		}
		return tellIncidents(o, s)
	}
	if o.sight.file == "" {
		newProgress(os.Stderr).say("looking at this machine for %s ...", o.sight.span)
	}
	s, err := see(ctx, o.sight, nil)
	if err != nil {
		return err
	}
	return tellIncidents(o, s)
}

// tellIncidents prints what was asked for.
func tellIncidents(o incidentsOptions, s *sight) error {
	oldest := s.snap.Clock.Add(-o.since)
	s.incidents = slices.DeleteFunc(s.incidents, func(v model.IncidentView) bool { return v.Closed.OK && v.Closed.V.Before(oldest) })
	cx := report.Context{Now: s.snap.Clock}
	if !s.recorded {
		cx.Zone = time.Local
	}
	if o.id == "" {
		return listIncidents(os.Stdout, cx, s, o.output)
	}
	c, err := s.findIncident(o.id)
	if err != nil {
		return err
	}
	switch o.output {
	case "json":
		return writeJSON(os.Stdout, c.Incident)
	case "md":
		_, err := io.WriteString(os.Stdout, incidentMarkdown(cx, c))
		return err
	}
	return report.WriteLines(os.Stdout, c.Text(cx, terminalWidth(os.Stdout)))
}

// incidentsJSON is the one object that `midhop incidents -o json` prints without an ID.
type incidentsJSON struct {
	Incidents []event.Incident `json:"incidents"` // open ones first, then by severity, the newest first
	Since     time.Time        `json:"since"`     // watching since; what ended before is not known
	Until     time.Time        `json:"until"`
	Coverage  event.Coverage   `json:"coverage"`
}

func listIncidents(w io.Writer, cx report.Context, s *sight, output string) error {
	list := report.IncidentOrder(s.incidents)
	switch output {
	case "json":
		out := incidentsJSON{Incidents: []event.Incident{}, Since: s.snap.Since, Until: s.snap.Clock, Coverage: s.snap.Coverage}
		for _, v := range list {
			out.Incidents = append(out.Incidents, v.Incident)
		}
		return writeJSON(w, out)
	case "md":
		_, err := io.WriteString(w, incidentsMarkdown(cx, s, list))
		return err
	}
	snap := *s.snap
	snap.Incidents = list
	fields := append(report.IncidentFields(), report.Field[model.IncidentView]{
		Column: report.Column{Key: "id", Title: "ID", Width: 8, Max: 60, Name: true},
		Cell:   func(_ report.Context, v *model.IncidentView) report.Text { return report.Text{S: v.ID} },
	})
	t := report.Build(cx, fields, list)
	plain := report.Incidents(cx, &snap)
	t.Empty, t.After = plain.Empty, plain.After
	return t.Write(w, terminalWidth(os.Stdout))
}

// findIncident finds an incident by its id or by an end of it that no other has.
func (s *sight) findIncident(id string) (*report.Case, error) {
	var found []int
	for i, v := range s.incidents {
		if v.ID == id {
			found = []int{i}
			break
		}
		if strings.HasSuffix(v.ID, id) || strings.HasPrefix(v.ID, id) {
			found = append(found, i)
		}
	}
	if len(found) == 1 {
		v := s.incidents[found[0]]
		if c, ok := report.CaseOf(s.snap, v.ID); ok {
			return &c, nil
		}
		return &report.Case{Incident: v.Incident, Updates: v.Updates, Marks: v.Marks}, nil
	}
	var ids []string
	for _, v := range report.IncidentOrder(s.incidents) {
		ids = append(ids, v.ID)
	}
	switch {
	case len(ids) == 0:
		return nil, usagef("no incident %q: there is none at all", id)
	case len(found) == 0:
		return nil, usagef("no incident %q; there are: %s", id, listed(ids))
	}
	return nil, usagef("%d incidents are meant by %q; there are: %s", len(found), id, listed(ids))
}

// writeJSON prints one object, indented for people and read as well by programs.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	if err == nil {
		_, err = w.Write(event.AppendVisible(nil, text.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}
