package uitest

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui"
)

// Now is the wall clock of the fixtures.
var Now = time.Date(2026, 11, 23, 11, 30, 12, 0, time.UTC)

func ago(d time.Duration) time.Time { return Now.Add(-d) }

// probes are those of a machine without kprobes: the NAT programs do not load.
func probes() []event.Probe {
	return []event.Probe{
		{Fact: "retransmit", Rung: "tp_btf", Precise: true}, {Fact: "error", Rung: "tp_btf", Precise: true},
		{Fact: "reset", Rung: "tp_btf", Precise: true}, {Fact: "state", Rung: "tp_btf", Precise: true},
		{Fact: "probe", Rung: "census", Why: "no fentry here: unanswered probes are seen by the census"},
		{Fact: "sockets", Rung: "iter/task_file", Precise: true},
		{Fact: "nat", Rung: "ctnetlink", Why: "fexit refused: kernel built without CONFIG_FUNCTION_TRACER"},
	}
}

func agent(node string, heard time.Duration, silent bool) model.AgentView {
	return model.AgentView{Source: "agent/" + node, Node: node, Heard: ago(heard), Silent: silent, Probes: probes(), Sockets: 133, CensusAt: ago(400 * time.Millisecond)}
}

func nodeRow(name, ip string, sockets, active int) model.ViaRow {
	return model.ViaRow{
		Via: name, Kind: model.KindNode, IP: netip.MustParseAddr(ip), Because: "status InternalIP",
		Sockets: sockets, Active: active, Status: "ok", Agent: "heard", Clients: sockets,
		Pods: []string{"ws/chat-7f9c"}, Services: []string{"ws/chat"}, LastHeard: ago(120 * time.Millisecond),
		Node:  event.Node{Name: name, UID: "u-" + name, Zone: "eu-1b", Ready: "true", Created: ago(30 * 24 * time.Hour)},
		Table: event.Table{Node: name, Entries: uint64(sockets) * 14, Max: 262144},
	}
}

// Starting is before the first look: probes are attached one after another.
func Starting() *model.Snapshot {
	a := agent("node-b", 0, false)
	a.Probes = a.Probes[:5]
	return &model.Snapshot{Version: 1, Clock: Now, Since: ago(time.Second), Node: "node-b", Agents: []model.AgentView{a}}
}

// Bare is a machine without any TCP connection.
func Bare() *model.Snapshot {
	return &model.Snapshot{
		Version: 2, Clock: Now, Since: ago(time.Second), Node: "host", Complete: true, Agents: []model.AgentView{agent("host", 0, false)},
		Coverage: event.Coverage{NodesSeen: 1, LookAge: event.Known(event.Seconds(300 * time.Millisecond)), Since: ago(time.Second)},
	}
}

// Healthy is a cluster of twelve nodes through which a WebSocket service is spread, seen from one of them.
func Healthy() *model.Snapshot {
	rows := []model.ViaRow{
		nodeRow("node-60", "10.146.0.60", 4225, 845), nodeRow("node-3", "10.146.0.3", 4224, 844),
		nodeRow("node-10", "10.146.0.10", 833, 166), nodeRow("node-98", "10.146.0.98", 449, 90), nodeRow("node-11", "10.146.0.11", 399, 80),
		{Via: "(this node)", Kind: model.KindLocal, Sockets: 4259, Active: 850, Status: "ok", LastHeard: ago(0), Pods: []string{"ws/chat-7f9c"}, Services: []string{"ws/chat"}},
		{Via: "(pods)", Kind: model.KindPod, Sockets: 4325, Active: 860, Status: "ok", LastHeard: ago(0), Pods: []string{"ws/chat-7f9c"}, Services: []string{"ws/chat"}},
		{Via: "(balancer)", Kind: model.KindDirect, Status: "ok"},
	}
	rows[0].Node.Spot, rows[0].Node.Created = "preemptible", ago(21*time.Hour)
	rows[1].Node.Spot, rows[1].Node.Created = "preemptible", ago(3*time.Hour)
	return &model.Snapshot{
		Version: 10, Clock: Now, Since: ago(26 * time.Minute), Node: "node-12", Complete: true,
		Totals: model.Totals{Sockets: 18714, Crossing: 10130, Active: 3735}, Vias: rows,
		Agents:   []model.AgentView{agent("node-12", 0, false)},
		Coverage: event.Coverage{NodesSeen: 1, NodesKnown: 12, LookAge: event.Known(event.Seconds(400 * time.Millisecond)), Since: ago(26 * time.Minute)},
		Events:   map[string]uint64{"path.traffic": 5200, "nat.created": 31000},
	}
}

// IncidentID is the id of the incident of [NodeGone].
const IncidentID = "agent/node-b-3f1c-9021"

// NodeGone is the small cluster of the lab ten seconds after node-a lost its power.
func NodeGone() *model.Snapshot {
	a := nodeRow("node-a", "10.9.4.11", 66, 0)
	a.Stalled, a.Presumed, a.AtRisk, a.Retrans = 13, 53, 0, 91
	a.Status, a.Agent, a.Incident = "STALLED", "silent", IncidentID
	a.LastHeard, a.Never = ago(10*time.Second), 8
	a.First, a.FirstIs = ago(-139*time.Second), "exact"
	a.Node.Spot, a.Node.Created, a.Node.Ready = "preemptible", ago(21*time.Hour), "true"
	b, c := nodeRow("node-b", "10.9.4.12", 67, 14), nodeRow("node-c", "10.9.4.13", 61, 12)
	c.AtRisk, c.Status, c.Retrans = 2, "at-risk", 5
	c.First, c.FirstIs = ago(-15*time.Minute), "lower_bound"
	local := model.ViaRow{Via: "(this node)", Kind: model.KindLocal, Sockets: 6, Status: "ok", Active: 2, LastHeard: ago(0), Services: []string{"ws/chat"}, Pods: []string{"ws/chat-0"}}
	coverage := event.Coverage{
		NodesSeen: 2, NodesKnown: 3, LookAge: event.Known(event.Seconds(400 * time.Millisecond)), Since: ago(4 * time.Minute), Silent: []string{"node-a"},
	}
	s := &model.Snapshot{
		Version: 20, Clock: Now, Since: ago(4 * time.Minute), Complete: true,
		Totals:   model.Totals{Sockets: 200, Crossing: 194, Active: 28, AtRisk: 2, Stalled: 13, Presumed: 53, Recovered: 4},
		Vias:     []model.ViaRow{a, c, b, local},
		Agents:   []model.AgentView{agent("node-a", 10*time.Second, true), agent("node-b", 0, false), agent("node-c", 0, false)},
		Coverage: coverage,
		Events:   map[string]uint64{"tcp.retransmit": 96, "nat.created": 194, "path.traffic": 480},
		Incidents: []model.IncidentView{{Incident: Incident(coverage), Updates: 3, Marks: []model.Mark{
			{Time: ago(10140 * time.Millisecond), Text: "last receive through node-a"},
			{Time: ago(9900 * time.Millisecond), Text: "first retransmission"},
			{Time: ago(9450 * time.Millisecond), Text: "incident opened", Stalled: 4},
			{Time: ago(7600 * time.Millisecond), Text: "agent on node-a silent", Stalled: 13},
		}}},
	}
	for i := range 15 {
		s.Trouble = append(s.Trouble, Socket(i, a.IP, "node-a", i < 13))
	}
	for i := 13; i < 15; i++ {
		s.Trouble[i] = Socket(i, c.IP, "node-c", false)
	}
	return s
}

// Socket is one socket in trouble through a node.
func Socket(i int, via netip.Addr, node string, stalled bool) model.SocketView {
	v := model.SocketView{
		Key: uint64(i + 1), Source: "agent/node-b", Role: event.RoleAccepted, Status: "at-risk", Seen: ago(400 * time.Millisecond),
		Socket: event.Socket{
			Cookie: uint64(i + 1), Netns: 4026532200, Family: event.IPv4,
			Local: event.Endpoint{IP: netip.MustParseAddr("10.2.7.31"), Port: 8080}, Peer: event.Endpoint{IP: via, Port: uint16(40112 + 76*i)},
			K8s:   &event.K8sRef{Node: "node-b", Namespace: "ws", Pod: fmt.Sprintf("chat-7f9c-%d", i%3), Workload: "deployment/chat", Service: "ws/chat"},
			Owner: event.Owner{PID: 48213, Comm: "wsserver"},
		},
		Via:    event.Via{Node: node, IP: via, Role: event.ViaEntry, Sure: event.Proved, Because: "status InternalIP, entry in its ledger"},
		Client: &event.Client{IP: netip.AddrFrom4([4]byte{203, 0, 113, byte(40 + i)}), Port: 52110, Kind: event.ClientExternal},
		VIP:    &event.Endpoint{IP: netip.MustParseAddr("198.51.100.7"), Port: 443},
		TCP: event.Progress{State: "established", Retransmits: 1, RTO: event.Seconds(400 * time.Millisecond), Unacked: 412,
			SRTT: event.Known(event.Seconds(12 * time.Millisecond)), Timer: event.TimerRetransmit},
		Limits: event.Limits{Keepalive: true, KeepaliveTime: event.Seconds(15 * time.Second), KeepaliveInterval: event.Seconds(15 * time.Second),
			KeepaliveProbes: 9, Retries2: 15},
		LastHeard: ago(10140 * time.Millisecond), Since: ago(9900 * time.Millisecond), Clock: event.ClockRTO,
		Deadline: ago(-915 * time.Second), DeadlineIs: "lower_bound",
	}
	if stalled {
		v.Status, v.TCP.Retransmits, v.TCP.RTO = "STALLED", 5, event.Seconds(12800*time.Millisecond)
	}
	if i == 0 {
		v.Clock, v.Deadline, v.DeadlineIs = event.ClockKeepalive, ago(-139*time.Second), "exact"
	}
	return v
}

// Incident is the case against node-a.
func Incident(coverage event.Coverage) event.Incident {
	return event.Incident{
		ID: IncidentID, Rule: "node-gone", Severity: event.Critical, Title: "node-a gone",
		Culprit:    event.Culprit{Kind: event.CulpritNode, Name: "node-a", IP: netip.MustParseAddr("10.9.4.11"), Sure: event.Proved},
		Confidence: 0.97, SilentSince: event.Known(ago(10140 * time.Millisecond)),
		Sockets:  event.SocketCounts{Crossing: 66, Stalled: 13, Presumed: 53},
		Pods:     []event.Hit{{Name: "ws/chat-7f9c-0", Sockets: 25}, {Name: "ws/chat-7f9c-1", Sockets: 22}, {Name: "ws/chat-7f9c-2", Sockets: 19}},
		Services: []event.Hit{{Name: "ws/chat", Sockets: 66}}, Clients: event.ClientCounts{Total: 66, LoadBalancer: 60, External: 6, Networks: 3},
		FirstDeadline: event.Known(ago(-139 * time.Second)), LastDeadline: event.Known(ago(-918 * time.Second)), Coverage: coverage,
		Evidence: []event.Evidence{
			{For: true, Text: "all 13 sockets with data in flight via node-a are stuck; elsewhere 2 of 26"},
			{For: true, Text: "nothing was received through node-a since 11:30:01.860, before that 20 times a second"},
			{For: true, Text: "all of them stopped within 0.3 s, on 2 nodes"},
			{For: true, Text: "the agent on node-a is silent for 10 s while 2 others are heard"},
			{Against: true, Text: "node-a is Ready, says the API; it says so for up to 50 s after a death"},
		},
		Alternatives: []event.Alternative{
			{Rule: "unexplained", Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: "what stands before node-a"}, Confidence: 0.02},
			{Rule: "nat-lost", Culprit: event.Culprit{Kind: event.CulpritNode, Name: "node-a"}, Confidence: 0.01},
		},
		Remedy: []event.Remedy{
			{When: "now", Text: "take node-a out of the load balancer", Effect: "no new victims", Risk: "low"},
			{When: "now", Text: "close the dead sockets so that peers reconnect", Command: "midhop relief --via node-a", Effect: "66 sockets", Risk: "medium", Needs: "root on node-b and node-c"},
			{When: "soon", Text: "set TCP_USER_TIMEOUT to 30 s in ws/chat", Effect: "a dead path is noticed after 30 s", Risk: "review"},
			{When: "cure", Text: "externalTrafficPolicy: Local, or container-native load balancing", Effect: "no other node in the middle", Risk: "review"},
		},
		Opened: ago(9450 * time.Millisecond),
	}
}

// Events is what a log holds ten seconds after [NodeGone].
func Events() []event.Event {
	snap := NodeGone()
	stall := func(i int, after time.Duration) event.Event {
		v := &snap.Trouble[i]
		return event.Event{
			Type: event.TCPStall, Time: ago(9450*time.Millisecond - after), Source: "engine",
			Flow: event.FlowID(v.Socket.Local, v.Socket.Peer),
			Body: &event.Stall{Socket: v.Socket, Via: v.Via, Client: v.Client, Clock: v.Clock, Deadline: event.Known(v.Deadline), DeadlineIs: v.DeadlineIs, Since: v.Since},
		}
	}
	v := &snap.Trouble[0]
	return []event.Event{
		{Type: event.StreamSynced, Time: ago(4 * time.Minute), Source: "agent/node-b", Body: &event.Synced{Fact: "sockets"}},
		{Type: event.TCPRetransmit, Time: ago(9900 * time.Millisecond), Source: "agent/node-b",
			Body: &event.TCPFact{Socket: v.Socket, Via: &v.Via, TCP: event.Progress{State: "established", Kind: "rto", Retransmits: 1, RTO: event.Seconds(400 * time.Millisecond), Unacked: 412}}},
		stall(0, 0),
		stall(1, 20*time.Millisecond),
		{Type: event.IncidentOpened, Time: ago(9400 * time.Millisecond), Source: "engine", Body: &event.IncidentFinding{Incident: snap.Incidents[0].Incident}},
		{Type: event.StreamGap, Time: ago(7600 * time.Millisecond), Source: "engine", Body: &event.Gap{Peer: "agent/node-a", Silent: event.Seconds(2500 * time.Millisecond)}},
	}
}

// Share is what a socket through node-a shares with the others of [NodeGone].
func Share(v model.SocketView) model.Share {
	return model.Share{
		Subject: v, All: model.ShareRow{Sockets: 200, Troubled: 15},
		Rows: []model.ShareRow{
			{What: "via", Name: "node-a", Sockets: 66, Troubled: 13, Heard: ago(10140 * time.Millisecond)},
			{What: "on", Name: "node-b", Sockets: 133, Troubled: 9},
			{What: "both", Name: "node-b and node-a", Sockets: 44, Troubled: 9, Heard: ago(10140 * time.Millisecond)},
			{What: "pod", Name: "ws/chat-7f9c-0", Sockets: 67, Troubled: 5},
			{What: "service", Name: "ws/chat", Sockets: 200, Troubled: 15},
			{What: "network", Name: "203.0.113.0/24", Sockets: 120, Troubled: 15},
			{What: "client", Name: "203.0.113.40", Sockets: 1, Troubled: 1},
		},
	}
}

// Replay is a recording of [NodeGone] that stands ten seconds after the incident opened.
func Replay() ui.Play {
	p := ui.Play{
		Begin: ago(4 * time.Minute), End: ago(-time.Minute), At: Now, Speed: 1, Paused: true, Surveyed: 1,
		Moments: []ui.Moment{
			{Time: ago(9450 * time.Millisecond), After: ago(9400 * time.Millisecond), Mark: '!', Text: "node-a gone"},
			{Time: ago(-40 * time.Second), After: ago(-40 * time.Second), Mark: 'x', Text: "ws/chat-7f9c-0 timed out"},
		},
	}
	for i := range 66 {
		p.Stalled = append(p.Stalled, ui.Level{Time: ago(10*time.Second - time.Duration(i)*time.Second), Stalled: i})
	}
	return p
}
