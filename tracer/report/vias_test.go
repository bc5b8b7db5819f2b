package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

var now = time.Date(2026, 11, 23, 11, 30, 12, 0, time.UTC)

// ws is the WebSocket pod that was counted by hand: nine peer addresses, five of them other nodes.
func ws() *model.Snapshot {
	node := func(name, ip string, sockets int, spot string, age time.Duration, entries uint64) model.ViaRow {
		r := model.ViaRow{
			Via: name, Kind: model.KindNode, IP: netip.MustParseAddr(ip), Sockets: sockets, Status: "ok",
			Pods: []string{"ws/chat-0"}, Services: []string{"ws/chat"},
			Node: event.Node{Name: name, UID: "u-" + name, Spot: spot, Created: now.Add(-age)},
		}
		if entries > 0 {
			r.Table = event.Table{Node: name, Entries: entries, Max: 262144}
		}
		return r
	}
	group := func(name string, kind model.ViaKind, sockets int) model.ViaRow {
		r := model.ViaRow{Via: name, Kind: kind, Sockets: sockets, Status: "ok"}
		if sockets > 0 {
			r.Pods, r.Services = []string{"ws/chat-0"}, []string{"ws/chat"}
		}
		return r
	}
	local := group("(this node)", model.KindLocal, 4259)
	local.Node = event.Node{Name: "node-12", UID: "u-12"}
	return &model.Snapshot{
		Version: 1, Clock: now, Since: now.Add(-time.Minute), Complete: true,
		Totals: model.Totals{Sockets: 18714, Crossing: 10130},
		Vias: []model.ViaRow{
			group("(pods)", model.KindPod, 194+228+3903),
			local,
			node("node-60", "10.146.0.60", 4225, "preemptible", 21*time.Hour+40*time.Minute, 61200),
			node("node-3", "10.146.0.3", 4224, "preemptible", 3*time.Hour, 58999),
			node("node-10", "10.146.0.10", 833, "", 0, 0),
			node("node-98", "10.146.0.98", 449, "", 0, 0),
			node("node-11", "10.146.0.11", 399, "", 0, 0),
			group("(balancer)", model.KindDirect, 0),
		},
		Coverage: event.Coverage{NodesSeen: 1, NodesKnown: 12, LookAge: event.Known(event.Seconds(140 * time.Millisecond))},
	}
}

// wsLimits are those of the server: Go's keepalive of its day, and Linux' defaults.
var wsLimits = event.Limits{
	Keepalive: true, KeepaliveTime: event.Seconds(15 * time.Second), KeepaliveInterval: event.Seconds(15 * time.Second), KeepaliveProbes: 9,
	Retries2: 15,
}

func printed(t *testing.T, table Table, width int) string {
	t.Helper()
	var b bytes.Buffer
	if err := table.Write(&b, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestViasIsTheFrontDoor(t *testing.T) {
	o := ViaOptions{Context: Context{Now: now}, Sample: []model.SocketView{{Limits: wsLimits}, {Limits: wsLimits}}}
	want := `VIA            KIND    SOCKETS  SHARE  DOOMED  PODS  SERVICE   NODE IS           CONNTRACK
node-60        node      4,225   23 %       0     1  ws/chat   preemptible 21h   61k/262k
node-3         node      4,224   23 %       0     1  ws/chat   preemptible 3h    58k/262k
node-10        node        833    4 %       0     1  ws/chat   standard
node-98        node        449    2 %       0     1  ws/chat   standard
node-11        node        399    2 %       0     1  ws/chat   standard
(this node)    local     4,259   23 %       0     1  ws/chat   standard
(pods)         pod       4,325   23 %       0     1  ws/chat
(balancer)     direct        0    0 %
10,130 of 18,714 sockets cross another node. Losing node-60 kills 4,225 of ws/chat: idle ones notice after 150 s, writing ones after 15 min or more.
seen from 1 of 12 nodes, 0.1 s ago
`
	got := printed(t, Vias(ws(), o), 0)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, width := range []int{40, 80, 120} {
		for line := range strings.Lines(printed(t, Vias(ws(), o), width)) {
			if w := Width(strings.TrimRight(line, "\n")); w > width {
				t.Errorf("at %d columns a line has %d: %q", width, w, line)
			}
		}
	}
}

func TestViasSaysOnlyWhatIsKnown(t *testing.T) {
	cx := ViaOptions{Context: Context{Now: now}}
	s := ws()
	if got := printed(t, Vias(s, cx), 0); strings.Contains(got, "notice") {
		t.Errorf("without limits nothing is known of when sockets notice:\n%s", got)
	}
	s.Vias[2].Incident = "x"
	s.Incidents = []model.IncidentView{{Incident: event.Incident{ID: "x", Rule: "node-gone", Severity: event.Critical, Title: "node-60 gone",
		Sockets: event.SocketCounts{Crossing: 4225, Stalled: 40, Presumed: 4100}}}}
	got := printed(t, Vias(s, cx), 0)
	for _, want := range []string{"INCIDENT critical: node-60 gone: 4,140 connections dead, 40 know it\n", "Losing node-3 kills 4,224"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	empty := &model.Snapshot{}
	got = printed(t, Vias(empty, cx), 0)
	if !strings.Contains(got, "not looked yet") || strings.Contains(got, "healthy") {
		t.Errorf("a table before the first census says %q", got)
	}
	bare := &model.Snapshot{Complete: true, Totals: model.Totals{Sockets: 3}, Vias: []model.ViaRow{{Via: "192.0.2.1", Kind: model.KindAddress, Sockets: 3}}}
	if got = printed(t, Vias(bare, cx), 0); !strings.Contains(got, "3 sockets; no list of nodes was given") {
		t.Errorf("a host without inventory says\n%s", got)
	}
}

func TestViaJSON(t *testing.T) {
	raw, err := json.Marshal(NewViaJSON(ws()))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []struct {
			Via, Kind string
			Sockets   int
			Share     float64
			Pods      []string
			Services  []string
			Node      map[string]any
			Conntrack map[string]int
		}
		Crossing, Total int
		Coverage        map[string]any
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Crossing != 10130 || got.Total != 18714 || len(got.Rows) != 8 {
		t.Errorf("crossing %d of %d in %d rows", got.Crossing, got.Total, len(got.Rows))
	}
	first, last := got.Rows[0], got.Rows[7]
	if first.Via != "node-60" || first.Conntrack["entries"] != 61200 || first.Conntrack["max"] != 262144 || first.Node["spot"] != "preemptible" {
		t.Errorf("first row %+v", first)
	}
	if s := fmt.Sprintf("%.4f", first.Share); s != "0.2258" {
		t.Errorf("share %s", s)
	}
	if last.Via != "(balancer)" || last.Node != nil || last.Conntrack != nil || last.Pods == nil || last.Services == nil {
		t.Errorf("last row %+v", last)
	}
	if got.Coverage["nodes_known"] != float64(12) {
		t.Errorf("coverage %v", got.Coverage)
	}
}

func TestNotice(t *testing.T) {
	view := func(change func(*event.Limits)) model.SocketView {
		l := wsLimits
		change(&l)
		return model.SocketView{Limits: l}
	}
	same := func(*event.Limits) {}
	for _, test := range []struct {
		name    string
		sockets []model.SocketView
		want    string
	}{
		{"nothing known", nil, ""},
		{"limits not read", []model.SocketView{{}}, ""},
		{"defaults", []model.SocketView{view(same)}, "idle ones notice after 150 s, writing ones after 15 min or more"}, // 924.6 s
		{"tcp_retries2=8", []model.SocketView{view(func(l *event.Limits) { l.Retries2 = 8 })},
			"idle ones notice after 150 s, writing ones after 102 s or more"}, // 102.2 s
		{"no keepalive", []model.SocketView{view(func(l *event.Limits) { l.Keepalive = false })},
			"idle ones never notice (no keepalive), writing ones after 15 min or more"},
		{"half without", []model.SocketView{view(same), view(func(l *event.Limits) { l.Keepalive = false })},
			"idle ones notice after 150 s, 50 % never (no keepalive), writing ones after 15 min or more"},
		{"user timeout", []model.SocketView{view(func(l *event.Limits) { l.UserTimeout = event.Seconds(30 * time.Second) })},
			"idle ones notice after 30 s, writing ones after 30 s"},
		{"Linux' keepalive", []model.SocketView{view(func(l *event.Limits) {
			l.KeepaliveTime, l.KeepaliveInterval = event.Seconds(2*time.Hour), event.Seconds(75*time.Second)
		})}, "idle ones notice after 2 h 11 min, writing ones after 15 min or more"},
	} {
		if got := NoticeOf(test.sockets).String(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
