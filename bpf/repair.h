/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Segments that were sent again without a timeout, counted by peer: ordinary loss, of which no record is sent. */
#ifndef MIDHOP_REPAIR_H
#define MIDHOP_REPAIR_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "event.h"
#include "sock.h"
#include "trouble.h"

WIRE(repair_key);
WIRE(repair_count);

/* Bounded: of more peers in one look the one that was met longest ago is forgotten. The census counts its segments too. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct repair_key);
	__type(value, struct repair_count);
} repairs SEC(".maps");

/*
 * Fast retransmission is of a socket in recovery (tcp_enter_recovery), and a tail loss probe never is. The pending timer
 * tells nothing: a probe's is armed while an acknowledgement makes tcp_xmit_retransmit_queue run.
 */
static __always_inline bool in_recovery(const struct inet_connection_sock *icsk, const bool typed)
{
	__u8 state = typed ? BPF_CORE_READ_BITFIELD(icsk, icsk_ca_state) : BPF_CORE_READ_BITFIELD_PROBED(icsk, icsk_ca_state);

	return state >= bpf_core_enum_value(enum tcp_ca_state, TCP_CA_Recovery);
}

static __always_inline void count_repair(const struct sock *sk, bool tail_loss, const bool typed)
{
	const struct sock_common *skc = &sk->__sk_common;
	struct repair_count *n, fresh = {};
	struct repair_key key = {};
	const struct net *net;

	if (GET(skc, skc_family) == AF_INET6)
		read_v6(key.peer, skc, skc_v6_daddr);
	else
		write_v4(key.peer, GET(skc, skc_daddr));
	net = GET(skc, skc_net.net);
	key.netns = GET(net, ns.inum);
	n = bpf_map_lookup_elem(&repairs, &key);
	if (!n) {
		bpf_map_update_elem(&repairs, &key, &fresh, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&repairs, &key);
		if (!n)
			return;
	}
	__sync_fetch_and_add(tail_loss ? &n->tail_loss : &n->fast, 1);
	if (tail_loss)
		mark_tail(sk);
}

#endif
