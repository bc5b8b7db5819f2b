//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Function entries by kprobe, where the kernel does not let fentry programs stand there: no types of modules (before 5.11,
 * or without the right to look them up), or no trampolines.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "ring.h"
#include "sock.h"

#define TYPED 0
#include "trouble.h"
#include "wakeup.h"
#include "nat.h"
#include "reset.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("kprobe/tcp_write_wakeup")
int tcp_write_wakeup_entry(void *regs)
{
	return on_write_wakeup(first_arg(regs));
}

/* The low bits of _nfct: enum ip_conntrack_info; from 3 on a packet travels in the reply direction. */
#define NFCT_INFO      7UL
#define IP_CT_IS_REPLY 3

/*
 * At the entry the tuples are final. The exit would tell whether the entry entered the table, but not which it was; of two
 * packets that race for one connection the loser's is told too, and the next dump finds that it does not exist.
 */
SEC("kprobe/__nf_conntrack_confirm")
int nat_confirm_entry(void *regs)
{
	const struct sk_buff *skb = first_arg(regs);
	unsigned long nfct = BPF_CORE_READ(skb, _nfct), status;
	const struct nf_conn *ct = (const struct nf_conn *)(nfct & ~NFCT_INFO);

	ran(HOOK_NAT_CREATED);
	if (!ct || (nfct & NFCT_INFO) >= IP_CT_IS_REPLY)
		return 0;
	status = BPF_CORE_READ(ct, status);
	if (!(status & (IPS_CONFIRMED | IPS_DYING)))
		tell_nat(KIND_NAT_CREATED, ct, status, 0);
	return 0;
}

SEC("kprobe/nf_ct_delete")
int nat_delete_entry(void *regs)
{
	const struct nf_conn *ct = first_arg(regs);
	unsigned long status = BPF_CORE_READ(ct, status);

	ran(HOOK_NAT_DESTROYED);
	/* as nat_destroyed() in nat.bpf.c */
	if (status & IPS_CONFIRMED && !(status & IPS_DYING))
		tell_nat(KIND_NAT_DESTROYED, ct, status, (__u32)(unsigned long)second_arg(regs));
	return 0;
}

/*
 * Before 5.11 the compiler splits nf_ct_delete, and a probe there sees nothing. This is where the last reference goes, a
 * little later; who asked for it is not known any more. Later kernels pass here only when a packet held that reference.
 */
SEC("kprobe/nf_conntrack_destroy")
int nat_destroy_entry(void *regs)
{
	const struct nf_conn *ct = first_arg(regs); /* its ct_general comes first */
	unsigned long status = BPF_CORE_READ(ct, status);

	ran(HOOK_NAT_DESTROYED);
	if (status & IPS_CONFIRMED)
		tell_nat(KIND_NAT_DESTROYED, ct, status, 0);
	return 0;
}

/* Before 6.10 the tracepoint tcp_send_reset is not passed where there is no socket. */
SEC("kprobe/tcp_v4_send_reset")
int reset_v4_entry(void *regs)
{
	ran(HOOK_RESET_SENT);
	return first_arg(regs) ? 0 : on_nobodys_segment(second_arg(regs));
}

SEC("kprobe/tcp_v6_send_reset")
int reset_v6_entry(void *regs)
{
	ran(HOOK_RESET_SENT);
	return first_arg(regs) ? 0 : on_nobodys_segment(second_arg(regs));
}
