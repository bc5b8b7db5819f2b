/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Everything that differs between kernels, and nothing else. Each shim says what changed and when. A struct whose name
 * ends in ___something is the same kernel struct as of another version: CO-RE ignores the ending.
 */
#ifndef MIDHOP_COMPAT_H
#define MIDHOP_COMPAT_H

#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include "kernel.h"

/* Since 6.2: a pointer that may be read by its type, whatever the verifier thinks of it, and that is good for nothing else. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Between 6.18 and 7.3 the retransmission timer moved from inet_connection_sock into sock. */
struct sock___retransmit_timer {
	struct timer_list tcp_retransmit_timer;
};

/* Between 6.18 and 7.3 the keepalive timer moved from sock (sk_timer) into inet_connection_sock. */
struct inet_connection_sock___keepalive_timer {
	struct timer_list icsk_keepalive_timer;
};

/* Before 5.11 a network namespace counted its users itself. */
struct net___count {
	refcount_t count;
};

/* From 5.11 to 6.17 its struct ns_common did, like that of every namespace. */
struct ns_common___count {
	refcount_t count;
};

/* Since 6.18 that is called so. */
struct ns_common___ref {
	refcount_t __ns_ref;
};

/* Before 5.5 the id of a kernfs_node was a union, which some distributions' kernels kept when they took iterators over. */
struct kernfs_node___union {
	union {
		__u64 id;
	} id;
};

/* The registers at a function's entry hold its arguments. */
struct pt_regs___x86 {
	unsigned long di, si;
};

struct pt_regs___arm64 {
	__u64 regs[31];
};

#pragma clang attribute pop

/* The first two arguments of a function at whose entry a kprobe stands. The loader knows these machines and no other. */
static __always_inline void *first_arg(const void *regs)
{
	const struct pt_regs___x86 *x86 = regs;
	const struct pt_regs___arm64 *arm = regs;

	if (bpf_core_field_exists(x86->di))
		return (void *)BPF_CORE_READ(x86, di);
	return (void *)BPF_CORE_READ(arm, regs[0]);
}

static __always_inline void *second_arg(const void *regs)
{
	const struct pt_regs___x86 *x86 = regs;
	const struct pt_regs___arm64 *arm = regs;

	if (bpf_core_field_exists(x86->si))
		return (void *)BPF_CORE_READ(x86, si);
	return (void *)BPF_CORE_READ(arm, regs[1]);
}

/* Whether nothing uses a namespace any more, so that it is being taken down: as check_net() says. */
static __always_inline bool netns_gone(const struct net *net)
{
	const struct net___count *old = (const void *)net;
	const struct ns_common___count *ns = (const void *)&net->ns;
	const struct ns_common___ref *newer = (const void *)&net->ns;

	if (bpf_core_field_exists(newer->__ns_ref))
		return !BPF_CORE_READ(newer, __ns_ref.refs.counter);
	if (bpf_core_field_exists(ns->count))
		return !BPF_CORE_READ(ns, count.refs.counter);
	return bpf_core_field_exists(old->count) && !BPF_CORE_READ(old, count.refs.counter);
}

/* A task's cgroup of version 2; NULL where that is the root, which all are in where nothing uses that hierarchy. */
static __always_inline struct cgroup *cgroup_of(const struct task_struct *task)
{
	struct cgroup *cgroup;

	if (!bpf_core_field_exists(task->cgroups)) /* CONFIG_CGROUPS */
		return NULL;
	cgroup = task->cgroups->dfl_cgrp;
	return cgroup->level > 0 ? cgroup : NULL;
}

static __always_inline __u64 cgroup_id(const struct cgroup *cgroup, const bool typed)
{
	const struct kernfs_node *kn = typed ? cgroup->kn : BPF_CORE_READ(cgroup, kn);
	const struct kernfs_node___union *old = (const void *)kn;

	if (bpf_core_field_exists(old->id.id))
		return BPF_CORE_READ(old, id.id);
	if (!bpf_core_field_exists(kn->id))
		return 0;
	return typed ? kn->id : BPF_CORE_READ(kn, id);
}

static __always_inline const struct timer_list *retransmit_timer(const struct inet_connection_sock *icsk)
{
	const struct sock___retransmit_timer *sk = (const void *)icsk;

	if (bpf_core_field_exists(icsk->icsk_retransmit_timer))
		return &icsk->icsk_retransmit_timer;
	return &sk->tcp_retransmit_timer;
}

static __always_inline const struct timer_list *keepalive_timer(const struct inet_connection_sock *icsk)
{
	const struct inet_connection_sock___keepalive_timer *moved = (const void *)icsk;

	if (bpf_core_field_exists(moved->icsk_keepalive_timer))
		return &moved->icsk_keepalive_timer;
	return &icsk->icsk_inet.sk.sk_timer;
}

/* tcp_usec_ts came with 6.7: since then a socket's retrans_stamp may count microseconds instead of milliseconds. */
static __always_inline bool stamps_in_usec(const struct tcp_sock *tp, const bool typed)
{
	if (!bpf_core_field_exists(tp->tcp_usec_ts))
		return false;
	return typed ? BPF_CORE_READ_BITFIELD(tp, tcp_usec_ts) : BPF_CORE_READ_BITFIELD_PROBED(tp, tcp_usec_ts);
}

/* The TCP sysctls of a namespace were int before 5.13 (keepalive_probes, retries2, ...) and are u8 since. */
#define SYSCTL(ipv4, name) \
	((__u32)(typed ? BPF_CORE_READ_BITFIELD(ipv4, name) : BPF_CORE_READ_BITFIELD_PROBED(ipv4, name)))

#endif
