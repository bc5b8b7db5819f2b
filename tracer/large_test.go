package tracer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestShareOrSize: a node loses a share of all segments, or all that are large, or first the one and then the other too.
// Which of these it is shows in whether a large one gets through at last, however many are stuck at a time.
func TestShareOrSize(t *testing.T) {
	const share, size = "node-lossy", "pmtu-blackhole"
	for _, c := range []struct {
		large  int // one in so many connections sends full-size segments
		faults string
		want   []string // rules of the cases, as they are opened
	}{
		{1, "at 10s loss node-a 10", []string{share}},
		{1, "at 10s loss node-a 30", []string{share}},
		{1, "at 10s loss node-a 80", []string{share}},
		{2, "at 10s loss node-a 10", []string{share}},
		{2, "at 10s loss node-a 50", []string{share}},
		{2, "at 10s narrow node-a", []string{size}},
		{2, "at 10s loss node-a 1\nat 40s narrow node-a", []string{share, size}},
		{2, "at 10s loss node-a 5\nat 40s narrow node-a", []string{share, size}},
		{2, "at 10s loss node-a 20\nat 40s narrow node-a", []string{share, size}},
	} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("1 in %d large, %s, seed %d", c.large, c.faults, seed), func(t *testing.T) {
				t.Parallel()
				world, _ := buildWorld(t, fmt.Sprintf(`
node node-a 10.146.0.11 10.48.1.0/24 agent
node node-b 10.146.0.12 10.48.2.0/24 agent
node node-c 10.146.0.13 10.48.3.0/24 agent
pod ws/chat-1 node-b 10.48.2.5 ws/chat
conns 100 node-a ws/chat-1 talk=80
conns 60 node-c ws/chat-1 talk=40
at 9s large %d
%s
`, c.large, c.faults), seed)
				var got []string
				open := 0
				for _, ev := range replay(world.run(70*time.Second), DefaultTick, nil) {
					b, ok := ev.Body.(*event.IncidentFinding)
					switch {
					case !ok:
					case ev.Type == event.IncidentOpened:
						open++
						if got = append(got, b.Incident.Rule); b.Incident.Culprit.Name != "node-a" {
							t.Errorf("at %s: %s", ev.Time.Sub(world.epoch), b.Incident.Title)
						}
					case ev.Type == event.IncidentClosed:
						open--
						t.Logf("at %s: %s", ev.Time.Sub(world.epoch), b.Incident.Why)
					}
				}
				if !slices.Equal(got, c.want) || open != 1 {
					t.Errorf("%v, %d of them open at last, want %v", got, open, c.want)
				}
			})
		}
	}
}
