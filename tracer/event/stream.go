package event

import (
	"net/netip"
	"time"
)

// Started opens every stream and every file of a rotated recording.
type Started struct {
	Midhop    Build            `json:"midhop"`
	Host      Host             `json:"host"`
	Probes    []Probe          `json:"probes,omitempty"`    // which rung serves each fact; see [Probe]
	Machine   []Check          `json:"machine,omitempty"`   // circumstances that decide what can be seen; see [Check]
	Settings  map[string]int64 `json:"settings,omitempty"`  // sysctls that clocks depend on, by their last name, such as tcp_retries2
	Balancers []netip.Prefix   `json:"balancers,omitempty"` // ranges that load balancers speak from, beside those that every midhop knows
	Complete  bool             `json:"complete"`            // all facts follow, so that findings can be recomputed
}

// Build says which midhop wrote the stream.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
}

// Host is the machine whose kernel was watched.
type Host struct {
	Node   string `json:"node,omitempty"` // the node's name where one is known, else the host name
	Kernel string `json:"kernel,omitempty"`
	BootID string `json:"boot_id,omitempty"` // /proc/sys/kernel/random/boot_id
	Arch   string `json:"arch,omitempty"`    // as in runtime.GOARCH
}

// Probe says how one kind of fact is obtained. An empty Rung means that the fact is not available here.
type Probe struct {
	Fact    string `json:"fact"`           // retransmit, error, reset, state, probe, sockets, nat
	Rung    string `json:"rung,omitempty"` // such as tp_btf, fentry, census, ctnetlink
	Precise bool   `json:"precise"`        // the best rung: nothing is missed and times are exact
	Why     string `json:"why,omitempty"`  // why no better rung serves, in plain words: "rungs: reason; rungs: reason"
	Cost    string `json:"cost,omitempty"` // what is seen later or not at all because of that; absent where nothing is
	// Detail is what the kernel itself says of the better rungs, a line each; only where somebody asked for it.
	Detail []string `json:"detail,omitempty"`
	// Fired: at the start the rung was seen to do what it is for, not only to be attached. Unproven says why it was not.
	Fired    bool   `json:"fired,omitempty"`
	Unproven string `json:"unproven,omitempty"`
}

// Check is one circumstance of a machine, or of the place that midhop has on it.
type Check struct {
	Name string `json:"name"`           // capabilities, lockdown, btf, kprobes, pid namespace, network namespace, conntrack, dataplane, limits
	Is   string `json:"is"`             // as found; "unknown" where it could not be told
	Note string `json:"note,omitempty"` // what it costs, in words; empty where it costs nothing
}

// Synced says that the first look at one kind of fact is complete; what is not in the stream by now was not there. A
// source that can no longer follow, or not at all, says so by the same line with Behind; the next one without it says that
// all is up to date again.
type Synced struct {
	Fact   string `json:"fact"`             // sockets, nat, nodes, pods, services
	Behind string `json:"behind,omitempty"` // why what was told of this fact may be out of date from now on
}

// Heartbeat says that its source is alive. From an agent it comes at least once a second.
type Heartbeat struct {
	Sockets   Opt[int]     `json:"sockets,omitzero"`      // sockets seen by the newest census
	CensusAge Opt[Seconds] `json:"census_age_s,omitzero"` // how old the newest complete census is
	Every     Opt[Seconds] `json:"every_s,omitzero"`      // after that the next one follows; a second where it is not said
	// ClockSet is told by the Engine when somebody sets the clock of its machine: all times of the stream go on from where they
	// were, and with this added they are what the clock shows.
	ClockSet Opt[Seconds] `json:"clock_set_s,omitzero"`
}

// Lost counts events that could not be kept.
type Lost struct {
	Stage string    `json:"stage"` // where: ring.evidence, ring.bulk, netlink, sink.<name>, ...
	Count uint64    `json:"count"` // how many since the last such line of this stage and source
	Since time.Time `json:"since"`
}

// Gap is the finding that an agent has been silent for 2.5 heartbeats.
type Gap struct {
	Peer   string  `json:"peer"` // the silent source
	LastID string  `json:"last_id,omitempty"`
	Silent Seconds `json:"silent_s"`
}

// Fault is the lab's own note of what it did, written straight to the output and never shown to the Engine.
type Fault struct {
	Scenario string `json:"scenario"`
	What     string `json:"what"`
	Target   string `json:"target,omitempty"` // a node, pod or client network; empty where the scenario has none
}
