package trial

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/world"
)

// Break is an invariant that a world has broken.
type Break struct {
	Rule string        // its name, one of [Invariants]
	At   time.Duration // since the world's instant zero
	Text string
}

// Invariants by their names, with what they demand.
var Invariants = map[string]string{
	"healthy-proved":   "a node, pod or service is named as proved only if a primitive touched it (muted-proved aside)",
	"muted-proved":     "nor where chance silences its agent at the moment when something else takes its connections: there is no sign that tells the two apart",
	"healthy-inferred": "it is named as inferred only if a primitive touched it, or what stands before it where it says so",
	"wrong-proof":      "a rule is proved only where a primitive of its kind touched its culprit",
	"no-alternative":   "what is inferred lists what else it may be",
	"silence":          "three sockets of one cause that hang for three seconds, to be seen by an agent, have an incident three seconds later",
	"twice":            "one cause has one incident",
	"recovered":        "an incident is closed as recovered only when what hung goes on",
	"overcounted":      "sockets counted to a node cross it",
	"null":             "without a fault nothing is opened above info",
	"differs":          "the same facts in other batches, and agents in another order, give the same incidents",
}

// Held are the invariants that no world may break today. The others are counted, printed and being worked on: see
// docs/known-issues.md.
var Held = []string{"healthy-proved", "wrong-proof", "no-alternative", "null", "overcounted", "differs"}

// silenceBound is how long an incident may take after its third victim has hung for three seconds.
const silenceBound = 3 * time.Second

// Case is an incident from first to last.
type Case struct {
	ID       string
	Opened   time.Duration
	Closed   time.Duration // 0: open at the end
	Versions []version
	Why      string
}

type version struct {
	at time.Duration
	in *event.Incident
}

func (c *Case) last() *event.Incident { return c.Versions[len(c.Versions)-1].in }

// undone says whether the judge took the case back, or put another in its place.
func (c *Case) undone() bool {
	return strings.HasPrefix(c.Why, "superseded") || strings.HasPrefix(c.Why, "retracted")
}

func (c *Case) openAt(t time.Duration) bool {
	return c.Opened <= t && (c.Closed == 0 || t < c.Closed)
}

// Verdict is what a world's findings came to.
type Verdict struct {
	Plan   *world.Plan
	Truth  *world.Truth
	Cases  []*Case
	Breaks []Break
	Scores []Score
	Hedged int // times that a healthy node was named with "or what stands before it", and it was that
}

// Judge holds findings against the truth.
func Judge(p *world.Plan, truth *world.Truth, found []event.Event) *Verdict {
	v := &Verdict{Plan: p, Truth: truth}
	v.gather(found)
	v.names()
	v.silence()
	v.twice()
	v.recovered()
	v.counts()
	v.null()
	v.score()
	return v
}

// gather makes cases of findings.
func (v *Verdict) gather(found []event.Event) {
	byID := make(map[string]*Case)
	for i := range found {
		b, ok := found[i].Body.(*event.IncidentFinding)
		if !ok {
			continue
		}
		in := &b.Incident
		at := found[i].Time.Sub(world.Epoch)
		c := byID[in.ID]
		if c == nil || c.Closed != 0 && found[i].Type == event.IncidentOpened && !strings.HasPrefix(c.Why, "recovered") && !strings.HasPrefix(c.Why, "ended") {
			c = &Case{ID: in.ID, Opened: at}
			byID[in.ID] = c
			v.Cases = append(v.Cases, c)
		}
		c.Versions = append(c.Versions, version{at, in})
		c.Closed, c.Why = 0, ""
		if found[i].Type == event.IncidentClosed {
			c.Closed, c.Why = at, in.Why
		}
	}
}

func (v *Verdict) broken(rule string, at time.Duration, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	for _, b := range v.Breaks {
		if b.Rule == rule && b.Text == text {
			return
		}
	}
	v.Breaks = append(v.Breaks, Break{rule, at, text})
}

// object is what a culprit is in the plan: its kind and name, empty where it is no object of it.
func (v *Verdict) object(c *event.Culprit) (kind, name string) {
	switch c.Kind {
	case event.CulpritNode, event.CulpritLocalNode:
		return "node", c.Name
	case event.CulpritPod:
		if kind, name := v.holder(c.IP); kind != "" && !strings.Contains(c.Name, "/") {
			return kind, name
		}
		return "pod", c.Name
	case event.CulpritService:
		return "service", c.Name
	case event.CulpritClient:
		return "clients", c.Name
	case event.CulpritAddress:
		return v.holder(c.IP)
	}
	return "", ""
}

// holder is the object that has an address at the start.
func (v *Verdict) holder(ip netip.Addr) (kind, name string) {
	if ip.Is6() { // told addresses of plans of family 6 carry the plan's own in their last four bytes
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	for i := range v.Plan.Nodes {
		n := &v.Plan.Nodes[i]
		if n.IP == ip || n.Pods.Addr().Next() == ip {
			return "node", n.Name
		}
	}
	for i := range v.Plan.Pods {
		if v.Plan.Pods[i].IP == ip {
			return "pod", v.Plan.Pods[i].Name
		}
	}
	for i := range v.Plan.Services {
		if s := &v.Plan.Services[i]; s.VIP == ip || s.IP == ip {
			return "service", s.Name
		}
	}
	return "", ""
}

// touches are the touches of an object until an instant, those of null primitives left out.
func (v *Verdict) touches(kind, name string, at time.Duration) (all []world.Touch) {
	for _, t := range v.Truth.Touched {
		if t.At <= at && t.Name == name && t.Kind == kind && (!slices.Contains(world.Null, t.What) || t.What == "drain") {
			all = append(all, t)
		}
	}
	if kind == "service" { // what happens to all that stands behind or before it happens to it
		s := v.service(name)
		for _, t := range v.Truth.Touched {
			if s != nil && t.At <= at && (slices.Contains(s.Backends, t.Name) || slices.Contains(s.Entries, t.Name)) && (!slices.Contains(world.Null, t.What) || t.What == "drain") {
				all = append(all, t)
			}
		}
	}
	return all
}

func (v *Verdict) service(name string) *world.Service {
	for i := range v.Plan.Services {
		if v.Plan.Services[i].Name == name {
			return &v.Plan.Services[i]
		}
	}
	return nil
}

// names checks whom incidents name.
func (v *Verdict) names() {
	for _, c := range v.Cases {
		for _, x := range c.Versions {
			kind, name := v.object(&x.in.Culprit)
			if kind == "" || kind == "clients" {
				continue
			}
			proved := x.in.Culprit.Sure == event.Proved
			touched := v.touches(kind, name, x.at)
			switch {
			case len(touched) == 0 && !proved && v.before(x.in):
				v.Hedged++
			case len(touched) == 0 && proved && v.muted(name, x.at):
				v.broken("muted-proved", x.at, "%s %s: %s", kind, name, x.in.Rule)
			case len(touched) == 0 && proved:
				v.broken("healthy-proved", x.at, "%s %s: %s", kind, name, x.in.Rule)
			case len(touched) == 0:
				v.broken("healthy-inferred", x.at, "%s %s: %s", kind, name, x.in.Rule)
			case proved && !slices.ContainsFunc(touched, func(t world.Touch) bool { return fits(x.in.Rule, t.What) }):
				v.broken("wrong-proof", x.at, "%s %s: %s after %s", kind, name, x.in.Rule, touched[0].What)
			}
			if !proved && len(touched) == 0 && len(x.in.Alternatives) == 0 && !strings.Contains(x.in.Title, " or ") {
				v.broken("no-alternative", x.at, "%s %s: %s", kind, name, x.in.Title)
			}
		}
	}
}

// muted says whether a null primitive had silenced a node's agent shortly before an instant.
func (v *Verdict) muted(node string, at time.Duration) bool {
	return slices.ContainsFunc(v.Truth.Touched, func(t world.Touch) bool {
		return t.Name == node && (t.What == "agent" || t.What == "deaf" || t.What == "late") && t.At <= at && at <= t.Until+5*time.Second
	})
}

// before says whether an incident names a node "or what stands before it" and something that stands before nodes was touched:
// from one place without a sign of the node's own life the two cannot be told apart.
func (v *Verdict) before(in *event.Incident) bool {
	return strings.Contains(in.Title, "or what stands before") && slices.ContainsFunc(v.Truth.Touched, func(t world.Touch) bool {
		return t.Kind == "clients" || t.Kind == "service"
	})
}

// silence checks that what hangs is said.
func (v *Verdict) silence() {
	since := make([]time.Duration, len(v.Plan.Faults))
	for _, m := range v.Truth.Moments {
		for f := range m.Faults {
			if m.Faults[f].Long < 3 || v.over(f, m.At) || slices.ContainsFunc(v.Cases, func(c *Case) bool { return c.openAt(m.At) }) {
				since[f] = 0
				continue
			}
			if since[f] == 0 {
				since[f] = m.At
			}
			if m.At-since[f] >= silenceBound && v.Plan.Faults[f].What != "vanish" {
				v.broken("silence", since[f], "%s %s: sockets hang and nothing is said", v.Plan.Faults[f].What, v.Plan.Faults[f].Who)
			}
		}
	}
}

// over says whether a fault has healed: what still hangs then waits for its own clock only.
func (v *Verdict) over(fault int, at time.Duration) bool {
	f := &v.Plan.Faults[fault]
	return f.For > 0 && at >= f.At+f.For
}

// by is the fault for whose sake a case stands, -1 where none touched its culprit.
func (v *Verdict) by(c *Case) int {
	kind, name := v.object(&c.last().Culprit)
	best := -1
	for _, t := range v.touches(kind, name, c.Opened+time.Second) {
		if t.Direct || best < 0 {
			best = t.Fault
		}
	}
	return best
}

// twice checks that one cause has one incident.
func (v *Verdict) twice() {
	seen := make(map[int]*Case)
	for _, c := range v.Cases {
		f := v.by(c)
		if f < 0 || c.undone() {
			continue
		}
		if first := seen[f]; first != nil && first.last().Culprit.Name == c.last().Culprit.Name && touchedOnce(v, c) {
			v.broken("twice", c.Opened, "%s %s: %s and then %s", v.Plan.Faults[f].What, v.Plan.Faults[f].Who, first.last().Rule, c.last().Rule)
		}
		if seen[f] == nil {
			seen[f] = c
		}
	}
}

// touchedOnce says whether one fault alone touched a case's culprit.
func touchedOnce(v *Verdict, c *Case) bool {
	kind, name := v.object(&c.last().Culprit)
	all := v.touches(kind, name, v.Plan.Until)
	for _, t := range all {
		if t.Fault != all[0].Fault {
			return false
		}
	}
	return true
}

// moment is the truth at an instant.
func (v *Verdict) moment(at time.Duration) *world.Moment {
	best := &v.Truth.Moments[0]
	for i := range v.Truth.Moments {
		if v.Truth.Moments[i].At <= at {
			best = &v.Truth.Moments[i]
		}
	}
	return best
}

// recovered checks closings.
func (v *Verdict) recovered() {
	for _, c := range v.Cases {
		f := v.by(c)
		if f < 0 || !strings.HasPrefix(c.Why, "recovered") {
			continue
		}
		t := v.moment(c.Closed).Faults[f]
		if bad := t.Hanging + t.Lost; t.Ever >= 3 && bad*5 > t.Ever {
			v.broken("recovered", c.Closed, "%s %s: recovered with %d of %d lost and %d hanging", v.Plan.Faults[f].What, v.Plan.Faults[f].Who, t.Lost, t.Ever, t.Hanging)
		}
	}
}

// counts checks that sockets counted to a node cross it.
func (v *Verdict) counts() {
	for _, c := range v.Cases {
		for _, x := range c.Versions {
			kind, name := v.object(&x.in.Culprit)
			if kind != "node" {
				continue
			}
			k := slices.IndexFunc(v.Plan.Nodes, func(n world.Node) bool { return n.Name == name })
			most := 0
			for i := range v.Truth.Moments {
				if m := &v.Truth.Moments[i]; k >= 0 && m.At <= x.at+time.Second {
					most = max(most, m.Cross[k])
				}
			}
			n := x.in.Sockets
			if live := n.Crossing - n.TimedOut - n.Reset - n.GaveUp; k >= 0 && live > most+2 {
				v.broken("overcounted", x.at, "%s: %d counted, %d crossed it at most", name, live, most)
			}
		}
	}
}

// null checks worlds without a fault.
func (v *Verdict) null() {
	for _, f := range v.Plan.Faults {
		if !slices.Contains(world.Null, f.What) {
			return
		}
	}
	for _, c := range v.Cases {
		for _, x := range c.Versions {
			if x.in.Severity != event.Info {
				v.broken("null", x.at, "%s %s: %s", x.in.Rule, x.in.Culprit.Name, x.in.Severity)
				break
			}
		}
	}
}
