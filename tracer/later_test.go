package tracer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// laterWorld is a cluster in which something befalls node-a at 10 s, and something else later.
const laterWorld = `
node node-a 10.146.0.11 10.48.1.0/24 agent
node node-b 10.146.0.12 10.48.2.0/24 agent
node node-c 10.146.0.13 10.48.3.0/24 agent
pod ws/chat-1 node-b 10.48.2.5 ws/chat
conns 66 node-a ws/chat-1 talk=13
conns 30 node-c ws/chat-1 talk=13
at 10s %s
at %s %s
`

// TestLaterDeath: a node has a fault that leaves connections hanging, and later it dies, or its agent alone does. Its death
// is found where connections that still worked went with its agent, at whatever moment; the end of its agent is never taken
// for it, nor its death where nothing worked any more; and nothing says that it lives once its agent is missed.
func TestLaterDeath(t *testing.T) {
	for _, c := range []struct {
		first string
		shows bool // connections still work, so that its death shows
	}{
		{"gone 30 node-a", true},
		{"narrow node-a", true},
		{"loss node-a 10", true},
		{"loss node-a 50", true},
		{"forget node-a 20 flushed", true},
		{"front node-a", false},
	} {
		for _, at := range []time.Duration{20, 25, 34, 61} {
			at *= time.Second
			t.Run(fmt.Sprintf("%s, dead at %s", c.first, at), func(t *testing.T) {
				t.Parallel()
				gone := befall(t, c.first, "dead node-a", at)
				if c.shows != (gone != 0) || gone != 0 && (gone < at || gone > at+20*time.Second) {
					t.Errorf("found gone at %s", gone)
				}
			})
			t.Run(fmt.Sprintf("%s, its agent dead at %s", c.first, at), func(t *testing.T) {
				t.Parallel()
				if gone := befall(t, c.first, "agentdead node-a", at); gone != 0 {
					t.Errorf("found gone at %s", gone)
				}
			})
		}
	}
}

// befall lets two things befall node-a and returns when it was found gone, 0 for never.
func befall(t *testing.T, first, then string, at time.Duration) (gone time.Duration) {
	world, _ := buildWorld(t, fmt.Sprintf(laterWorld, first, at, then), uint64(at))
	for _, ev := range replay(world.run(at+25*time.Second), DefaultTick, nil) {
		b, ok := ev.Body.(*event.IncidentFinding)
		if !ok {
			continue
		}
		in, now := &b.Incident, ev.Time.Sub(world.epoch)
		checkCase(t, in)
		switch {
		case in.Culprit.Kind == event.CulpritNode && in.Culprit.Name != "node-a":
			t.Errorf("at %s: %s", now, in.Title)
		case in.Rule == "node-gone" && ev.Type == event.IncidentOpened:
			gone = now
			if in.Culprit.Sure != event.Proved {
				t.Errorf("at %s it is %s", now, in.Culprit.Sure)
			}
		}
		for _, e := range in.Evidence {
			if strings.Contains(e.Text, "lives") && !strings.Contains(e.Text, "still lives is not known") &&
				!strings.Contains(e.Text, "received through it") && now > at+3*time.Second && ev.Type != event.IncidentClosed {
				t.Errorf("at %s, %s after its agent: %s", now, now-at, e.Text)
			}
		}
	}
	return gone
}

// TestLaterWords: what the last telling of a case says of a node whose agent fell silent after the case had begun.
func TestLaterWords(t *testing.T) {
	const ended = "it is silent since, and 2 other agents were heard after it"
	for _, c := range []struct {
		first, at, then string
		rule            string
		want            []string
	}{
		{"front node-a", "40s", "dead node-a", "front-gone", []string{
			"the agent of node-a was heard at 10:00:39.930, after transmissions through it went unanswered: the node lived until then; " + ended,
			"the node itself lived when this began: what failed then is on it, or stands before it; whether it is gone since is not known",
			"the cluster still says Ready=true, as it does for about 50 s after a node went",
		}},
		{"front node-a", "27s", "agentdead node-a\nat 29s asked node-b node-a node-c", "front-gone", []string{
			"and answered at 10:00:29.000 (refused): the node lived then",
			"the node itself lived when it was asked: what fails is on it, or stands before it",
		}},
		{"front node-a", "40s", "cut node-a\nat 40s cut node-c\nat 40s uplink node-b", "front-gone", []string{
			"the node lived until then; nothing was heard since, of no other agent either: whether the node still lives is not known",
			"whether it is gone since is not known",
		}},
		{"gone 30 node-a", "40s", "agentdead node-a", "front-gone", []string{
			"; they fell silent at 10:00:09.990",
			"others go on without them: something was received through node-a at 10:0",
			"the node lived until then; " + ended,
		}},
		{"narrow node-a", "40s", "agentdead node-a", "pmtu-blackhole", []string{"it is not gone", "its agent was heard at 10:00:39.930: it lived then; " + ended}},
		{"loss node-a 10", "40s", "agentdead node-a", "node-lossy", []string{"its agent was heard at 10:00:39.930: it lived then; " + ended}},
		{"forget node-a 20 flushed", "20s", "agentdead node-a", "nat-lost", []string{"last at 10:00:19.930: the node lived then; " + ended}},
	} {
		t.Run(c.first+", "+c.then, func(t *testing.T) {
			t.Parallel()
			world, _ := buildWorld(t, fmt.Sprintf(laterWorld, c.first, c.at, c.then), 1)
			var last *event.Incident
			for _, ev := range replay(world.run(60*time.Second), DefaultTick, nil) {
				if b, ok := ev.Body.(*event.IncidentFinding); ok && b.Incident.Rule == c.rule {
					last = &b.Incident
				}
			}
			if last == nil {
				t.Fatalf("no %s", c.rule)
			}
			said := ""
			for _, e := range last.Evidence {
				said += e.Text + "\n"
			}
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("says\n%swant %q", said, want)
				}
			}
		})
	}
}
