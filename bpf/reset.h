/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* This machine's own resets for segments that belong to no socket of it. */
#ifndef MIDHOP_RESET_H
#define MIDHOP_RESET_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "kernel.h"
#include "event.h"
#include "ring.h"
#include "units.h"

/* Where things stand in the headers of a packet. */
#define TCP_SOURCE  0
#define TCP_DEST    2
#define TCP_FLAGS   13
#define TCP_HEADER  20
#define IPV4_SOURCE 12
#define IPV6_SOURCE 8

#define FLAG_SYN 0x02
#define FLAG_RST 0x04

/*
 * A segment in the middle of a connection that nobody here knows: this node had translated it and has forgotten, or its
 * process is gone. One that opens a connection is a closed port or somebody's scan, and a reset is never answered.
 */
static __always_inline int on_nobodys_segment(const struct sk_buff *skb)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	const unsigned char *ip = head + BPF_CORE_READ(skb, network_header);
	struct sock_facts *f;
	struct tcp_event *e;
	__u8 tcp[TCP_HEADER], version, v6[32];
	__u32 v4[2];

	if (bpf_probe_read_kernel(tcp, sizeof(tcp), head + BPF_CORE_READ(skb, transport_header)) ||
	    tcp[TCP_FLAGS] & (FLAG_SYN | FLAG_RST))
		return 0;
	if (bpf_probe_read_kernel(&version, 1, ip))
		return 0;
	e = reserve(&bulk, RING_BULK, sizeof(*e), KIND_RESET_SENT);
	if (!e)
		return 0;
	f = &e->sock;
	__builtin_memset(f, 0, sizeof(*f));
	e->err = 0;
	e->old_state = 0;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	f->received_ms = f->sent_ms = f->retrans_ms = f->rto_min_ms = f->rto_max_ms = UNKNOWN;
	f->state = TCP_CLOSE;
	if (version >> 4 == 6) {
		f->family = AF_INET6;
		bpf_probe_read_kernel(v6, sizeof(v6), ip + IPV6_SOURCE);
		__builtin_memcpy(f->peer, v6, 16);
		__builtin_memcpy(f->local, v6 + 16, 16);
	} else {
		f->family = AF_INET;
		bpf_probe_read_kernel(v4, sizeof(v4), ip + IPV4_SOURCE);
		write_v4(f->peer, v4[0]);
		write_v4(f->local, v4[1]);
	}
	f->peer_port = tcp[TCP_SOURCE] << 8 | tcp[TCP_SOURCE + 1];
	f->local_port = tcp[TCP_DEST] << 8 | tcp[TCP_DEST + 1];
	f->netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	submit(&bulk, RING_BULK, &e->h);
	return 0;
}

#endif
