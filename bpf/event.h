/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel half tells the Go half: the only structs that both know. wire.go mirrors each of them, and
 * layout_test.go compares the two through the objects' BTF.
 *
 * Every struct is naturally aligned, padded explicitly, without bitfields. Byte order is the machine's, ports included.
 * Addresses are 16 bytes; IPv4 stands v4-mapped in them (::ffff:a.b.c.d), so there is one address type.
 * Spans are milliseconds at the moment of `ktime`; UNKNOWN says that the kernel could not tell.
 */
#ifndef MIDHOP_EVENT_H
#define MIDHOP_EVENT_H

#include <linux/types.h>

#define UNKNOWN 0xffffffffU

/* Leaves a struct's layout in the object's BTF, where layout_test.go looks for it; nobody reads the variable. */
#define WIRE(type) const volatile struct type type##_layout = {}

enum kind {
	KIND_RETRANSMIT = 1, /* tcp_event */
	KIND_PROBE = 2, /* tcp_event */
	KIND_RESET_RECEIVED = 3, /* tcp_event */
	KIND_ERROR = 4, /* tcp_event */
	KIND_CLOSED = 5, /* tcp_event */
	KIND_RESET_SENT = 6, /* tcp_event of which the tuple and the namespace are known: there is no socket */
	KIND_SOCKET = 16, /* socket_row */
	KIND_NETNS = 17, /* netns_row */
	KIND_CGROUP = 18, /* cgroup_row */
	KIND_NAT_CREATED = 32, /* nat_event */
	KIND_NAT_DESTROYED = 33, /* nat_event */
};

/* The places of the kernel that programs hang on; the index of `hook_ran`. */
enum hook {
	HOOK_RETRANSMIT = 0,
	HOOK_ERROR = 1,
	HOOK_RESET = 2,
	HOOK_STATE = 3,
	HOOK_PROBE = 4,
	HOOK_RESET_SENT = 5,
	HOOK_NAT_CREATED = 6,
	HOOK_NAT_DESTROYED = 7,
	HOOKS = 8,
};

/* The two rings; the index of their counters. */
enum ring {
	RING_EVIDENCE = 0, /* rare and precious: TCP trouble */
	RING_BULK = 1, /* whatever may come in storms: NAT entries, resets for nobody's segments */
	RINGS = 2,
};

struct header {
	__u16 kind;
	__u16 len; /* of the whole record, header included */
	__u32 cpu;
	__u64 ktime; /* bpf_ktime_get_ns: CLOCK_MONOTONIC, ns */
};

enum sock_flag {
	SOCK_FLAG_KEEPALIVE = 1, /* SOCK_KEEPOPEN */
	SOCK_FLAG_ORPHAN = 2, /* SOCK_DEAD: no process holds it any more */
	SOCK_FLAG_MPTCP = 4, /* a subflow of an MPTCP connection */
};

/* Which timer runs. The first group has the values of inet_connection_sock.icsk_pending. */
enum sock_timer {
	SOCK_TIMER_NONE = 0,
	SOCK_TIMER_RETRANSMIT = 1, /* ICSK_TIME_RETRANS */
	SOCK_TIMER_PROBE0 = 3, /* ICSK_TIME_PROBE0 */
	SOCK_TIMER_TAIL_LOSS = 5, /* ICSK_TIME_LOSS_PROBE */
	SOCK_TIMER_REORDER = 6, /* ICSK_TIME_REO_TIMEOUT */
	SOCK_TIMER_KEEPALIVE = 16, /* the keepalive timer, armed while no other is */
};

/* One TCP socket: who it is, how it stands with its peer, and when it would give up. */
struct sock_facts {
	__u64 cookie; /* SO_COOKIE; 0: none was ever made, as nobody asked for it */
	__u64 bytes_acked;
	__u64 bytes_received;
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u32 netns; /* inode number */

	__u32 segs_out; /* sent, retransmissions included */
	__u32 segs_in;
	__u32 total_retrans;
	__u32 unacked; /* bytes, snd_nxt - snd_una */
	__u32 unsent; /* bytes, write_seq - snd_nxt */
	__u32 snd_wnd; /* bytes that the peer last allowed */

	__u32 received_ms; /* age: newer of tcp_sock.rcv_tstamp and icsk_ack.lrcvtime */
	__u32 sent_ms; /* age: lsndtime, the last data segment */
	__u32 retrans_ms; /* age: retrans_stamp, first retransmission of the series; UNKNOWN: no series */
	__s32 timer_ms; /* until the timer expires, negative when overdue; meaningless for SOCK_TIMER_NONE */
	__u32 srtt_us; /* smoothed round trip; 0: no sample yet */
	__u32 rto_ms; /* icsk_rto, back-off included */

	__u32 rto_min_ms;
	__u32 rto_max_ms;
	__u32 keepalive_time_ms;
	__u32 keepalive_intvl_ms;
	__u32 user_timeout_ms; /* 0: none */

	__u16 family; /* AF_INET or AF_INET6 */
	__u8 state; /* TCP_ESTABLISHED = 1, ... (net/tcp_states.h) */
	__u8 flags; /* enum sock_flag */
	__u8 timer; /* enum sock_timer */
	__u8 retransmits; /* icsk_retransmits */
	__u8 backoff; /* icsk_backoff */
	__u8 probes_out; /* icsk_probes_out */
	__u8 keepalive_probes;
	__u8 retries2;
	__u8 syn_retries;
	__u8 orphan_retries;
};

/* What a tracepoint or a function entry saw of one socket. */
struct tcp_event {
	struct header h;
	struct sock_facts sock;
	__s32 err; /* errno, positive: sk_err at the hook */
	__u8 old_state; /* KIND_CLOSED: where it came from */
	__u8 pad[3];
};

/* One open socket file of one process: a census consists of these. */
struct socket_row {
	struct header h;
	struct sock_facts sock;
	__u32 pid; /* thread group id, in the initial pid namespace */
	char comm[16]; /* of the thread group's leader */
	__u32 inode; /* of the socket's file, by which a socket without a cookie is known; 0: it has none */
	__u32 isn; /* the sequence number that the socket began with; 0: not known */
	__u32 pad;
	__u64 cgroup; /* its cgroup of version 2, by its inode number; 0: unknown, or the root */
};

/* A census met this network namespace: a process lives in it, or a socket of it is open. */
struct netns_row {
	struct header h;
	__u32 netns;
	__u32 pid; /* thread group id of the process that led there */
};

#define CGROUP_NAME 96

/*
 * A cgroup of version 2, told before a row of a process that is in it or below it: what the directory's path would say to
 * those who see the hierarchy. Of owners of sockets of the reader's own network namespace.
 */
struct cgroup_row {
	struct header h;
	__u64 id; /* inode number of its directory; no other gets it while the machine runs */
	__u64 parent; /* 0: the root */
	char name[CGROUP_NAME]; /* of its directory; one that is longer is cut */
};

struct nat_tuple {
	__u8 src[16];
	__u8 dst[16];
	__u16 src_port;
	__u16 dst_port;
};

/* A conntrack entry that translates. */
struct nat_event {
	struct header h;
	struct nat_tuple original;
	struct nat_tuple reply;
	__u32 status; /* enum ip_conntrack_status */
	__u32 netns;
	__u32 mark;
	__u32 portid; /* KIND_NAT_DESTROYED: the netlink socket that asked for it, 0: the kernel itself */
	__s32 left_ms; /* KIND_NAT_DESTROYED: until the entry would have timed out, negative when it had */
	__u16 zone;
	__u8 proto; /* IPPROTO_TCP */
	__u8 tcp_state; /* enum tcp_conntrack */
	__u8 netns_gone; /* KIND_NAT_DESTROYED: 1 where its namespace is being taken down */
	__u8 pad[7];
};

/* Whose lost segments were made up for without a timeout: a namespace's connections to one peer. */
struct repair_key {
	__u8 peer[16];
	__u32 netns; /* inode number */
};

/* Segments sent again by fast retransmission, and as tail loss probes, since the reader looked last. */
struct repair_count {
	__u64 fast;
	__u64 tail_loss;
};

/* How many marked sockets are looked at in one go. */
#define MARKS 256

/* Per CPU and ring: sent + dropped is what the probes wanted to say. */
struct ring_count {
	__u64 sent;
	__u64 dropped; /* no room */
	__u64 last; /* ktime of the newest record of this CPU */
};

#endif
