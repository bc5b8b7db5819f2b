package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestSeek goes back and forth in a recording. Wherever it stops, there is what comes of folding the facts before that
// moment, and of them alone; the log holds what was found until then.
func TestSeek(t *testing.T) {
	all := facts(readEvents(t, bigIncident))
	begin := all[0].Time
	r := replayOn(t, bigIncident, "max")
	r.Await("REPLAY END")
	for _, d := range []time.Duration{8 * time.Second, 3 * time.Second, 6 * time.Second, 6500 * time.Millisecond, time.Second, 0} {
		r.seek(d)
		to := begin.Add(d)
		var before []event.Event
		for _, e := range facts(readEvents(t, bigIncident)) {
			if !e.Time.Before(to) {
				break // a fact that came late stands behind it
			}
			before = append(before, e)
		}
		want := &model.Snapshot{}
		found := 0
		if len(before) > 0 {
			engine, findings := fold(t, before, tracer.Options{})
			want, found = engine.Snapshot(), len(incidentsOf(findings))
		}
		got := r.player.Snapshot()
		if !reflect.DeepEqual(want.Totals, got.Totals) || !reflect.DeepEqual(want.Vias, got.Vias) || !reflect.DeepEqual(want.Incidents, got.Incidents) {
			t.Errorf("at %s: %+v and %d incidents, want %+v and %d", d, got.Totals, len(got.Incidents), want.Totals, len(want.Incidents))
		}
		logged := 0
		for _, e := range r.player.log.Tail(logLines, 0, true) {
			if _, ok := e.Body.(*event.IncidentFinding); ok {
				logged++
			}
		}
		if logged != found {
			t.Errorf("at %s the log holds %d lines of incidents, want %d", d, logged, found)
		}
	}
	if err := r.player.Seek(begin.Add(-time.Hour)); err != nil {
		t.Errorf("before the beginning: %v", err)
	}
	r.stands(begin)
	r.end()
	if err := r.player.Seek(r.player.Play().End.Add(time.Second)); err == nil {
		t.Error("there is something after the end")
	}
}
