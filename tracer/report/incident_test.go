package report

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// gone is a snapshot three minutes after node-a went.
func gone() *model.Snapshot {
	ip := netip.MustParseAddr("10.9.4.11")
	since := now.Add(-188 * time.Second)
	in := event.Incident{
		ID: "agent/node-b-3f1c-9021", Rule: "node-gone", Severity: event.Critical, Title: "node-a gone", Confidence: 0.97,
		Culprit:     event.Culprit{Kind: event.CulpritNode, Name: "node-a", IP: ip, Sure: event.Proved},
		SilentSince: event.Known(since), Opened: since.Add(600 * time.Millisecond),
		Sockets:       event.SocketCounts{Crossing: 612, Stalled: 41, Presumed: 567, TimedOut: 4},
		Services:      []event.Hit{{Name: "payments/api", Sockets: 400}, {Name: "shop/cart", Sockets: 212}},
		Clients:       event.ClientCounts{Total: 37, External: 37, Networks: 9},
		FirstDeadline: event.Known(time.Date(2026, 11, 23, 11, 42, 28, 0, time.UTC)),
		LastDeadline:  event.Known(time.Date(2026, 11, 23, 11, 45, 10, 0, time.UTC)),
		Coverage:      event.Coverage{NodesSeen: 11, NodesKnown: 12, LookAge: event.Known(event.Seconds(300 * time.Millisecond)), Silent: []string{"node-a"}, Missing: []string{"nat"}},
		Evidence: []event.Evidence{
			{For: true, Text: "53 of 53 sockets in flight via node-a are stuck; elsewhere 46 of 2,800"},
			{Against: true, Text: "none of its neighbours saw it go"},
		},
		Alternatives: []event.Alternative{{Rule: "nat-lost", Culprit: event.Culprit{Kind: event.CulpritNode, Name: "node-a"}, Confidence: 0.02}},
		Remedy: []event.Remedy{
			{When: "now", Text: "take node-a out of the load balancer", Effect: "no new victims", Risk: "low"},
			{When: "now", Text: "close the dead sockets", Command: "midhop relief --via node-a", Effect: "608 sockets", Risk: "medium", Needs: "root"},
		},
	}
	return &model.Snapshot{
		Clock: now, Complete: true, Totals: model.Totals{Sockets: 3412, Crossing: 2000, Stalled: 41, Presumed: 567},
		Vias: []model.ViaRow{{Via: "node-a", Kind: model.KindNode, IP: ip, Sockets: 612, Stalled: 41, Presumed: 567, Never: 208,
			FirstIs: "lower_bound", First: in.FirstDeadline.V, Incident: in.ID, Agent: "silent", Status: "dead"}},
		Incidents: []model.IncidentView{{Incident: in, Updates: 14, Marks: []model.Mark{
			{Time: since, Text: "last receive through it"}, {Time: since.Add(600 * time.Millisecond), Text: "incident opened", Stalled: 5},
			{Time: since.Add(2 * time.Minute), Text: "Node Ready=Unknown", Stalled: 41},
		}}},
		Trouble: []model.SocketView{
			{Via: event.Via{Node: "node-a"}, Clock: event.ClockRTO, Deadline: in.FirstDeadline.V, DeadlineIs: "lower_bound"},
			{Via: event.Via{Node: "node-z"}, Clock: event.ClockKeepalive, Deadline: now},
		},
	}
}

func textOf(t *testing.T, lines []Line) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteLines(&b, lines); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestIncidentInFull(t *testing.T) {
	s := gone()
	c, ok := CaseOf(s, FirstOpen(s))
	if !ok {
		t.Fatal("the incident was not found")
	}
	cx := Context{Now: now}
	want := `CRITICAL  node-a gone   open 3m07s   rule node-gone   confidence 0.97   updates 14
Culprit   node-a 10.9.4.11  node, proved; its agent is silent; nothing received through it since 11:27:04.000
Impact    612 sockets crossing it: 41 stalled, 567 dead unnoticed, 4 timed out; payments/api 400, shop/cart 212
Hit       37 clients in 9 networks (37 external)
Clock     first gives up >= 11:42:28 (in 12m16s, retransmission); last 11:45:10; 208 never (no keepalive)
Seen      seen from 11 of 12 nodes, 0.3 s ago; silent: node-a; not seen here: nat

TIMELINE
  11:27:04.000  last receive through it                     |                        |
  11:27:04.600  incident opened                             |###                     | 5 stalled
  11:29:04.000  Node Ready=Unknown                          |########################| 41 stalled

EVIDENCE FOR
  + 53 of 53 sockets in flight via node-a are stuck; elsewhere 46 of 2,800

EVIDENCE AGAINST / NOT SEEN
  - none of its neighbours saw it go
  ? not seen here: nat
  ? no agent heard on node-a

REMEDY
  1 now  take node-a out of the load balancer
         effect: no new victims; risk: low
  2 now  close the dead sockets
         midhop relief --via node-a
         effect: 608 sockets; risk: medium; needs: root

ALTERNATIVES CONSIDERED
  0.02  nat-lost, node node-a

id agent/node-b-3f1c-9021, opened 2026-11-23T11:27:04.600Z
`
	if diff := cmp.Diff(want, textOf(t, c.Text(cx, 0))); diff != "" {
		t.Error(diff)
	}
	for _, width := range []int{30, 60, 80} {
		for _, line := range c.Text(cx, width) {
			if line.Width() > width {
				t.Errorf("at %d columns: %q", width, line.String())
			}
		}
	}
}

func TestHeadline(t *testing.T) {
	cx := Context{Now: now}
	for _, test := range []struct {
		name   string
		change func(*model.Snapshot, *event.Incident)
		want   string
	}{
		{"lost counts before noticed", func(*model.Snapshot, *event.Incident) {},
			"INCIDENT critical: node-a gone: 612 connections dead, 45 know it; first gives up >= 11:42:28 (retransmission), 208 never (no keepalive)"},
		{"the deadline is over", func(s *model.Snapshot, in *event.Incident) {
			in.FirstDeadline.V = now.Add(-time.Second)
			s.Vias[0].First = in.FirstDeadline.V
		},
			"INCIDENT critical: node-a gone: 612 connections dead, 45 know it; first was due >= 11:30:11, 208 never (no keepalive)"},
		{"nothing is dead yet", func(s *model.Snapshot, in *event.Incident) {
			in.Sockets = event.SocketCounts{Crossing: 66, AtRisk: 5}
			in.FirstDeadline, s.Vias[0].Never = event.Opt[time.Time]{}, 0
		}, "INCIDENT critical: node-a gone: 66 connections, none dead yet, 5 at risk"},
		{"a lossy node kills nothing by itself", func(s *model.Snapshot, in *event.Incident) {
			in.Rule, in.Title, in.Severity = "node-lossy", "node-a loses packets", event.Warning
			in.Sockets = event.SocketCounts{Crossing: 612, Stalled: 3, AtRisk: 40}
			in.FirstDeadline, s.Vias[0].Never = event.Opt[time.Time]{}, 0
		}, "INCIDENT warning: node-a loses packets: 3 of 612 connections stalled, 40 at risk"},
		{"closed", func(s *model.Snapshot, in *event.Incident) {
			in.Closed, in.Why = event.Known(now), "recovered: packets pass again"
		}, "INCIDENT critical: node-a gone, closed 11:30:12 (recovered: packets pass again) after 3m07s"},
		{"no row in the table", func(s *model.Snapshot, in *event.Incident) { s.Vias, s.Trouble = nil, nil },
			"INCIDENT critical: node-a gone: 612 connections dead, 45 know it; first gives up 11:42:28"},
	} {
		s := gone()
		test.change(s, &s.Incidents[0].Incident)
		c, _ := CaseOf(s, s.Incidents[0].ID)
		if got := c.Headline(cx).String(); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestAnInferenceIsNotShownAsProof(t *testing.T) {
	s := gone()
	s.Incidents[0].Culprit.Sure = event.Inferred
	c, _ := CaseOf(s, s.Incidents[0].ID)
	for _, short := range []bool{false, true} {
		if got := c.Culprit(Context{Now: now}, short).String(); !strings.Contains(got, "inferred and not proved") {
			t.Errorf("an inferred culprit reads %q", got)
		}
	}
}

func TestFirstOpenIsTheWorst(t *testing.T) {
	s := gone()
	worse := s.Incidents[0]
	s.Incidents[0].Severity, s.Incidents[0].ID = event.Warning, "warning"
	s.Incidents = append(s.Incidents, worse)
	if got := FirstOpen(s); got != worse.ID {
		t.Errorf("first is %s", got)
	}
	s.Incidents[1].Closed = event.Known(now)
	if got := FirstOpen(s); got != "warning" {
		t.Errorf("first is %s after the worse one closed", got)
	}
	s.Incidents[0].Closed = event.Known(now)
	if got := FirstOpen(s); got != "" {
		t.Errorf("%s is not open", got)
	}
	order := IncidentOrder(append(s.Incidents, model.IncidentView{Incident: event.Incident{ID: "open", Severity: event.Info}}))
	if order[0].ID != "open" {
		t.Errorf("closed %s stands before an open one", order[0].ID)
	}
}

func TestTroubleTable(t *testing.T) {
	v := model.SocketView{
		Status: "STALLED", Source: "agent/node-b", LastHeard: now.Add(-188 * time.Second), Clock: event.ClockRTO,
		Socket: event.Socket{Local: event.Endpoint{IP: netip.MustParseAddr("10.2.7.31"), Port: 8080}, Peer: event.Endpoint{IP: netip.MustParseAddr("10.9.4.11"), Port: 40112},
			K8s: &event.K8sRef{Namespace: "payments", Pod: "api-7f9c"}},
		Via: event.Via{Node: "node-a", Role: event.ViaEntry}, Client: &event.Client{IP: netip.MustParseAddr("203.0.113.40"), Port: 52110},
		TCP: event.Progress{Retransmits: 9}, Deadline: now.Add(12*time.Minute + 16*time.Second), DeadlineIs: "lower_bound",
	}
	idle, out := v, v
	idle.Status, idle.Clock, idle.Deadline, idle.Client, idle.TCP.Retransmits = "presumed", event.ClockNone, time.Time{}, nil, 0
	out.Status, out.Errno = "timed-out", "ETIMEDOUT"
	s := &model.Snapshot{Trouble: []model.SocketView{v, idle, out}, Omitted: 7}
	want := `STATE      POD / PROCESS      ON        LOCAL                  PEER                   VIA       CLIENT                 RTX   HEARD  CLOCK           LEFT
STALLED    payments/api-7f9c  node-b    10.2.7.31:8080         10.9.4.11:40112        node-a    203.0.113.40:52110       9   3m08s  rto         >=12m16s
presumed   payments/api-7f9c  node-b    10.2.7.31:8080         10.9.4.11:40112        node-a    ?                        0   3m08s  none           never
timed-out  payments/api-7f9c  node-b    10.2.7.31:8080         10.9.4.11:40112        node-a    203.0.113.40:52110       9   3m08s  rto        ETIMEDOUT
7 more in trouble, not kept
`
	if diff := cmp.Diff(want, printed(t, Trouble(Context{Now: now}, s), 0)); diff != "" {
		t.Error(diff)
	}
	if got := printed(t, Trouble(Context{Now: now}, &model.Snapshot{Complete: true, Totals: model.Totals{Sockets: 1}}), 0); !strings.Contains(got, "no stalls seen yet: healthy, 1 socket") {
		t.Errorf("an empty table says\n%s", got)
	}
}

func TestEveryTypeHasALine(t *testing.T) {
	cx := Context{Now: now}
	for _, kind := range event.Types() {
		e := event.Event{Type: kind, Time: now, Source: "agent/node-b", Body: event.NewBody(kind)}
		line := EventLine(cx, &e).String()
		if !strings.HasPrefix(line, "11:30:12.000  node-b      "+kind.String()) || strings.Contains(line, "does not know") || strings.HasSuffix(line, "  ") {
			t.Errorf("%s reads %q", kind, line)
		}
		if strings.Contains(line, "0001") || strings.Contains(line, "invalid") {
			t.Errorf("%s writes what is unknown as if it were known: %q", kind, line)
		}
	}
	e := event.Event{Type: event.TCPStall, Time: now, Source: "engine", Body: &event.Stall{
		Socket: event.Socket{Local: event.Endpoint{IP: netip.MustParseAddr("10.2.7.31"), Port: 8080}, Peer: event.Endpoint{IP: netip.MustParseAddr("10.9.4.11"), Port: 40112},
			Owner: event.Owner{PID: 7, Comm: "wsserver"}},
		Via: event.Via{Node: "node-a", Role: event.ViaEntry}, Client: &event.Client{IP: netip.MustParseAddr("203.0.113.40"), Port: 52110},
		Clock: event.ClockKeepalive, Deadline: event.Known(now.Add(150 * time.Second)), DeadlineIs: "exact",
	}}
	want := "11:30:12.000  engine      tcp.stall         wsserver via node-a  gives up 11:32:42 (keepalive)  10.2.7.31:8080 <- 10.9.4.11:40112, client 203.0.113.40:52110"
	if got := EventLine(cx, &e).String(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
