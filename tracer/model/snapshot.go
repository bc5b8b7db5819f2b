package model

import (
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Snapshot is what readers see of the model: aggregates, incidents and the sockets in trouble. It is immutable, is
// built only when somebody asked since the last one, and holds no healthy sockets; see [Model.Page] for those.
type Snapshot struct {
	Version   uint64    // raised whenever anything in it changed; readers draw only then
	Clock     time.Time // the model's time: the largest time of any fact so far
	Since     time.Time // first fact; what died before was not seen
	Node      string    // this machine, empty for a hub
	Complete  bool      // the first census is in: an empty table means that nothing is wrong
	Totals    Totals
	Vias      []ViaRow   // culprits first, then DOOMED, then sockets
	Pods      []GroupRow // by namespace/name
	Services  []GroupRow // by namespace/name
	Incidents []IncidentView
	Trouble   []SocketView // at risk, stalled, presumed, timed out; worst first, capped
	Omitted   int          // sockets in trouble above the cap
	Agents    []AgentView
	Coverage  event.Coverage
	Lost      map[string]uint64 // by stage
	Events    map[string]uint64 // by type
}

// Totals counts sockets. AtRisk, Stalled and Presumed are disjoint.
type Totals struct {
	Sockets   int // established, listeners not counted
	Crossing  int // via another node
	Active    int
	AtRisk    int
	Stalled   int
	Presumed  int
	TimedOut  int // in the last 15 minutes
	Recovered int // in the last 15 minutes
	Reset     int // in the last 15 minutes
}

// Doomed is what is lost whether or not it has noticed.
func (t Totals) Doomed() int { return t.Stalled + t.Presumed }

// ViaKind is the kind column of `midhop via`.
type ViaKind string

// The kinds of vias.
const (
	KindNode    ViaKind = "node"    // another node stands in the middle
	KindLocal   ViaKind = "local"   // this node translated it itself
	KindPod     ViaKind = "pod"     // the peer is a pod
	KindDirect  ViaKind = "direct"  // a balancer or client speaks to the pod itself
	KindAddress ViaKind = "address" // a peer that no inventory names
	KindUnknown ViaKind = "unknown"
)

// ViaRow is one line of the nodes screen and of `midhop via`.
type ViaRow struct {
	Via       string // node name, "(this node)", "(pods)", "(balancer)", an address
	Kind      ViaKind
	IP        netip.Addr // of the node or address, zero where the row stands for several
	Because   string     // provenance of the address
	Guess     string     // by which rule an address is this node's, where no field says so and no ledger has shown it; else empty
	Sockets   int
	Active    int
	AtRisk    int
	Stalled   int
	Presumed  int
	TimedOut  int
	Retrans   uint64 // segments sent again through it since the watch began
	Pods      []string
	Services  []string
	Clients   int           // known from the ledger
	LastHeard time.Time     // newest receive through it; zero: unknown
	First     time.Time     // first deadline of its sockets in trouble; zero: none known
	FirstIs   string        // exact, lower_bound
	Never     int           // sockets in trouble that never notice
	Node      event.Node    // what the inventory knows, zero Name where none
	Agent     string        // heard, silent, none
	Table     event.Table   // its conntrack table, zero Node where unknown
	NoLedger  bool          // its conntrack is read and has translated nothing, though sockets cross it: a dataplane without conntrack
	From      []FromNetwork // KindDirect: where its connections come from, the most first
	Status    string        // ok, at-risk, STALLED, dead, unknown
	Incident  string        // id of the open incident that names it
}

// Doomed is what is lost through this via whether or not it has noticed.
func (r ViaRow) Doomed() int { return r.Stalled + r.Presumed }

// FromNetwork counts the sockets whose peers lie in a network.
type FromNetwork struct {
	Prefix  netip.Prefix // a balancer's range, else a /24 or a /64
	Sockets int
}

// maxNetworks is how many networks a row names.
const maxNetworks = 8

// GroupRow counts the sockets of a pod or service.
type GroupRow struct {
	Name     string // namespace/name
	Node     string
	Sockets  int
	Crossing int
	AtRisk   int
	Stalled  int
	Presumed int
	// Of a service, as far as the API told: externalTrafficPolicy, and whether its balancer speaks to pods.
	Policy string
	Direct bool
}

// IncidentView is an incident with what screens need to draw its time line.
type IncidentView struct {
	event.Incident
	Updates int
	Marks   []Mark // in order of time, capped
}

// Mark is one moment of an incident's time line.
type Mark struct {
	Time    time.Time
	Text    string
	Stalled int // stalled sockets at that moment
}

// SocketView is one socket as tables show it.
type SocketView struct {
	Key        uint64 // stays the same while the socket lives; selection is kept by it
	Source     string // who sees it
	Socket     event.Socket
	Role       event.Role
	Status     string // ok, at-risk, STALLED, presumed, timed-out, reset, closed
	Via        event.Via
	Client     *event.Client
	VIP        *event.Endpoint // what the client dialled, from the ledger
	TCP        event.Progress  // ages count from Seen
	Limits     event.Limits
	Seen       time.Time // when TCP was read
	LastHeard  time.Time // newest receive; zero: unknown
	Since      time.Time // first sign of trouble; zero: none
	Clock      event.Clock
	Deadline   time.Time // zero: never notices, or healthy
	DeadlineIs string    // exact, lower_bound
	Errno      string
}

// AgentView is one source of facts.
type AgentView struct {
	Source   string // agent/node-b
	Node     string
	Heard    time.Time
	Silent   bool
	Probes   []event.Probe
	Sockets  int
	CensusAt time.Time
	Settings map[string]int64
}
