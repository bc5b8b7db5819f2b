package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestRisksByTheAPI finds what is lost when nodes go of which the API says that they may, or will.
func TestRisksByTheAPI(t *testing.T) {
	now := time.Date(2026, 11, 23, 11, 30, 0, 0, time.UTC)
	backend := netip.MustParseAddr("10.48.2.5")
	s := &sight{
		snap: &model.Snapshot{Clock: now},
		nodes: map[string]event.Node{
			"kept":      {UID: "1"},
			"label":     {Causes: []event.Cause{{What: event.CauseMaintenance, From: "label cloud.google.com/active-node-maintenance"}}},
			"draining":  {Causes: []event.Cause{{What: event.CauseCordoned, From: "spec.unschedulable"}, {What: event.CauseDraining, From: "pod condition"}}},
			"cordoned":  {Causes: []event.Cause{{What: event.CauseCordoned, From: "spec.unschedulable"}}},
			"preempt":   {Spot: "preemptible", Created: now.Add(-20 * time.Hour)},
			"home":      {PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.2.0/24")}},
			"elsewhere": {PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.9.0/24")}},
		},
		services: map[string]event.Service{"ws/chat": {Backends: []netip.Addr{backend}}},
	}
	for name := range s.nodes {
		s.census = append(s.census, event.CensusRow{Service: "ws/chat", Established: 200, Via: event.Via{Node: name, Role: event.ViaEntry}})
	}
	got := make(map[string]string)
	for _, r := range risksOf(s, 100) {
		got[r.Node+" "+r.Kind] = r.Text
	}
	for key, part := range map[string]string{
		"label leaving": "active-node-maintenance", "draining leaving": "pod condition", "cordoned cordoned": "which is cordoned",
		"preempt spot": "may be taken at any time, at the latest in 4h", "elsewhere no_pods": "none of its pods", "kept no_pods": "none of its pods",
	} {
		if !strings.Contains(got[key], part) {
			t.Errorf("%s is %q, want %q", key, got[key], part)
		}
	}
	for _, key := range []string{"kept leaving", "kept spot", "home no_pods"} {
		if text, ok := got[key]; ok {
			t.Errorf("%s is no risk: %q", key, text)
		}
	}
}
