package bpf

import (
	"fmt"
	"net/netip"
	"structs"
	"unsafe"
)

// Kind says what a record tells (enum kind of event.h).
type Kind uint16

// The kinds of records.
const (
	KindRetransmit    Kind = 1  // TCPRecord
	KindProbe         Kind = 2  // TCPRecord
	KindResetReceived Kind = 3  // TCPRecord
	KindError         Kind = 4  // TCPRecord
	KindClosed        Kind = 5  // TCPRecord
	KindResetSent     Kind = 6  // TCPRecord of which the tuple and the namespace are known: there is no socket
	KindSocket        Kind = 16 // SocketRow
	KindNetns         Kind = 17 // NetnsRow
	KindCgroup        Kind = 18 // CgroupRow
	KindNATCreated    Kind = 32 // NATRecord
	KindNATDestroyed  Kind = 33 // NATRecord
)

// Unknown stands in a span of milliseconds that the kernel could not tell.
const Unknown uint32 = 0xffffffff

// Flags of [Sock.Flags] (enum sock_flag).
const (
	FlagKeepalive uint8 = 1 // SOCK_KEEPOPEN
	FlagOrphan    uint8 = 2 // SOCK_DEAD: no process holds it any more
	FlagMPTCP     uint8 = 4 // a subflow of an MPTCP connection
)

// Values of [Sock.Timer] (enum sock_timer); those up to 6 are the kernel's icsk_pending.
const (
	TimerNone       uint8 = 0
	TimerRetransmit uint8 = 1
	TimerProbe0     uint8 = 3
	TimerTailLoss   uint8 = 5
	TimerReorder    uint8 = 6
	TimerKeepalive  uint8 = 16
)

// Values of [Sock.State] (net/tcp_states.h).
const (
	StateEstablished uint8 = 1
	StateSynSent     uint8 = 2
	StateSynRecv     uint8 = 3
	StateFinWait1    uint8 = 4
	StateFinWait2    uint8 = 5
	StateTimeWait    uint8 = 6
	StateClose       uint8 = 7
	StateCloseWait   uint8 = 8
	StateLastAck     uint8 = 9
	StateListen      uint8 = 10
	StateClosing     uint8 = 11
	StateNewSynRecv  uint8 = 12
)

// Values of [Sock.Family] (AF_INET, AF_INET6).
const (
	FamilyIPv4 uint16 = 2
	FamilyIPv6 uint16 = 10
)

// Header opens every record (struct header).
type Header struct {
	_     structs.HostLayout
	Kind  Kind
	Len   uint16 // bytes of the whole record
	CPU   uint32
	KTime uint64 // CLOCK_MONOTONIC, ns
}

// Sock is one TCP socket at the moment of its record (struct sock_facts). Spans are milliseconds, [Unknown] where the
// kernel could not tell; ages count backwards from the record's KTime.
type Sock struct {
	_             structs.HostLayout
	Cookie        uint64 // SO_COOKIE; 0: none was ever made, as nobody asked for it
	BytesAcked    uint64
	BytesReceived uint64
	Local         [16]byte // IPv4 stands v4-mapped; see [Sock.LocalAddr]
	Peer          [16]byte
	LocalPort     uint16
	PeerPort      uint16
	Netns         uint32 // inode number of the network namespace

	SegsOut      uint32 // segments sent, retransmissions included
	SegsIn       uint32
	TotalRetrans uint32 // segments sent again
	Unacked      uint32 // bytes, snd_nxt - snd_una
	Unsent       uint32 // bytes, write_seq - snd_nxt
	SndWnd       uint32 // bytes that the peer last allowed

	ReceivedMS uint32 // age of the newest receive: max(rcv_tstamp, icsk_ack.lrcvtime), as keepalive_time_elapsed
	SentMS     uint32 // age of the last data segment: lsndtime
	RetransMS  uint32 // age of the first retransmission of the running series: retrans_stamp
	TimerMS    int32  // until Timer expires; negative: overdue
	SRTTUS     uint32 // microseconds; 0: no sample yet
	RTOMS      uint32 // icsk_rto, back-off included

	RTOMinMS         uint32
	RTOMaxMS         uint32
	KeepaliveTimeMS  uint32
	KeepaliveIntvlMS uint32
	UserTimeoutMS    uint32 // 0: none

	Family          uint16
	State           uint8
	Flags           uint8
	Timer           uint8
	Retransmits     uint8 // icsk_retransmits
	Backoff         uint8 // icsk_backoff
	ProbesOut       uint8 // icsk_probes_out
	KeepaliveProbes uint8
	Retries2        uint8 // tcp_retries2 of the namespace
	SynRetries      uint8
	OrphanRetries   uint8
}

// LocalAddr returns the socket's own end, unmapped.
func (s *Sock) LocalAddr() netip.AddrPort { return addrPort(s.Local, s.LocalPort) }

// PeerAddr returns the far end, unmapped; of a listener it is the zero address.
func (s *Sock) PeerAddr() netip.AddrPort { return addrPort(s.Peer, s.PeerPort) }

// TCPRecord is what a hook saw of one socket (struct tcp_event).
type TCPRecord struct {
	_        structs.HostLayout
	Header   Header
	Sock     Sock
	Err      int32 // errno, positive; 0: none
	OldState uint8 // KindClosed: the state before
	_        [3]uint8
}

// SocketRow is one open socket file of one process (struct socket_row).
type SocketRow struct {
	_      structs.HostLayout
	Header Header
	Sock   Sock
	PID    uint32   // thread group id in the initial pid namespace
	Comm   [16]byte // of the thread group's leader, NUL-terminated
	Inode  uint32   // of the socket's file, by which a socket without a cookie is known; 0: it has none
	ISN    uint32   // the sequence number that the socket began with; 0: not known
	_      uint32
	Cgroup uint64 // of its cgroup of version 2: the inode number of its directory; 0: unknown, or the root
}

// NetnsRow is a network namespace that a census met: a process lives in it, or a socket of it is open (struct netns_row).
type NetnsRow struct {
	_      structs.HostLayout
	Header Header
	Netns  uint32 // inode number
	PID    uint32 // thread group id of the process that led there
}

// CgroupRow is a cgroup of version 2 in which, or below which, owners of sockets are (struct cgroup_row).
type CgroupRow struct {
	_      structs.HostLayout
	Header Header
	ID     uint64   // inode number of its directory; no other gets it while the machine runs
	Parent uint64   // 0: the root
	Name   [96]byte // of its directory, NUL-terminated; one that fills it has been cut
}

// NATTuple is one direction of a conntrack entry (struct nat_tuple).
type NATTuple struct {
	_       structs.HostLayout
	Src     [16]byte
	Dst     [16]byte
	SrcPort uint16
	DstPort uint16
}

// SrcAddr returns the sender, unmapped.
func (t *NATTuple) SrcAddr() netip.AddrPort { return addrPort(t.Src, t.SrcPort) }

// DstAddr returns the receiver, unmapped.
func (t *NATTuple) DstAddr() netip.AddrPort { return addrPort(t.Dst, t.DstPort) }

// Bits of [NATRecord.Status] (enum ip_conntrack_status).
const (
	StatusConfirmed uint32 = 1 << 3
	StatusSourceNAT uint32 = 1 << 4
	StatusDestNAT   uint32 = 1 << 5
)

// Values of [NATRecord.TCPState] (enum tcp_conntrack).
const (
	ConntrackLastAck  uint8 = 6
	ConntrackTimeWait uint8 = 7
	ConntrackClose    uint8 = 8
)

// NATRecord is a conntrack entry that translates (struct nat_event).
type NATRecord struct {
	_        structs.HostLayout
	Header   Header
	Original NATTuple
	Reply    NATTuple
	Status   uint32
	Netns    uint32
	Mark     uint32
	PortID   uint32 // KindNATDestroyed: the netlink socket that asked for it; 0: the kernel itself
	LeftMS   int32  // KindNATDestroyed: until the entry would have timed out, negative when it had
	Zone     uint16
	Proto    uint8 // IPPROTO_TCP
	TCPState uint8
	// KindNATDestroyed: 1 where its namespace is being taken down.
	NetnsGone uint8
	_         [7]uint8
}

// ringCount is one CPU's counters of one ring (struct ring_count).
type ringCount struct {
	_       structs.HostLayout
	Sent    uint64
	Dropped uint64
	Last    uint64
}

// repairKey is whose lost segments were made up for without a timeout (struct repair_key).
type repairKey struct {
	_     structs.HostLayout
	Peer  [16]byte
	Netns uint32 // inode number
}

// repairCount counts such segments since the last look (struct repair_count).
type repairCount struct {
	_        structs.HostLayout
	Fast     uint64
	TailLoss uint64
}

// marksAtOnce is how many marked sockets are looked at in one go (MARKS).
const marksAtOnce = 256

// marksAsked are the addresses of marked sockets to look at (struct marks_asked).
type marksAsked struct {
	_  structs.HostLayout
	N  uint64
	At [marksAtOnce]uint64
}

// marksFound are the rows of those that are still there (struct marks_found).
type marksFound struct {
	_    structs.HostLayout
	N    uint64
	Rows [marksAtOnce]SocketRow
}

// wire lists the records that [Decode] knows.
type wire interface {
	TCPRecord | SocketRow | NetnsRow | CgroupRow | NATRecord
}

const headerSize = int(unsafe.Sizeof(Header{}))

// KindOf returns the kind of a raw record, and an error for one that is too short to have a header or whose own length is
// not the length of raw.
func KindOf(raw []byte) (Kind, error) {
	if len(raw) < headerSize {
		return 0, fmt.Errorf("record of %d bytes has no header", len(raw))
	}
	var h Header
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&h)), headerSize), raw)
	if int(h.Len) != len(raw) {
		return 0, fmt.Errorf("record of kind %d says that it has %d bytes and has %d", h.Kind, h.Len, len(raw))
	}
	return h.Kind, nil
}

// Decode copies a raw record into its Go twin. Both have one layout (layout_test.go), so the copy is the whole work. A
// record whose length is not the twin's size comes from other probes than these and is an error.
func Decode[T wire](raw []byte, to *T) error {
	size := int(unsafe.Sizeof(*to))
	if len(raw) != size {
		return fmt.Errorf("record has %d bytes, %T has %d", len(raw), *to, size)
	}
	if _, err := KindOf(raw); err != nil {
		return err
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(to)), size), raw)
	return nil
}

func addrPort(ip [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port)
}
