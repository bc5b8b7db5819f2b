package diagnose

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// peerUnreachable composes the case that an address answers nothing any more which no inventory names. It is always
// inferred: from here, the peer and everything on the way to it look the same.
func (j *Judge) peerUnreachable(c *incident, s *suspect, im *model.Impact) {
	b := &c.body
	name := s.hop.Key.IP.String()
	b.Severity = event.Warning
	b.Culprit = event.Culprit{Kind: event.CulpritAddress, Name: name, IP: s.hop.Key.IP, Sure: event.Inferred}
	b.Title = name + " unreachable"
	n := im.AtRisk + im.Stalled + im.TimedOut
	b.Confidence = round2(0.6 + 0.2*float64(n)/float64(n+5))
	other := event.Culprit{Kind: event.CulpritUnknown, Name: "the way to " + name, Sure: event.Inferred}
	if len(s.elsewhere) == 0 {
		b.Confidence = 0.5
		other = event.Culprit{Kind: event.CulpritUnknown, Name: "this machine's own uplink", Sure: event.Inferred}
	}
	b.Alternatives = []event.Alternative{{Rule: ruleUnexplained, Culprit: other, Confidence: round2(1 - b.Confidence)}}
	var e brief
	e.silence(c, s, im, name)
	e.clocks(im)
	e.progress(s)
	e.con(nil, "no inventory names %s: with --nodes FILE its node would be named", name)
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "look whether the machine at " + name + " lives, and what stands between",
			Effect: "tells a dead peer from a dead path", Risk: "none",
		},
		closeSockets(s.hop.Key.IP, 0),
		{
			When: "soon", Text: "let sockets notice earlier: keepalive, and TCP_USER_TIMEOUT or net.ipv4.tcp_retries2=8",
			Effect: "a writing socket notices after about 100 s instead of 15 minutes", Risk: "low: peers that are away for longer lose their connection",
		},
	}
}
