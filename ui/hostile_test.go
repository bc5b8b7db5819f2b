package ui_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui"
	"github.com/midhop/midhop/ui/uitest"
)

// hostileNames are what a cluster might send to do harm.
var hostileNames = []string{
	"\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "[red]tag[-]", "[::b]bold", `["region"]x[""]`, "a\u202eb", "zero\u200bwidth\u2060",
	"new\nline\rreturn\ttab", "\x9b31m", "bad\xff\xfeutf8", strings.Repeat("n", 4096), "wide世界世界", "\u0301\u0301\u0301mark",
	"z" + strings.Repeat("\u0336", 200), "\U000e0041tag", "family\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u3164",
}

func TestHostileNames(t *testing.T) {
	for _, size := range sizes {
		term := start(t, size.w, size.h, func(o *ui.Options) {
			o.Log = ui.NewLog(100)
			for _, name := range hostileNames {
				o.Log.Write([]event.Event{{Type: event.NodeChanged, Time: uitest.Now, Source: name,
					Body: &event.NodeFact{What: name, Node: event.Node{Name: name, Spot: name}}}})
			}
		})
		for i, name := range hostileNames {
			s := uitest.NodeGone()
			s.Version = uint64(1000 + i)
			harm(s, name)
			term.Show(s)
			for _, keys := range [][]string{nil, {"enter"}, {"enter"}, {"1", "i"}, {"2"}, {"3", "/"}, {"esc", "4"}, {"5", "J"}, {"6"}, {"?"}, {"esc", "1"}} {
				term.Press(keys...)
				checkHarmless(t, term, fmt.Sprintf("%q after %v", report.Fit(name, 40), keys), size.w, size.h)
			}
		}
	}
}

func harm(s *model.Snapshot, name string) {
	v := &s.Vias[0]
	v.Via, v.Because, v.Node.Name, v.Node.Zone, v.Node.Spot = name, name, name, name, name
	v.Pods, v.Services = []string{name}, []string{name}
	in := &s.Incidents[0].Incident
	in.Title, in.Culprit.Name, in.Why, in.Rule = name, name, name, name
	in.Services[0].Name, in.Pods[0].Name = name, name
	in.Evidence[0].Text, in.Remedy[0].Text, in.Remedy[1].Command, in.Remedy[0].Effect = name, name, name, name
	s.Incidents[0].Marks[0].Text = name
	for i := range s.Trouble {
		s.Trouble[i].Via.Node, s.Trouble[i].Socket.Owner.Comm, s.Trouble[i].Errno = name, name, name
		s.Trouble[i].Socket.K8s = &event.K8sRef{Pod: name, Namespace: name, Service: name, Workload: name, Node: name}
	}
	s.Agents[0].Source, s.Coverage.Silent = name, []string{name}
	s.Agents[1].Node, s.Agents[1].Probes[0].Why, s.Lost = name, name, map[string]uint64{name: 3}
	s.Agents[1].Settings = map[string]int64{name: 1}
}

// checkHarmless looks at every cell: nothing that a terminal obeys or hides, every line as long as the screen is wide.
func checkHarmless(t *testing.T, term *uitest.Terminal, what string, w, h int) {
	t.Helper()
	text := term.Text()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != h {
		t.Errorf("%s: %d lines on a screen of %d", what, len(lines), h)
	}
	for _, line := range lines {
		if got := report.Width(line); got > w {
			t.Errorf("%s: a line takes %d columns: %q", what, got, line)
		}
		for _, r := range line {
			if report.Clean("x"+string(r)) != "x"+string(r) {
				t.Errorf("%s: %U is on the screen in %q", what, r, line)
			}
		}
	}
	if !strings.Contains(lines[0], "midhop") {
		t.Errorf("%s: the first line reads %q", what, lines[0])
	}
}

func TestTagsOfTheLibraryAreShownAsTheyAre(t *testing.T) {
	term := start(t, 120, 40, nil)
	s := uitest.Healthy()
	s.Vias[0].Via = "[red]x[-]"
	term.Show(s)
	wants(t, term, ">  [red]x[-] ")
}
