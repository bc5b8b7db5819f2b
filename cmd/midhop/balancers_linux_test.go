package main

import (
	"bufio"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
)

// TestBalancersAreRecorded: what --lb said when a recording was made stands in it, so that whoever replays it need not
// know, and finds the same.
func TestBalancersAreRecorded(t *testing.T) {
	const path = "testdata/recordings/node-gone.jsonl.zst"
	outside := netip.MustParsePrefix("198.51.100.0/24") // where the recording's clients outside the cluster are
	plain, _ := foldAll(t, facts(readEvents(t, path)))
	told := facts(readEvents(t, path))
	for _, e := range told {
		if b, ok := e.Body.(*event.Started); ok && e.Source == "agent/node-a" {
			b.Balancers = []netip.Prefix{outside}
		}
	}
	changed, all := foldAll(t, told)
	if plain.External == 0 || changed.External != 0 || changed.LoadBalancer != plain.LoadBalancer+plain.External {
		t.Fatalf("clients were %+v and with %v as balancers are %+v", plain, outside, changed)
	}
	for _, name := range []string{"told", "untold"} {
		keeps := name == "told"
		for _, e := range all {
			if b, ok := e.Body.(*event.Started); ok && !keeps {
				b.Balancers = nil
			}
		}
		file := filepath.Join(t.TempDir(), name+".jsonl")
		f, err := jsonl.CreateFile(file, jsonl.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Write(all), f.Close()); err != nil {
			t.Fatal(err)
		}
		out, err := self(t, "replay", file, "--verify").CombinedOutput()
		if (err == nil) != keeps {
			t.Errorf("%s: replay --verify: %v: %s", name, err, out)
		}
		if keeps {
			continue
		}
		if out, err := self(t, "replay", file, "--verify", "--lb", outside.String()).CombinedOutput(); err != nil {
			t.Errorf("%s, with --lb: replay --verify: %v: %s", name, err, out)
		}
	}
}

// foldAll replays facts and returns the clients of the newest incident, and the whole stream.
func foldAll(t *testing.T, facts []event.Event) (clients event.ClientCounts, all everything) {
	t.Helper()
	engine := tracer.New(tracer.Options{})
	flow := newFlow()
	engine.AddSink("all", flow.sink(&all), tracer.Policy{Wait: patience})
	engine.AddSource("facts", flow.source(told(facts)))
	if err := engine.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if b, ok := e.Body.(*event.IncidentFinding); ok {
			clients = b.Incident.Clients
		}
	}
	return clients, all
}

// TestBalancersAreTold: --lb goes into the stream's first line.
func TestBalancersAreTold(t *testing.T) {
	rootOnly(t)
	cmd := self(t, "watch", "-o", "jsonl", "--complete", "--lb", "198.51.100.7/24,2001:db8::/32")
	r := withPipe(t, cmd)
	line, err := bufio.NewReaderSize(r, 1<<16).ReadSlice('\n')
	r.Close()
	ended(t, cmd, hang)
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.Decode(line)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	if b, ok := e.Body.(*event.Started); !ok || !slices.Equal(b.Balancers, want) {
		t.Errorf("the first line is %s, want balancers %v in it", line, want)
	}
}
