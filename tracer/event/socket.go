package event

import "net/netip"

// Family is the address family of a socket: an IPv4-mapped connection of an IPv6 socket says "ipv6" though its
// addresses are IPv4.
type Family string

// The address families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Socket identifies one TCP socket and names it. K8s is filled in by the fold, everything else by the source.
type Socket struct {
	Cookie uint64   `json:"cookie,omitempty"` // SO_COOKIE (sock_gen_cookie); 0 where the kernel could not tell
	Netns  uint32   `json:"netns"`            // inode number of the network namespace
	Local  Endpoint `json:"local"`
	Peer   Endpoint `json:"peer"`
	Family Family   `json:"family"`
	K8s    *K8sRef  `json:"k8s,omitempty"`
	Owner  Owner    `json:"owner,omitzero"`
}

// Owner is a process that holds the socket.
type Owner struct {
	PID  int32  `json:"pid"`
	Comm string `json:"comm"` // task_struct.comm, at most 15 bytes
	// PodUID is the pod of the process by its cgroup, where its address does not tell it: in the host's network.
	PodUID string `json:"pod_uid,omitempty"`
}

// K8sRef names the Kubernetes objects that a socket belongs to, as far as they are known.
type K8sRef struct {
	Node      string `json:"node,omitempty"` // where the socket lives
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Workload  string `json:"workload,omitempty"`
	Service   string `json:"service,omitempty"` // namespace/name
}

// Timer is what the socket's retransmission timer is armed for (inet_csk_reset_xmit_timer), or keepalive.
type Timer string

// The timers.
const (
	TimerNone       Timer = ""           // no timer is armed
	TimerRetransmit Timer = "retransmit" // ICSK_TIME_RETRANS
	TimerTailLoss   Timer = "tail_loss"  // ICSK_TIME_LOSS_PROBE
	TimerReorder    Timer = "reorder"    // ICSK_TIME_REO_TIMEOUT
	TimerProbe0     Timer = "probe0"     // ICSK_TIME_PROBE0
	TimerKeepalive  Timer = "keepalive"  // sk_timer, tcp_keepalive_timer
)

// Progress is what the kernel knows of a socket's exchange with its peer at the event's time.
type Progress struct {
	State       string       `json:"state"`                  // established, syn_sent, fin_wait1, ... as ss prints them, with underscores
	Kind        string       `json:"kind,omitempty"`         // of a retransmission: rto, tail_loss, fast, syn; of a probe: keepalive, window
	Retransmits uint8        `json:"retransmits"`            // icsk_retransmits: RTOs in a row without progress
	Backoff     uint8        `json:"backoff,omitempty"`      // icsk_backoff
	ProbesOut   uint8        `json:"probes_out"`             // icsk_probes_out: unanswered keepalive or window probes
	RTO         Seconds      `json:"rto_s"`                  // icsk_rto, back-off included
	SRTT        Opt[Seconds] `json:"srtt_s,omitzero"`        // unknown before the first sample
	Unacked     uint32       `json:"unacked_bytes"`          // snd_nxt - snd_una
	Unsent      uint32       `json:"unsent_bytes,omitempty"` // write_seq - snd_nxt
	SendWindow  Opt[uint32]  `json:"send_window_bytes,omitzero"`
	Timer       Timer        `json:"timer,omitempty"`
	TimerIn     Opt[Seconds] `json:"timer_in_s,omitzero"`     // until Timer fires
	ReceivedAge Opt[Seconds] `json:"received_age_s,omitzero"` // since anything was received: max(rcv_tstamp, icsk_ack.lrcvtime)
	SentAge     Opt[Seconds] `json:"sent_age_s,omitzero"`     // since data was sent: lsndtime
	StalledAge  Opt[Seconds] `json:"stalled_age_s,omitzero"`  // since the first retransmission of the running series: retrans_stamp
	Orphan      bool         `json:"orphan,omitempty"`        // SOCK_DEAD: the application has closed it
}

// Limits are the settings that decide when the kernel gives a socket up: the socket's own where set, else its
// namespace's sysctls.
type Limits struct {
	Keepalive         bool         `json:"keepalive"`            // SOCK_KEEPOPEN
	KeepaliveTime     Seconds      `json:"keepalive_time_s"`     // keepalive_time_when()
	KeepaliveInterval Seconds      `json:"keepalive_interval_s"` // keepalive_intvl_when()
	KeepaliveProbes   uint8        `json:"keepalive_probes"`     // keepalive_probes()
	UserTimeout       Seconds      `json:"user_timeout_s"`       // TCP_USER_TIMEOUT, 0 for none
	Retries2          uint8        `json:"tcp_retries2"`         // of the socket's namespace
	SynRetries        uint8        `json:"syn_retries"`          // TCP_SYNCNT or tcp_syn_retries
	OrphanRetries     uint8        `json:"orphan_retries"`       // tcp_orphan_retries, 0 meaning the kernel's default of 8
	RTOMin            Opt[Seconds] `json:"rto_min_s,omitzero"`   // tcp_rto_min(), 0.2 s by default
	RTOMax            Opt[Seconds] `json:"rto_max_s,omitzero"`   // tcp_rto_max(), 120 s by default
}

// Change says why a socket stands in a path.sockets line.
type Change string

// The changes.
const (
	SocketSeen    Change = "seen"    // seen for the first time by this source
	SocketChanged Change = "changed" // in trouble, or out of it again, since it was last written
	SocketGone    Change = "gone"    // no longer there; its last known state
)

// Role says how a socket came to be.
type Role string

// The roles.
const (
	RoleUnknown   Role = ""
	RoleAccepted  Role = "accepted"  // its local port has a listener in its namespace
	RoleDialled   Role = "dialled"   // it has none
	RoleListening Role = "listening" // it is the listener
)

// NoLimits is the index of a row whose limits the source cannot tell: such a socket has no deadline that is known.
const NoLimits = -1

// SocketRow is one socket of a path.sockets line.
type SocketRow struct {
	Change Change   `json:"change"`
	Role   Role     `json:"role,omitempty"`
	Socket Socket   `json:"socket"`
	TCP    Progress `json:"tcp"`
	Limits int      `json:"limits"` // index into the line's limits, -1 where they are not known
	Via    *Via     `json:"via,omitempty"`
}

// Sockets is one chunk of a census: the sockets that it saw first, missed, or saw changed in trouble.
type Sockets struct {
	Pass   uint64      `json:"pass"`             // the census that saw them, from 1
	Limits []Limits    `json:"limits,omitempty"` // rows share settings, so each stands once
	Rows   []SocketRow `json:"rows"`
}

// TrafficRow counts what moved between one local address and one peer address since the last look. Healthy sockets
// appear here only: blame needs denominators.
type TrafficRow struct {
	Netns         uint32       `json:"netns"`
	Local         Endpoint     `json:"local"` // port 0 where sockets of several local ports were dialled
	Peer          Endpoint     `json:"peer"`  // port always 0 on the accepted side
	Sockets       int          `json:"sockets"`
	Active        int          `json:"active"`                  // sent or received anything in the last 10 s
	Sent          uint64       `json:"sent"`                    // segments sent
	Retransmitted uint64       `json:"retransmitted"`           // segments sent again
	ReceivedAge   Opt[Seconds] `json:"received_age_s,omitzero"` // newest receive of any of them
}

// Traffic is one chunk of what a census counted.
type Traffic struct {
	Pass    uint64       `json:"pass"`
	Span    Seconds      `json:"span_s"` // since the last look
	Took    Seconds      `json:"took_s"` // what the look cost
	Total   int          `json:"total"`  // sockets seen by this census
	Rows    []TrafficRow `json:"rows"`
	Omitted int          `json:"omitted,omitempty"` // rows above the cap, counted
	Repairs []Repair     `json:"repairs,omitempty"` // peers with ordinary loss since the last look; the last chunk has them
}

// Repair counts the segments that one namespace's sockets sent a peer again without waiting for a timeout: ordinary loss,
// mended within a round trip or two, which puts no socket in trouble. The kernel counts them; TrafficRow.Retransmitted
// includes those of the sockets that the census sees.
type Repair struct {
	Netns    uint32     `json:"netns"`
	Peer     netip.Addr `json:"peer"`
	Fast     uint64     `json:"fast,omitempty"`      // fast retransmissions: the peer acknowledged what was sent later
	TailLoss uint64     `json:"tail_loss,omitempty"` // tail loss probes (tcp_send_loss_probe)
}

// TCPFact is the body of tcp.retransmit, tcp.probe, tcp.reset, tcp.error and tcp.closed.
type TCPFact struct {
	Socket Socket   `json:"socket"`
	TCP    Progress `json:"tcp"`
	Limits *Limits  `json:"limits,omitempty"`
	Via    *Via     `json:"via,omitempty"`
	Reset  *Reset   `json:"reset,omitempty"` // tcp.reset only
	Errno  string   `json:"errno,omitempty"` // tcp.error only, such as ETIMEDOUT
	How    string   `json:"how,omitempty"`   // tcp.closed only: fin, rst, abort, app, relief
}

// Reset says who reset a connection.
type Reset struct {
	By     string `json:"by"`               // peer: received; local: sent by this kernel; nobody's: sent for a segment without a socket
	Reason string `json:"reason,omitempty"` // enum sk_rst_reason where the kernel tells it
}

// Stall is the body of the findings tcp.stall, tcp.recovered and tcp.timeout.
type Stall struct {
	Socket     Socket         `json:"socket"`
	Via        Via            `json:"via"`
	Client     *Client        `json:"client,omitempty"`
	Clock      Clock          `json:"clock"`
	Deadline   Opt[Timestamp] `json:"deadline,omitzero"`     // absent where the socket never notices
	DeadlineIs string         `json:"deadline_is,omitempty"` // exact or lower_bound
	Since      Timestamp      `json:"since"`                 // first sign of trouble
	Stalled    Opt[Seconds]   `json:"stalled_s,omitzero"`    // tcp.recovered: how long it lasted
	Errno      string         `json:"errno,omitempty"`       // tcp.timeout
}

// Clock is what makes the kernel give a socket up.
type Clock string

// The clocks.
const (
	ClockKeepalive   Clock = "keepalive"
	ClockRTO         Clock = "rto" // retransmissions up to tcp_retries2
	ClockUserTimeout Clock = "user_timeout"
	ClockProbe0      Clock = "probe0"
	ClockSYN         Clock = "syn"
	ClockOrphan      Clock = "orphan"
	ClockNone        Clock = "none" // no keepalive and idle: never notices
)
