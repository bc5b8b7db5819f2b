package main

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/tracer/report"
)

// filterHelp is what --help says of --filter.
const filterHelp = "show only what this `filter` takes, such as 'via:node-a service=ws/chat left<5m'; fields: "

// parseFilter returns what chooses events, nil for all of them. What was lost is always shown.
func parseFilter(text string) (func(*event.Event) bool, error) {
	f, err := filter.Parse(text, report.EventNames)
	if err != nil {
		return nil, usageError{err}
	}
	if f.Empty() {
		return nil, nil
	}
	return func(e *event.Event) bool {
		if e.Type == event.StreamLost {
			return true
		}
		for _, r := range report.EventRecords(e) {
			if f.Match(r) {
				return true
			}
		}
		return false
	}, nil
}

// both chooses what two choices take; nil takes all.
func both(a, b func(*event.Event) bool) func(*event.Event) bool {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(e *event.Event) bool { return a(e) && b(e) }
}
