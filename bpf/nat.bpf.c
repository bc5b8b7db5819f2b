//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Translated connections as they come and go. One run each per connection, none per packet. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "event.h"
#include "ring.h"
#include "nat.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define NF_ACCEPT 1

/*
 * A connection's first packet has passed all hooks and its entry enters the table. The entry is read at the exit: where
 * two packets clash the packet is given the entry that won.
 */
SEC("fexit/__nf_conntrack_confirm")
int BPF_PROG(nat_created, struct sk_buff *skb, int ret)
{
	const struct nf_conn *ct;
	unsigned long status;

	ran(HOOK_NAT_CREATED);
	if (ret != NF_ACCEPT)
		return 0;
	ct = (const struct nf_conn *)(skb->_nfct & ~7UL);
	status = BPF_CORE_READ(ct, status);
	if (status & IPS_CONFIRMED)
		tell_nat(KIND_NAT_CREATED, ct, status, 0);
	return 0;
}

/* An entry leaves the table: timed out, deleted, pushed out, or gone with its namespace. */
SEC("fentry/nf_ct_delete")
int BPF_PROG(nat_destroyed, struct nf_conn *ct, __u32 portid)
{
	unsigned long status = ct->status;

	ran(HOOK_NAT_DESTROYED);
	/* an entry is deleted once, whoever comes second finds it dying; an unconfirmed one was never told */
	if (status & IPS_CONFIRMED && !(status & IPS_DYING))
		tell_nat(KIND_NAT_DESTROYED, ct, status, portid);
	return 0;
}
