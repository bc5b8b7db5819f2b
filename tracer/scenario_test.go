package tracer

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

var update = flag.Bool("update", false, "write the findings that the scenarios give into their files")

// TestScenarios runs every testdata/scenario/*.txtar: its world gives facts, and the findings about incidents must be the
// ones that stand in the file.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenario/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar := readArchive(t, file)
			world, until := buildWorld(t, ar.section("world"), 1)
			lines := replay(world.run(until), DefaultTick, nil)
			for _, ev := range lines {
				if b, ok := ev.Body.(*event.IncidentFinding); ok {
					checkCase(t, &b.Incident)
				}
			}
			got := describe(world, lines)
			if *update {
				ar.write(t, file, "findings", got)
			}
			if diff := cmp.Diff(ar.section("findings"), got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// archive is a file of sections in the txtar format: a comment, then "-- name --" lines with what belongs to them.
type archive struct {
	comment  string
	names    []string
	sections map[string]string
}

func readArchive(t testing.TB, file string) *archive {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a := &archive{sections: make(map[string]string)}
	name := ""
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(n, " --\n") {
			name = strings.TrimSuffix(n, " --\n")
			a.names = append(a.names, name)
			continue
		}
		if name == "" {
			a.comment += line
		} else {
			a.sections[name] += line
		}
	}
	return a
}

func (a *archive) section(name string) string { return a.sections[name] }

// write replaces one section of the file.
func (a *archive) write(t testing.TB, file, name, data string) {
	t.Helper()
	a.sections[name] = data
	text := a.comment
	for _, n := range a.names {
		text += "-- " + n + " --\n" + a.sections[n]
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replay folds facts as a recording is replayed: no timer.
func replay(facts []event.Event, tick time.Duration, extra []int64) []event.Event {
	m := model.New(model.Options{})
	r := newRiver(m, diagnose.New(m), tick, newNumbers("local", "t"))
	r.extra = extra
	var out []event.Event
	for i := range facts {
		out = append(out, r.fold(facts[i:i+1])...)
	}
	return out
}

// describe writes the findings that people see, one a line, with their time since the start.
func describe(s *sim, lines []event.Event) string {
	var b strings.Builder
	stalls, recovered, timeouts := 0, 0, 0
	for _, ev := range lines {
		at := fmt.Sprintf("%8.3fs", ev.Time.Sub(s.epoch).Seconds())
		switch body := ev.Body.(type) {
		case *event.Gap:
			fmt.Fprintf(&b, "%s %s %s\n", at, ev.Type, body.Peer)
		case *event.Stall:
			switch ev.Type {
			case event.TCPStall:
				stalls++
			case event.TCPRecovered:
				recovered++
			case event.TCPTimeout:
				timeouts++
			}
		case *event.IncidentFinding:
			in := &body.Incident
			fmt.Fprintf(&b, "%s %s %s %s %q %s %.2f %s\n", at, ev.Type, in.Rule, in.Culprit.Kind, in.Culprit.Name, in.Culprit.Sure, in.Confidence, in.Severity)
			fmt.Fprintf(&b, "%10s crossing %d, at risk %d, stalled %d, presumed %d, timed out %d", "",
				in.Sockets.Crossing, in.Sockets.AtRisk, in.Sockets.Stalled, in.Sockets.Presumed, in.Sockets.TimedOut)
			if in.SilentSince.OK {
				fmt.Fprintf(&b, "; silent since %.3fs", in.SilentSince.V.Sub(s.epoch).Seconds())
			}
			b.WriteByte('\n')
			switch ev.Type {
			case event.IncidentOpened:
				describeCase(&b, s, in)
			case event.IncidentClosed:
				fmt.Fprintf(&b, "%10s %s\n", "", in.Why)
			}
		}
	}
	fmt.Fprintf(&b, "%d stalls, %d recovered, %d timed out\n", stalls, recovered, timeouts)
	return b.String()
}

func describeCase(b *strings.Builder, s *sim, in *event.Incident) {
	fmt.Fprintf(b, "%10s %s\n", "", in.Title)
	fmt.Fprintf(b, "%10s pods %v services %v clients %+v\n", "", in.Pods, in.Services, in.Clients)
	if in.FirstDeadline.OK {
		fmt.Fprintf(b, "%10s first gives up %.3fs, last %.3fs\n", "",
			in.FirstDeadline.V.Sub(s.epoch).Seconds(), in.LastDeadline.V.Sub(s.epoch).Seconds())
	}
	for _, e := range in.Evidence {
		sign := "+"
		if e.Against {
			sign = "-"
		}
		fmt.Fprintf(b, "%10s %s %s\n", "", sign, e.Text)
	}
	for _, a := range in.Alternatives {
		fmt.Fprintf(b, "%10s ? %.2f %s %s\n", "", a.Confidence, a.Rule, a.Culprit.Name)
	}
}

func splitName(name string) (namespace, rest string) {
	namespace, rest, _ = strings.Cut(name, "/")
	return namespace, rest
}

// buildWorld reads a world, one statement a line:
//
//	node NAME ADDRESS PODCIDR [agent]
//	pod NAMESPACE/NAME NODE ADDRESS [SERVICE]
//	conns N NODE|direct|host POD [talk=K] [every=D] [dialled[=POD|=ADDRESS]]
//	                            dialled=POD by the own node: by an address that this one translates; dialled=ADDRESS: out by the node
//	no inventory|ledger|pods    pods: the inventory is a file of nodes
//	attach D                    agents start then
//	delay NODE D                its agent's facts are late
//	churn D | vanish D          one connection is replaced, one client vanishes, this often
//	at D dead|back|cut|uncut|agentdead|agentback|front|unfront|uplink NODE
//	at D forget NODE K flushed|timeout    K of its entries go
//	at D refuse NODE K              it answers K silent connections with resets, at one moment: their entries' time was over
//	at D invalid NODE K             it answers K talking connections with resets, whose segments are out of the window: their entries stand
//	at D loss NODE PERCENT
//	at D poddead|podremoved POD
//	at D net PREFIX                 its clients vanish
//	at D hung PREFIX                its clients do not read any more
//	at D move NODE NODE             the balancer hands the first one's talking connections to the second
//	at D narrow NODE                it drops full-size segments, which every second talking connection sends
//	at D table NODE ENTRIES REFUSED its table holds so many of 262144, and refused so many more in all
//	at D crowd NODE POD K [PORT]    so many connections by it to a pod, from nowhere that is watched, by ports from this one on
//	at D gone K NODE            K clients behind a node vanish
//	at D quiet K ADDRESS        K of what dialled an address gets no answer any more, the first that are left
//	at D forgets D ADDRESS      something before an address forgets what is silent for longer than that
//	at D asked BY NODE [CONTROL]    a machine has asked a node, and another one if it kept silent; both answer if they can
//	until D
func buildWorld(t testing.TB, text string, seed uint64) (*sim, time.Duration) {
	t.Helper()
	s := newSim(seed)
	until := time.Duration(0)
	for n, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		dur := func(i int) time.Duration {
			d, err := time.ParseDuration(f[i])
			if err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
			return d
		}
		num := func(text string) int {
			v, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
			return v
		}
		switch f[0] {
		case "node":
			s.nodes = append(s.nodes, &simNode{
				name: f[1], ip: netip.MustParseAddr(f[2]), cidr: netip.MustParsePrefix(f[3]), agent: len(f) > 4,
			})
		case "pod":
			p := &simPod{name: f[1], node: s.node(f[2]), ip: netip.MustParseAddr(f[3])}
			if len(f) > 4 {
				p.svc = f[4]
			}
			s.pods = append(s.pods, p)
		case "conns":
			talk, every := 0, 50*time.Millisecond
			before := len(s.conns)
			for _, o := range f[4:] {
				if v, ok := strings.CutPrefix(o, "talk="); ok {
					talk = num(v)
				}
				if v, ok := strings.CutPrefix(o, "every="); ok {
					every, _ = time.ParseDuration(v)
				}
			}
			s.connect(num(f[1]), f[2], s.pod(f[3]), talk, every)
			for _, c := range s.conns[before:] {
				if c.dialled = strings.HasPrefix(f[len(f)-1], "dialled"); c.dialled {
					c.local.Port = uint16(30000 + c.cookie)
					c.peer.Port = 443
					to, ok := strings.CutPrefix(f[len(f)-1], "dialled=")
					switch addr, err := netip.ParseAddr(to); {
					case ok && err == nil:
						c.peer.IP, c.out = addr, c.hop != nil
					case ok:
						if c.far = s.pod(to); c.hop == c.pod.node {
							c.peer = event.Endpoint{IP: netip.MustParseAddr("10.52.0.50"), Port: 80}
						}
					}
				}
			}
		case "no":
			s.inventory = s.inventory && f[1] != "inventory"
			s.ledger = s.ledger && f[1] != "ledger"
			s.podless = s.podless || f[1] == "pods"
		case "delay":
			s.node(f[1]).delay = dur(2)
		case "attach":
			s.attach = dur(1)
		case "churn":
			s.churn = dur(1)
		case "vanish":
			s.vanish = dur(1)
		case "until":
			until = dur(1)
		case "at":
			s.todo = append(s.todo, simFault{dur(1), fault(t, s, f[2:], num)})
		default:
			t.Fatalf("line %d: unknown statement %q", n+1, line)
		}
	}
	return s, until
}

func fault(t testing.TB, s *sim, f []string, num func(string) int) func() {
	switch f[0] {
	case "forget":
		return func() { s.forget(s.node(f[1]), num(f[2]), f[3]) }
	case "refuse":
		return func() { s.refuse(s.node(f[1]), num(f[2])) }
	case "invalid":
		return func() { s.answer(s.node(f[1]), num(f[2]), func(c *simConn) bool { return c.every > 0 }) }
	case "podremoved":
		return func() { s.pod(f[1]).dead = true; s.tellRemoved(s.pod(f[1])) }
	case "net", "hung":
		return func() {
			s.each(netip.MustParsePrefix(f[1]), func(c *simConn) { c.gone, c.hung = f[0] == "net", f[0] == "hung" })
		}
	case "move":
		return func() { s.move(s.node(f[1]), s.node(f[2])) }
	case "narrow":
		return func() { s.narrow(s.node(f[1])) }
	case "large":
		return func() { s.large(num(f[1])) }
	case "table":
		return func() { s.table(s.node(f[1]), num(f[2]), num(f[3])) }
	case "crowd":
		first := 1024
		if len(f) > 4 {
			first = num(f[4])
		}
		return func() { s.crowd(s.node(f[1]), s.pod(f[2]), num(f[3]), first) }
	case "asked":
		return func() {
			var control *simNode
			if len(f) > 3 {
				control = s.node(f[3])
			}
			s.asked(s.node(f[1]), s.node(f[2]), control)
		}
	case "poddead":
		return func() { s.pod(f[1]).dead = true }
	case "loss":
		return func() { s.node(f[1]).loss = float64(num(f[2])) / 100 }
	case "quiet":
		return func() {
			left := num(f[1])
			for _, c := range s.conns {
				if c.peer.IP == netip.MustParseAddr(f[2]) && left > 0 && !c.gone && c.every > 0 {
					c.gone = true
					left--
				}
			}
		}
	case "forgets":
		after, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			for _, c := range s.conns {
				c.gone = c.gone || c.peer.IP == netip.MustParseAddr(f[2]) && c.every > after
			}
		}
	case "gone":
		return func() {
			left := num(f[1])
			for _, c := range s.conns {
				if c.hop == s.node(f[2]) && left > 0 && !c.gone {
					c.gone = true
					left--
				}
			}
		}
	}
	n := s.node(f[1])
	switch f[0] {
	case "dead":
		return func() { n.dead, s.died = true, s.epoch.Add(max(s.now, s.attach)) }
	case "back": // after a reboot: its table is empty
		return func() {
			n.dead, n.started, n.synced, n.n, n.boot = false, false, false, 0, n.boot+1
			s.forget(n, len(s.conns), "")
		}
	case "cut": // it lives and nothing reaches it or comes from it, its agent's facts included
		return func() { n.dead = true }
	case "uncut":
		return func() { n.dead = false }
	case "agentdead":
		return func() { n.agentDead = true }
	case "agentback":
		return func() { n.agentDead, n.started, n.synced, n.n, n.boot = false, false, false, 0, n.boot+1 }
	case "front":
		return func() { n.front = true }
	case "unfront":
		return func() { n.front = false }
	case "uplink":
		return func() { n.uplink = true }
	}
	t.Fatalf("unknown fault %v", f)
	return nil
}
