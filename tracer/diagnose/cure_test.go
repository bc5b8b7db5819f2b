package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestCureFitsTheServices: what the API says of the way to a service goes into the cure; what it does not say, or not of all,
// leaves the general words.
func TestCureFitsTheServices(t *testing.T) {
	m := model.New(model.Options{})
	for name, s := range map[string]event.Service{
		"chat": {Policy: "Cluster"}, "more": {Policy: "Cluster"}, "local": {Policy: "Local"}, "neg": {Policy: "Cluster", Direct: true}, "plain": {},
	} {
		s.Namespace, s.Name = "ws", name
		m.Apply(&event.Event{Type: event.ServiceChanged, Time: time.Unix(1, 0), Source: "kube", Body: &event.ServiceFact{What: "added", Service: s}})
	}
	j := New(m)
	for _, c := range []struct{ hurt, text, command string }{
		{"ws/chat", "ws/chat has externalTrafficPolicy Cluster; Local, or", `kubectl patch service -n ws chat -p '{"spec":{"externalTrafficPolicy":"Local"}}'`},
		{"ws/chat ws/more", "ws/chat, ws/more have externalTrafficPolicy Cluster; Local, or", ""},
		{"ws/local", "ws/local has externalTrafficPolicy Local already: ", ""},
		{"ws/neg", "ws/neg has a balancer that speaks to pods already: ", ""},
		{"ws/chat ws/local", cureText, ""},
		{"ws/plain", cureText, ""},
		{"ws/unknown", cureText, ""},
		{"", cureText, ""},
	} {
		var hurt []event.Hit
		for _, name := range strings.Fields(c.hurt) {
			hurt = append(hurt, event.Hit{Name: name})
		}
		got := j.fitted(event.Remedy{When: "cure", Text: cureText}, hurt)
		if !strings.Contains(got.Text, c.text) || got.Command != c.command {
			t.Errorf("%s: %q, %q; want %q, %q", c.hurt, got.Text, got.Command, c.text, c.command)
		}
	}
}
