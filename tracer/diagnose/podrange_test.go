package diagnose

import (
	"net/netip"
	"testing"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestAPatternHasNoHop: a case about a part of the connections to an address has no hop for itself, and a pod that falls silent
// beside it joins none such.
func TestAPatternHasNoHop(t *testing.T) {
	j := New(model.New(model.Options{}))
	c := &incident{course: pattern{kind: patternNew}}
	c.body.Rule = ruleUnexplained
	j.open = append(j.open, c)
	s := &suspect{hop: model.Hop{Key: model.HopKey{Kind: model.KindPod, IP: netip.MustParseAddr("10.48.2.5")}}}
	if j.joins(s, &gate{}) {
		t.Error("it joined")
	}
	c.course, c.keys = silence{}, []model.HopKey{{Kind: model.KindAddress, IP: netip.MustParseAddr("203.0.113.7")}}
	if j.joins(s, &gate{}) {
		t.Error("it joined the case of an address")
	}
	if c.body.Culprit != (event.Culprit{}) {
		t.Errorf("%+v", c.body.Culprit)
	}
}
