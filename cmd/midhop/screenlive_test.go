package main

import (
	"errors"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/fleet"
)

// What a screen shows of a hub says since when nothing comes, and why, as soon as that is so and no longer; what it shows of
// this machine never does.
func TestTheViewSaysWhenItIsCutOff(t *testing.T) {
	var view openingView
	holds := func(when string, since time.Time, why string) {
		t.Helper()
		if at, text := view.Cut(); !at.Equal(since) || text != why {
			t.Errorf("%s: since %v, %q", when, at, text)
		}
	}
	holds("while the hub is looked for", time.Time{}, "")
	view.become(&watch{})
	holds("of this machine", time.Time{}, "")
	var cut *fleet.CutOffError
	view.become(&watch{cut: func() *fleet.CutOffError { return cut }})
	holds("while it answers", time.Time{}, "")
	heard := time.Unix(1_800_000_000, 0)
	cut = &fleet.CutOffError{Heard: heard, Read: true, Err: errors.New("an unknown token")}
	holds("cut off", heard, "an unknown token")
	cut = nil
	holds("when it answers again", time.Time{}, "")
}
