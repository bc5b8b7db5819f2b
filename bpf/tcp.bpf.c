//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * TCP in trouble: retransmissions, resets, errors, and the end of sockets that were in trouble. Compiled twice, for two
 * rungs on the same tracepoints: TYPED (tp_btf) and not (raw_tp), where the kernel has no types for a tracepoint's
 * arguments or does not let them be used.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "ring.h"
#include "sock.h"
#include "trouble.h"
#include "repair.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#if TYPED
#define TRACEPOINT "tp_btf/"
#else
#define TRACEPOINT "raw_tp/"
#endif

static const bool typed = TYPED;

/* Same silence for a retransmission that says nothing new: a long tail of them is told by the census. */
#define REPEAT_NS 1000000000ULL

/*
 * Every retransmitted segment. Each step of icsk_retransmits says something; fast retransmissions and tail loss probes are
 * ordinary loss and are counted by peer.
 */
SEC(TRACEPOINT "tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sk)
{
	struct inet_connection_sock *icsk;
	struct tcp_sock *tp = tcp_of(sk, typed);
	struct trouble *t;
	__u8 retransmits;
	__u64 now;

	ran(HOOK_RETRANSMIT);
	if (!tp)
		return 0;
	icsk = &tp->inet_conn;
	retransmits = GET(icsk, icsk_retransmits);
	if (!retransmits) {
		count_repair(sk, !in_recovery(icsk, typed), typed);
		return 0;
	}
	t = mark(sk);
	if (t) {
		now = t->last;
		if (retransmits == t->retransmits && t->told && now - t->told < REPEAT_NS)
			return 0;
		t->retransmits = retransmits;
		t->told = now;
	}
	tell(sk, tp, KIND_RETRANSMIT, 0, 0);
	return 0;
}

/* The peer, or something that speaks for it, reset the connection. */
SEC(TRACEPOINT "tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, struct sock *sk)
{
	struct tcp_sock *tp = tcp_of(sk, typed);

	ran(HOOK_RESET);
	if (!tp)
		return 0;
	mark(sk);
	tell(sk, tp, KIND_RESET_RECEIVED, 0, 0);
	return 0;
}

/* The application is told of an error: the socket timed out, was reset or refused, or lost its route. */
SEC(TRACEPOINT "inet_sk_error_report")
int BPF_PROG(inet_sk_error_report, const struct sock *sk)
{
	struct tcp_sock *tp = tcp_of(sk, typed);
	int err = GET(sk, sk_err);

	ran(HOOK_ERROR);
	/* without a peer it is a listener, or tcp_disconnect: the application itself has cut the connection */
	if (!tp || !err || !GET(sk, __sk_common.skc_dport))
		return 0;
	tell(sk, tp, KIND_ERROR, err, 0);
	return 0;
}

/*
 * Whether a socket that ends was in trouble, of which nothing is remembered from now on. A probe that no hook could see leaves its
 * count in the socket itself.
 */
static __always_inline bool was_troubled(const struct sock *sk, const struct tcp_sock *tp)
{
	struct trouble *t = trouble_of(sk);
	bool marked = t && !t->tail_only;

	if (t)
		forget(sk);
	return marked || GET(tp, inet_conn.icsk_probes_out) || GET(tp, inet_conn.icsk_retransmits);
}

/* Every change of state of every connection: return at once unless a socket in trouble ends. */
SEC(TRACEPOINT "inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int old_state, int new_state)
{
	struct tcp_sock *tp;

	ran(HOOK_STATE);
	if (new_state != TCP_CLOSE)
		return 0;
	tp = tcp_of(sk, typed);
	if (!tp || !was_troubled(sk, tp))
		return 0;
	tell(sk, tp, KIND_CLOSED, GET(sk, sk_err), old_state);
	return 0;
}

/*
 * The same place, for a kernel without inet_sk_error_report (before 5.15): what the application will be told of stands in
 * the socket when it ends. An error that does not end it, such as a lost route, is not seen here.
 */
SEC(TRACEPOINT "inet_sock_set_state")
int BPF_PROG(closed_with_error, const struct sock *sk, int old_state, int new_state)
{
	struct tcp_sock *tp;
	int err;

	ran(HOOK_ERROR);
	if (new_state != TCP_CLOSE)
		return 0;
	tp = tcp_of(sk, typed);
	err = GET(sk, sk_err);
	if (!tp || !err || !GET(sk, __sk_common.skc_dport))
		return 0;
	tell(sk, tp, KIND_ERROR, err, 0);
	return 0;
}
