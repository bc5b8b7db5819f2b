package event

import "net/netip"

// Severity says how bad an incident is.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // connections of a service are lost
	Warning  Severity = "warning"  // lossy, full, at risk
	Info     Severity = "info"     // a client
)

// CulpritKind says what is blamed.
type CulpritKind string

// The kinds of culprits.
const (
	CulpritNode      CulpritKind = "node"
	CulpritPod       CulpritKind = "pod"
	CulpritClient    CulpritKind = "client"
	CulpritService   CulpritKind = "service"
	CulpritLocalNode CulpritKind = "local_node"
	CulpritAddress   CulpritKind = "address" // no inventory names it
	CulpritUnknown   CulpritKind = "unknown" // several candidates, all listed
)

// Culprit is what the stalls have in common.
type Culprit struct {
	Kind CulpritKind `json:"kind"`
	Name string      `json:"name"`
	IP   netip.Addr  `json:"ip,omitzero"`
	Sure Sure        `json:"sure"`
	// Role is what a node did for the connections where it did not stand in the middle of what came in.
	Role CulpritRole `json:"role,omitempty"`
}

// CulpritRole says what a node that is blamed did for the connections.
type CulpritRole string

// The roles.
const (
	RoleFarEnd CulpritRole = "far_end" // it holds the pods that they lead to
	RoleEgress CulpritRole = "egress"  // they leave by it, masqueraded
)

// SocketCounts counts the sockets of an incident. AtRisk, Stalled and Presumed are disjoint.
type SocketCounts struct {
	Crossing int `json:"crossing"` // all that cross the culprit
	Stalled  int `json:"stalled"`  // those that prove it
	Presumed int `json:"presumed"` // idle ones that have not noticed yet
	AtRisk   int `json:"at_risk"`  // first unanswered segment or probe
	TimedOut int `json:"timed_out"`
	Reset    int `json:"reset"`
	GaveUp   int `json:"gave_up"` // closed by their application while stalled
}

// ClientCounts counts the far ends of an incident's sockets, as far as the ledger knows them.
type ClientCounts struct {
	Total        int `json:"total"`
	LoadBalancer int `json:"load_balancer"`
	External     int `json:"external"`
	Networks     int `json:"networks"` // /24 or /64 prefixes
}

// Evidence is one line of the case. Exactly one of For and Against is true.
type Evidence struct {
	For     bool     `json:"for,omitempty"`
	Against bool     `json:"against,omitempty"`
	Text    string   `json:"text"`
	Refs    []string `json:"refs,omitempty"` // ids of the facts that show it
}

// Alternative is another explanation of the same stalls.
type Alternative struct {
	Rule       string  `json:"rule"`
	Culprit    Culprit `json:"culprit"`
	Confidence float64 `json:"confidence"`
}

// Remedy is one thing to do.
type Remedy struct {
	When    string `json:"when"` // now, soon, cure
	Text    string `json:"text"`
	Command string `json:"command,omitempty"`
	Effect  string `json:"effect"`
	Risk    string `json:"risk"`
	Needs   string `json:"needs,omitempty"` // precondition
}

// Coverage says how much was seen.
type Coverage struct {
	NodesSeen  int          `json:"nodes_seen"`          // nodes whose agent is heard, this machine included
	NodesKnown int          `json:"nodes_known"`         // nodes of the inventory that could be watched; 0: no inventory
	LookAge    Opt[Seconds] `json:"look_age_s,omitzero"` // the oldest of the newest censuses
	Since      Timestamp    `json:"since,omitzero"`      // watching since; what died before was not seen
	Missing    []string     `json:"missing,omitempty"`   // facts without any rung
	Silent     []string     `json:"silent,omitempty"`    // nodes whose agent has fallen silent
	Behind     []string     `json:"behind,omitempty"`    // facts that their source cannot follow at the moment, each with the reason
	// Unwatched counts the further nodes of the inventory on which no agent can run, by what they are: fargate, windows.
	Unwatched map[string]int64 `json:"unwatched,omitempty"`
}

// Hit counts an incident's sockets of one pod or service.
type Hit struct {
	Name    string `json:"name"` // namespace/name
	Sockets int    `json:"sockets"`
}

// Incident is the case against one culprit.
type Incident struct {
	ID            string         `json:"id"`            // the id of the fact whose fold opened it, so that replay and two hubs agree
	Rule          string         `json:"rule"`          // what happened to the culprit
	Was           string         `json:"was,omitempty"` // the former rule
	Severity      Severity       `json:"severity"`
	Title         string         `json:"title"`
	Culprit       Culprit        `json:"culprit"`
	Confidence    float64        `json:"confidence"`            // 0 to 1, two decimals
	SilentSince   Opt[Timestamp] `json:"silent_since,omitzero"` // newest moment at which anything was received through the culprit
	Sockets       SocketCounts   `json:"sockets"`
	Pods          []Hit          `json:"pods,omitempty"`
	Services      []Hit          `json:"services,omitempty"`
	Clients       ClientCounts   `json:"clients"`
	FirstDeadline Opt[Timestamp] `json:"first_deadline,omitzero"`
	LastDeadline  Opt[Timestamp] `json:"last_deadline,omitzero"`
	Coverage      Coverage       `json:"coverage"`
	Evidence      []Evidence     `json:"evidence,omitempty"`
	Alternatives  []Alternative  `json:"alternatives,omitempty"`
	Remedy        []Remedy       `json:"remedy,omitempty"`
	Opened        Timestamp      `json:"opened"`
	Closed        Opt[Timestamp] `json:"closed,omitzero"`
	Why           string         `json:"why,omitempty"` // closed: recovered, ended, superseded, retracted; with the reason after a colon
}

// IncidentFinding is the body of incident.opened, incident.updated and incident.closed.
type IncidentFinding struct {
	Incident Incident `json:"incident"`
}
