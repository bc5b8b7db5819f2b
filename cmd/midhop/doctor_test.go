package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// TestDoctorTellsEveryReason holds the text to one line per fact, the rungs that do not serve below it, and then the
// machine's circumstances with what they cost.
func TestDoctorTellsEveryReason(t *testing.T) {
	s := event.Started{
		Host: event.Host{Node: "node-b", Kernel: "6.12", Arch: "amd64"},
		Probes: []event.Probe{
			{Fact: "retransmit", Rung: "tp_btf", Precise: true, Fired: true},
			{Fact: "nat", Rung: "ctnetlink", Why: "fexit: not permitted; kprobe: not built", Cost: "old ones end late"},
			{Fact: "sockets", Rung: "task_file.cast", Precise: true, Fired: true, Why: "task_file: not taken", Detail: []string{"task_file: R1"}},
			{Fact: "probe", Why: "fentry: no such function"},
			{Fact: "state", Rung: "raw_tp", Precise: true, Unproven: "not tried: no loopback device"},
		},
		Machine: []event.Check{{Name: "lockdown", Is: "none"}, {Name: "pid namespace", Is: "not the host's", Note: "hostPID is needed"}},
	}
	var out bytes.Buffer
	if err := writeDoctor(&out, &s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"retransmit   tp_btf          precise        yes\n",
		"nat          ctnetlink       coarse         not tried\n    costs you: old ones end late\n    fexit: not permitted\n    kprobe: not built\n",
		"sockets      task_file.cast  precise        yes\n    costs you nothing: it tells the same as the best one\n    task_file: not taken\n    the kernel's own words:\n      task_file: R1\n",
		"probe        none            not available  -\n    fentry: no such function\n",
		"state        raw_tp          precise        no: not tried: no loopback device\n",
		"lockdown           none\npid namespace      not the host's\n    hostPID is needed\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}

func TestDoctorAsksForOneFact(t *testing.T) {
	probes := []event.Probe{{Fact: "retransmit"}, {Fact: "nat"}}
	if got, err := onlyFact(probes, "nat"); err != nil || len(got) != 1 || got[0].Fact != "nat" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := onlyFact(probes, "nonsense"); exitWith(&bytes.Buffer{}, newRoot(), err) != exitUsage || !strings.Contains(err.Error(), "retransmit, nat") {
		t.Errorf("an unknown fact gives %v, want a usage error", err)
	}
}
