package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// report is one run.
type report struct {
	Date     string   `json:"date"`
	Machine  machine  `json:"machine"`
	Load     []string `json:"load"` // before and after
	Lines    []line   `json:"lines"`
	Growth   []curve  `json:"growth"`
	Skipped  []string `json:"skipped,omitempty"`
	Measured results  `json:"measured"`
}

// line is one thing that was measured, beside a peer and a goal where there are such.
type line struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Midhop float64 `json:"midhop"`
	Peer   string  `json:"peer,omitempty"`
	Theirs float64 `json:"theirs,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"` // theirs to midhop's: how many times less midhop takes
	Goal   string  `json:"goal,omitempty"`
	Missed string  `json:"missed,omitempty"` // by how much; empty: met, or no goal
}

// want is a line's source: figure and unit of midhop's and of the peer's, and the goal.
type want struct {
	what         string
	bench, unit  string
	scale        float64 // of both figures; 0: 1
	shown        string  // unit shown
	peer, theirs string  // theirs: unit in the same benchmark
	most, least  float64 // goals; 0: none
	none         bool    // the goal is nothing at all
	leastRatio   float64
}

// wants are the lines of the report, with the goals of the project: what it should cost at most.
var wants = []want{
	{what: "retransmission, kernel half", bench: "BenchmarkRetransmit", unit: "ns/retransmission", shown: "ns", most: 1000},
	{what: "retransmission to a line, all CPU", bench: "BenchmarkBesideBpftrace", unit: "path", shown: "ns", peer: "bpftrace one-liner", theirs: "bpftrace", leastRatio: 25},
	{what: "the same, all of midhop watch", bench: "BenchmarkBesideBpftrace", unit: "watch", shown: "ns", peer: "bpftrace one-liner", theirs: "bpftrace"},
	{what: "look at 50,000 sockets with owners", bench: "BenchmarkCensus", unit: "cpu-ms-least", shown: "CPU ms", peer: "ss -tinpH", theirs: "cpu-ms-ss-owners", most: 150},
	{what: "the same, beside ss without owners", bench: "BenchmarkCensus", unit: "cpu-ms-least", shown: "CPU ms", peer: "ss -tinH", theirs: "cpu-ms-ss"},
	{what: "first dump of 100,000 conntrack entries", bench: "BenchmarkDump", unit: "cpu-ms-least", shown: "CPU ms", peer: "conntrack -L", theirs: "cpu-ms-conntrack-L", most: 250},
	{what: "exported event, probe's bytes to line", bench: "BenchmarkStream/whole-null", unit: "cpu", shown: "ns", most: 1300},
	{what: "events a core exports", bench: "BenchmarkStream/whole-null", unit: "events/core-s", shown: "/s", least: 700_000},
	{what: "lost at 500,000 events/s for 10 s", bench: "BenchmarkSustained", unit: "all-lost", shown: "events", none: true},
	{what: "the same, cores used", bench: "BenchmarkSustained", unit: "%core", shown: "%"},
	{what: "memory, no connections", bench: "BenchmarkWeight/sockets=0", unit: "own-MB", shown: "MB", most: 30},
	{what: "memory, 100,000 connections", bench: "BenchmarkWeight/sockets=100000", unit: "own-MB", shown: "MB", most: 50},
	{what: "memory, 1,000,000 connections", bench: "BenchmarkWeight/sockets=1000000", unit: "own-MB", shown: "MB", most: 200},
	{what: "RSS, no connections", bench: "BenchmarkWeight/sockets=0", unit: "rss-MB", shown: "MB"},
	{what: "RSS, 100,000 connections", bench: "BenchmarkWeight/sockets=100000", unit: "rss-MB", shown: "MB"},
	{what: "RSS, 1,000,000 connections", bench: "BenchmarkWeight/sockets=1000000", unit: "rss-MB", shown: "MB"},
	{what: "a tracked socket in the model", bench: "BenchmarkSocketSeen/1000000", unit: "B/socket", shown: "B", most: 160},
	{what: "a translation in the model", bench: "BenchmarkEntrySeen/1000000", unit: "B/entry", shown: "B", most: 160},
	{what: "collector's cycle, 10,000 connections", bench: "BenchmarkCollect/10000", unit: "cpu-ms/cycle", shown: "CPU ms"},
	{what: "collector's cycle, 1,000,000 connections", bench: "BenchmarkCollect/1000000", unit: "cpu-ms/cycle", shown: "CPU ms"},
	{what: "100,000 healthy connections", bench: "BenchmarkWeight/sockets=100000", unit: "%core-idle", shown: "% of a core", most: 0.6},
	{what: "echo load, throughput", bench: "BenchmarkEcho", unit: "echoes/s-with", shown: "/s", peer: "without midhop", theirs: "echoes/s-without"},
	{what: "echo load, p99", bench: "BenchmarkEcho", unit: "us-p99-with", shown: "us", peer: "without midhop", theirs: "us-p99-without"},
	{what: "echo load, CPU of an echo", bench: "BenchmarkEcho", unit: "cpu-us/echo-with", shown: "us", peer: "without midhop", theirs: "cpu-us/echo-without"},
	{what: "start to first event, best of 7", bench: "BenchmarkStartup", unit: "ms-first-least", shown: "ms", peer: "bpftrace", theirs: "ms-first-least-bpftrace", most: 250},
	{what: "start to first event, median", bench: "BenchmarkStartup", unit: "ms-first", shown: "ms", peer: "bpftrace", theirs: "ms-first-bpftrace", most: 250},
	{what: "CPU of a start and a first look", bench: "BenchmarkStartup", unit: "cpu-ms", shown: "CPU ms", peer: "bpftrace", theirs: "cpu-ms-bpftrace"},
	{what: "time to name a dead node, worst of 5", bench: "TimeToName", unit: "s-worst", shown: "s", most: 3},
	{what: "blame epoch in full, 1,000,000 flows", bench: "Blame", unit: "cpu-ms-full", shown: "CPU ms", most: 100},
	{what: "blame epoch, incremental", bench: "Blame", unit: "cpu-ms-incremental", shown: "CPU ms", most: 10},
}

// derive adds the figures that are sums of others.
func derive(r results) {
	if b := r["BenchmarkBesideBpftrace"]; b != nil {
		for _, who := range []string{"path", "watch", "bpftrace"} {
			b[who] = b[who+"-bpf-ns/event"] + b[who+"-user-ns/event"]
		}
	}
	if b := r["BenchmarkStream/whole-null"]; b != nil {
		b["cpu"] = b["user-ns/event"] + b["sys-ns/event"]
	}
	if b := r["BenchmarkSustained"]; b != nil {
		b["all-lost"] = b["lost"] + b["ring-lost"]
	}
}

// lines are the report's, of what was measured.
func lines(r results) []line {
	derive(r)
	var out []line
	for _, w := range wants {
		v, ok := r[w.bench][w.unit]
		if !ok {
			continue
		}
		l := line{What: w.what, Unit: w.shown, Midhop: v}
		if t, ok := r[w.bench][w.theirs]; ok {
			l.Peer, l.Theirs = w.peer, t
			if v > 0 {
				l.Ratio = t / v
			}
		}
		switch {
		case w.none:
			l.Goal = "0"
			if v > 0 {
				l.Missed = fmt.Sprintf("by %s %s", number(v), w.shown)
			}
		case w.most > 0:
			l.Goal = "<= " + number(w.most)
			if v > w.most {
				l.Missed = fmt.Sprintf("by %s %s (%.0f %%)", number(v-w.most), w.shown, 100*(v/w.most-1))
			}
		case w.least > 0:
			l.Goal = fmt.Sprintf(">= %s", number(w.least))
			if v < w.least {
				l.Missed = fmt.Sprintf("by %s %s (%.0f %%)", number(w.least-v), w.shown, 100*(1-v/w.least))
			}
		case w.leastRatio > 0:
			l.Goal = fmt.Sprintf("%.0fx less", w.leastRatio)
			if l.Theirs > 0 && l.Ratio < w.leastRatio {
				l.Missed = fmt.Sprintf("%.1fx, not %.0fx", l.Ratio, w.leastRatio)
			}
		}
		out = append(out, l)
	}
	return out
}

// number writes a figure with as many digits as mean something.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10_000:
		return grouped(int64(math.Round(v)))
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) text(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "midhop %s, %s\n%s, %d cores, %d GB, Linux %s, %s; load %s before, %s after\n\n",
		m.Commit, r.Date, m.CPU, m.Cores, m.MemoryGB, m.Kernel, m.Go, r.Load[0], r.Load[len(r.Load)-1])
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMIDHOP\t\tBESIDE\t\tRATIO\tGOAL\t")
	missed := 0
	for _, l := range r.Lines {
		theirs, ratio, verdict := "", "", l.Goal
		if l.Theirs > 0 {
			theirs, ratio = number(l.Theirs), fmt.Sprintf("%.2fx", l.Ratio)
			if l.Ratio >= 10 {
				ratio = fmt.Sprintf("%.0fx", l.Ratio)
			}
		}
		if l.Missed != "" {
			missed++
			verdict += " MISSED " + l.Missed
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", l.What, number(l.Midhop), l.Unit, theirs, l.Peer, ratio, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe ratio is theirs to midhop's. %d of %d lines miss their goal.\n", missed, len(r.Lines))
	if len(r.Growth) > 0 {
		fmt.Fprintln(w, "\nGrowth, tenfold at each step; 1 is linear")
		t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "WHAT\tUNIT\tAT\tIS\tEXPONENT\t")
		for _, c := range r.Growth {
			for i, p := range c.Points {
				name, unit, exponent := c.What, c.Unit, ""
				if i > 0 {
					name, unit = "", ""
					exponent = fmt.Sprintf("%.2f", c.Exponents[i-1])
					if c.Exponents[i-1] > superLinear {
						exponent += " SUPER-LINEAR"
					}
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t\n", name, unit, grouped(int64(p.N)), number(p.V), exponent)
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, s := range r.Skipped {
		fmt.Fprintln(w, "\nnot measured: "+s)
	}
	return nil
}
