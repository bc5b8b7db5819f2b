package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/lab"
)

// agents are the sources that a fleet's agents speak as.
func (f *fleetLab) agents() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		list = append(list, "agent/"+n)
	}
	return list
}

// socketsKnown says whether so many sockets were told.
func socketsKnown(n int) func([]event.Event) bool {
	return func(events []event.Event) bool {
		seen := 0
		for _, e := range events {
			if b, ok := e.Body.(*event.Sockets); ok {
				seen += len(b.Rows)
			}
		}
		return seen >= n
	}
}

// TestFleetTimeToName lets MIDHOP_FLEET_DEATHS nodes die, each in a lab of another seed with agents and a hub, and holds the
// time until each is named to its bound, from power off to the incident's own time. See make bench-fleet-name.
func TestFleetTimeToName(t *testing.T) {
	deaths, _ := strconv.Atoi(os.Getenv("MIDHOP_FLEET_DEATHS"))
	if deaths == 0 {
		t.Skip("MIDHOP_FLEET_DEATHS does not say how many deaths: make bench-fleet-name does")
	}
	var all []float64
	for seed := range deaths {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			o := lab.Defaults()
			o.Connections, o.Duration, o.Seed = 100, 10*time.Minute, 700+int64(seed)
			f := startFleet(t, o)
			f.startHub()
			f.await("all agents heard", 60*time.Second, heardAll(f.cluster.Up(), f.agents()...))
			f.await("sockets known", 60*time.Second, socketsKnown(100))
			// A census that says that all is well, and heartbeats in a row: nobody's node dies in its first second.
			f.await("heard again", 60*time.Second, heardAll(time.Now().Add(3*time.Second), f.agents()...))
			fault, err := f.cluster.Fault(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := f.cluster.Expected()[0]
			f.await("the node is named", 30*time.Second, func(events []event.Event) bool {
				last, _ := lastIncident(events)
				return last.Culprit.Name == want.Name
			})
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, e := range f.events {
				if b, ok := e.Body.(*event.IncidentFinding); ok {
					if b.Incident.Culprit.Name != want.Name {
						t.Errorf("%s is named: %s", b.Incident.Culprit.Name, b.Incident.Title)
					}
					took := e.Time.Sub(fault.Time).Seconds()
					t.Logf("%s named %.2f s after it died", want.Name, took)
					all = append(all, took)
					break
				}
			}
		})
	}
	slices.Sort(all)
	if len(all) == 0 {
		t.Fatal("nobody was named")
	}
	p95 := all[(len(all)*95+99)/100-1]
	t.Logf("%d deaths named: half within %.2f s, 95 %% within %.2f s, all within %.2f s", len(all), all[len(all)/2], p95, all[len(all)-1])
	if p95 > 1.5 {
		t.Errorf("95 %% are named within %.2f s: more than 1.5 s", p95)
	}
}

// TestFleetScenarios plays the scenarios of MIDHOP_FLEET_SCENARIOS through agents and a hub: each comes to its verdict, or to
// none where nothing is to be found, a node that is healthy is at no time named, and no event is lost. MIDHOP_FLEET_SEED draws another lab. See make test-fleet.
func TestFleetScenarios(t *testing.T) {
	list := os.Getenv("MIDHOP_FLEET_SCENARIOS")
	if list == "" {
		t.Skip("MIDHOP_FLEET_SCENARIOS does not name any: make test-fleet does")
	}
	for scenario := range strings.SplitSeq(list, ",") {
		t.Run(scenario, func(t *testing.T) {
			o := lab.Defaults()
			o.Scenario, o.Connections, o.Duration = scenario, 100, 10*time.Minute
			o.Seed, _ = strconv.ParseInt(os.Getenv("MIDHOP_FLEET_SEED"), 10, 64) // 0: the lab's own
			f := startFleet(t, o)
			f.startHub()
			f.await("all agents heard", 60*time.Second, heardAll(f.cluster.Up(), f.agents()...))
			f.await("sockets known", 60*time.Second, socketsKnown(100))
			fault := lab.FaultInfo{Time: time.Now()}
			if f.cluster.HasFault() {
				var err error
				if fault, err = f.cluster.Fault(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			expected := f.cluster.Expected()
			for _, want := range expected {
				if want.May {
					continue
				}
				f.await("the verdict "+want.Rule, 90*time.Second, func(events []event.Event) bool {
					return slices.ContainsFunc(events, func(e event.Event) bool {
						b, ok := e.Body.(*event.IncidentFinding)
						return ok && want.Fits(b.Incident.Rule, string(b.Incident.Culprit.Kind), b.Incident.Culprit.Name)
					})
				})
			}
			f.await("20 s", 90*time.Second, func(events []event.Event) bool { // what is said wrongly may be said late
				return len(events) > 0 && events[len(events)-1].Time.After(fault.Time.Add(20*time.Second))
			})
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, e := range f.events {
				switch b := e.Body.(type) {
				case *event.Lost:
					t.Errorf("%s lost %+v", e.Source, *b)
				case *event.IncidentFinding:
					in := b.Incident
					t.Logf("%s %.1f s: %s on %s %s: %s", e.Type, e.Time.Sub(fault.Time).Seconds(), in.Rule, in.Culprit.Kind, in.Culprit.Name, in.Title)
					guilty := slices.ContainsFunc(expected, func(v lab.Verdict) bool { return v.Blames(string(in.Culprit.Kind), in.Culprit.Name) })
					if (in.Culprit.Kind == event.CulpritNode || in.Culprit.Kind == event.CulpritLocalNode) && !guilty || len(expected) == 0 {
						t.Errorf("%s is named: %s", in.Culprit.Name, in.Title)
					}
				}
			}
		})
	}
}
