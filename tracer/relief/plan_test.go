package relief

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// What is taken and what is left, by how sure the verdict is.
func TestMake(t *testing.T) {
	view := func(cookie uint64, status string, netns uint32, pid int32) model.SocketView {
		return model.SocketView{Status: status, LastHeard: time.Unix(100, 0), Socket: event.Socket{Cookie: cookie, Netns: netns, Owner: event.Owner{PID: pid}}}
	}
	sockets := []model.SocketView{
		view(1, model.StatusStalled, 7, 70), view(2, model.StatusPresumed, 7, 71), view(3, model.StatusOK, 7, 70),
		view(4, model.StatusAtRisk, 7, 70), view(5, model.StatusStalled, 6, 60), view(0, model.StatusStalled, 6, 60), view(9, model.StatusStalled, 6, 0),
	}
	for sure, want := range map[event.Sure]struct{ close, left int }{event.Inferred: {2, 3}, event.Proved: {3, 2}} {
		p := Make(event.Incident{Rule: "node-gone", Culprit: event.Culprit{Kind: event.CulpritNode, Name: "node-a", Sure: sure}}, "node-a", sockets)
		if p.Sockets() != want.close || p.LeftAlone != want.left || p.Unreachable != 2 {
			t.Errorf("%s: closes %d, leaves %d, cannot name %d; want %+v and 2", sure, p.Sockets(), p.LeftAlone, p.Unreachable, want)
		}
		if len(p.Spaces) != 2 || p.Spaces[0].Netns != 6 || len(p.Spaces[0].Views) != len(p.Spaces[0].Targets) {
			t.Errorf("%s: spaces %+v", sure, p.Spaces)
		}
	}
}

func TestCovers(t *testing.T) {
	node := event.Culprit{Kind: event.CulpritNode, Name: "node-a"}
	for _, c := range []struct {
		in   event.Incident
		want bool
	}{
		{event.Incident{Rule: "node-gone", Culprit: node}, true},
		{event.Incident{Rule: "peer-unreachable", Culprit: event.Culprit{Kind: event.CulpritAddress, Name: "10.0.0.9"}}, true},
		{event.Incident{Rule: "node-lossy", Culprit: node}, false},
		{event.Incident{Rule: "peer-not-reading", Culprit: event.Culprit{Kind: event.CulpritClient}}, false},
		{event.Incident{Rule: "node-gone", Culprit: event.Culprit{Kind: event.CulpritUnknown}}, false},
		{event.Incident{Rule: "node-gone", Culprit: node, Closed: event.Known(time.Unix(1, 0))}, false},
	} {
		if got := Covers(&c.in); got != c.want {
			t.Errorf("%s of %s: %v", c.in.Rule, c.in.Culprit.Kind, got)
		}
	}
}
