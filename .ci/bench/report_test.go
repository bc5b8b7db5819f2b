package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	r := results{}
	n := parse([]byte("goos: linux\nBenchmarkWeight/sockets=100000-2         \t       1\t  12 ns/op\t 61.5 own-MB\nBenchmarkEcho 1 3 x\nPASS\n"), r)
	if n != 2 || r["BenchmarkWeight/sockets=100000"]["own-MB"] != 61.5 || r["BenchmarkEcho"]["x"] != 3 {
		t.Errorf("%d, %v", n, r)
	}
}

// A goal that is missed is said to be, and by how much; one that is met is not.
func TestMissed(t *testing.T) {
	r := results{}
	r.set("BenchmarkWeight/sockets=100000", "own-MB", 61.5)
	r.set("BenchmarkWeight/sockets=0", "own-MB", 29)
	r.set("BenchmarkSustained", "lost", 0)
	r.set("BenchmarkStream/whole-null", "events/core-s", 350_000)
	for _, l := range lines(r) {
		want := map[string]string{
			"memory, 100,000 connections": "by 11.5 MB (23 %)",
			"events a core exports":       "by 350,000 /s (50 %)",
		}[l.What]
		if l.Missed != want {
			t.Errorf("%s: missed %q, want %q", l.What, l.Missed, want)
		}
	}
	rep := report{Load: []string{"0"}, Lines: lines(r), Skipped: []string{"bpftrace: not here"}}
	var text bytes.Buffer
	if err := rep.text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"MISSED by 11.5 MB", "not measured: bpftrace: not here", "2 of"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
}

func TestGrowth(t *testing.T) {
	r := results{}
	r.set("BenchmarkSocketSeen/10000", "cpu-ns/socket", 100)
	r.set("BenchmarkSocketSeen/100000", "cpu-ns/socket", 100)
	r.set("BenchmarkSocketSeen/1000000", "cpu-ns/socket", 1000)
	c := growth(r)
	if len(c) != 1 || c[0].Points[0].V != 1 || c[0].Exponents[0] != 1 || c[0].Exponents[1] != 2 {
		t.Errorf("%+v", c)
	}
}

func TestNamed(t *testing.T) {
	s, err := named([]byte(`{"type":"incident.opened","time":"2026-01-01T00:00:00Z"}
{"type":"lab.fault","time":"2026-01-01T00:00:01Z"}
{"type":"incident.opened","time":"2026-01-01T00:00:02.5Z"}
`))
	if err != nil || s != 1.5 {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := named([]byte(`{"type":"lab.fault","time":"2026-01-01T00:00:01Z"}`)); err == nil {
		t.Error("no incident, and no error")
	}
}
