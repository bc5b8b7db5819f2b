package main

import (
	"github.com/spf13/pflag"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/source/ask"
)

// askFlag lets a command ask suspected nodes whether they live. Only commands that judge have it: an agent suspects nobody.
func askFlag(f *pflag.FlagSet, on *bool) {
	f.BoolVar(on, "ask", false, "ask a suspected node whether it lives, by one TCP connection to its kubelet's port, and a healthy one if it keeps silent")
}

// question puts a judge's question in the words of whoever asks it.
func question(q diagnose.Question) ask.Question {
	out := ask.Question{Node: ask.Address(q.Node), From: q.From}
	for _, h := range q.Healthy {
		out.Healthy = append(out.Healthy, ask.Address(h))
	}
	return out
}

// asks has a source ask what a judge would like to know.
func asks(s *ask.Source) func(diagnose.Question) {
	return func(q diagnose.Question) { s.Ask(question(q)) }
}
