/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reads one conntrack entry into a struct nat_event. */
#ifndef MIDHOP_NAT_H
#define MIDHOP_NAT_H

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "ring.h"
#include "units.h"

WIRE(nat_event);

/* enum ip_conntrack_status */
#define IPS_CONFIRMED (1 << 3)
#define IPS_NAT_MASK  (1 << 4 | 1 << 5) /* IPS_SRC_NAT, IPS_DST_NAT */
#define IPS_DYING     (1 << 9)

/*
 * The namespace whose entries are told, 0 for all. Written by the loader: a process sees the conntrack of its own
 * namespace and of no other.
 */
volatile const __u32 nat_netns;

static __always_inline void write_addr(__u8 *to, const __u32 *words, __u16 l3num)
{
	if (l3num == AF_INET6)
		__builtin_memcpy(to, words, 16);
	else
		write_v4(to, words[0]);
}

static __always_inline void read_nat_tuple(struct nat_tuple *to, const struct nf_conntrack_tuple *tuple)
{
	__u16 l3num = BPF_CORE_READ(tuple, src.l3num);
	__u32 words[4];

	BPF_CORE_READ_INTO(&words, tuple, src.u3.all);
	write_addr(to->src, words, l3num);
	BPF_CORE_READ_INTO(&words, tuple, dst.u3.all);
	write_addr(to->dst, words, l3num);
	to->src_port = bpf_ntohs(BPF_CORE_READ(tuple, src.u.all));
	to->dst_port = bpf_ntohs(BPF_CORE_READ(tuple, dst.u.all));
}

/* Whether an entry is a TCP connection that is translated and belongs to the namespace that is watched. */
static __always_inline bool is_wanted(const struct nf_conn *ct, unsigned long status)
{
	if (!(status & IPS_NAT_MASK) || BPF_CORE_READ(ct, tuplehash[0].tuple.dst.protonum) != IPPROTO_TCP)
		return false;
	return !nat_netns || BPF_CORE_READ(ct, ct_net.net, ns.inum) == nat_netns;
}

static __always_inline void read_nat(struct nat_event *e, const struct nf_conn *ct, unsigned long status)
{
	e->status = status;
	read_nat_tuple(&e->original, &ct->tuplehash[0].tuple);
	read_nat_tuple(&e->reply, &ct->tuplehash[1].tuple);
	e->netns = BPF_CORE_READ(ct, ct_net.net, ns.inum);
	e->mark = 0;
	if (bpf_core_field_exists(ct->mark)) /* CONFIG_NF_CONNTRACK_MARK */
		e->mark = BPF_CORE_READ(ct, mark);
	e->zone = 0;
	if (bpf_core_field_exists(ct->zone)) /* CONFIG_NF_CONNTRACK_ZONES */
		e->zone = BPF_CORE_READ(ct, zone.id);
	e->proto = IPPROTO_TCP;
	e->tcp_state = BPF_CORE_READ(ct, proto.tcp.state);
	e->netns_gone = netns_gone(BPF_CORE_READ(ct, ct_net.net));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	/* nf_ct_expires(): the low 32 bits of jiffies */
	e->left_ms = until_ms((__s32)(BPF_CORE_READ(ct, timeout) - (__u32)bpf_jiffies64()));
}

static __always_inline void tell_nat(__u16 kind, const struct nf_conn *ct, unsigned long status, __u32 portid)
{
	struct nat_event *e;

	if (!is_wanted(ct, status))
		return;
	e = reserve(&bulk, RING_BULK, sizeof(*e), kind);
	if (!e)
		return;
	read_nat(e, ct, status);
	e->portid = portid;
	submit(&bulk, RING_BULK, &e->h);
}

#endif
