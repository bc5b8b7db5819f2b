/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reads one TCP socket into a struct sock_facts. */
#ifndef MIDHOP_SOCK_H
#define MIDHOP_SOCK_H

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "units.h"

/*
 * Reads a field. `typed` is a constant of each caller: true where the verifier knows what the pointer points to, so that
 * the field is an ordinary load; false for a pointer that was found by following lists, whose fields take a call each.
 */
#define GET(ptr, field) (typed ? (ptr)->field : BPF_CORE_READ(ptr, field))

#define read_v6(to, skc, field)                                \
	({                                                     \
		__u32 words[4];                                \
		words[0] = GET(skc, field.in6_u.u6_addr32[0]); \
		words[1] = GET(skc, field.in6_u.u6_addr32[1]); \
		words[2] = GET(skc, field.in6_u.u6_addr32[2]); \
		words[3] = GET(skc, field.in6_u.u6_addr32[3]); \
		__builtin_memcpy(to, words, 16);               \
	})

static __always_inline bool has_flag(unsigned long flags, __u64 bit)
{
	return flags >> bit & 1;
}

static __always_inline void read_tuple(struct sock_facts *f, const struct inet_sock *inet, const bool typed)
{
	const struct sock_common *skc = &inet->sk.__sk_common;

	f->family = GET(skc, skc_family);
	f->local_port = GET(skc, skc_num);
	/* tcp_set_state unhashes a closing socket, which clears skc_num, before the tracepoints see it */
	if (!f->local_port)
		f->local_port = bpf_ntohs(GET(inet, inet_sport));
	f->peer_port = bpf_ntohs(GET(skc, skc_dport));
	if (f->family == AF_INET6) {
		read_v6(f->local, skc, skc_v6_rcv_saddr);
		read_v6(f->peer, skc, skc_v6_daddr);
	} else {
		write_v4(f->local, GET(skc, skc_rcv_saddr));
		write_v4(f->peer, GET(skc, skc_daddr));
	}
}

static __always_inline void read_timer(struct sock_facts *f, const struct inet_connection_sock *icsk, __u64 jiffies,
				       const bool typed)
{
	const struct timer_list *timer = retransmit_timer(icsk);

	f->timer = GET(icsk, icsk_pending);
	if (!f->timer && f->flags & SOCK_FLAG_KEEPALIVE) {
		timer = keepalive_timer(icsk);
		if (GET(timer, entry.pprev))
			f->timer = SOCK_TIMER_KEEPALIVE;
	}
	f->timer_ms = until_ms((__s64)(GET(timer, expires) - jiffies));
}

static __always_inline void read_limits(struct sock_facts *f, const struct tcp_sock *tp,
					const struct netns_ipv4 *ipv4, const bool typed)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	__u32 jiffies;

	jiffies = GET(tp, keepalive_time);
	f->keepalive_time_ms = jiffies_to_ms(jiffies ?: SYSCTL(ipv4, sysctl_tcp_keepalive_time));
	jiffies = GET(tp, keepalive_intvl);
	f->keepalive_intvl_ms = jiffies_to_ms(jiffies ?: SYSCTL(ipv4, sysctl_tcp_keepalive_intvl));
	f->keepalive_probes = GET(tp, keepalive_probes);
	if (!f->keepalive_probes)
		f->keepalive_probes = SYSCTL(ipv4, sysctl_tcp_keepalive_probes);
	f->user_timeout_ms = GET(icsk, icsk_user_timeout);
	f->retries2 = SYSCTL(ipv4, sysctl_tcp_retries2);
	f->syn_retries = GET(icsk, icsk_syn_retries);
	if (!f->syn_retries)
		f->syn_retries = SYSCTL(ipv4, sysctl_tcp_syn_retries);
	f->orphan_retries = SYSCTL(ipv4, sysctl_tcp_orphan_retries);
	f->rto_min_ms = UNKNOWN;
	if (bpf_core_field_exists(icsk->icsk_rto_min))
		f->rto_min_ms = jiffies_to_ms(GET(icsk, icsk_rto_min));
	f->rto_max_ms = UNKNOWN;
	if (bpf_core_field_exists(icsk->icsk_rto_max))
		f->rto_max_ms = jiffies_to_ms(GET(icsk, icsk_rto_max));
}

/* Everything but the cookie, which depends on whether the verifier trusts the pointer. See GET for `typed`. */
static __always_inline void read_sock(struct sock_facts *f, const struct tcp_sock *tp, __u64 ktime, const bool typed)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	const struct sock *sk = &icsk->icsk_inet.sk;
	const struct net *net = GET(sk, __sk_common.skc_net.net);
	unsigned long flags = GET(sk, __sk_common.skc_flags);
	__u64 jiffies = bpf_jiffies64();
	__u32 snd_nxt = GET(tp, snd_nxt), received, stamp;

	read_tuple(f, &icsk->icsk_inet, typed);
	f->netns = GET(net, ns.inum);
	f->state = GET(sk, __sk_common.skc_state);
	f->flags = 0;
	if (has_flag(flags, bpf_core_enum_value(enum sock_flags, SOCK_KEEPOPEN)))
		f->flags |= SOCK_FLAG_KEEPALIVE;
	if (has_flag(flags, bpf_core_enum_value(enum sock_flags, SOCK_DEAD)))
		f->flags |= SOCK_FLAG_ORPHAN;

	f->retransmits = GET(icsk, icsk_retransmits);
	f->backoff = GET(icsk, icsk_backoff);
	f->probes_out = GET(icsk, icsk_probes_out);
	f->rto_ms = jiffies_to_ms(GET(icsk, icsk_rto));
	read_timer(f, icsk, jiffies, typed);
	read_limits(f, tp, &net->ipv4, typed);

	if (bpf_core_field_exists(tp->is_mptcp) && GET(tp, is_mptcp))
		f->flags |= SOCK_FLAG_MPTCP;
	f->bytes_acked = GET(tp, bytes_acked);
	f->bytes_received = GET(tp, bytes_received);
	f->segs_out = GET(tp, segs_out);
	f->segs_in = GET(tp, segs_in);
	f->total_retrans = GET(tp, total_retrans);
	f->unacked = snd_nxt - GET(tp, snd_una);
	f->unsent = GET(tp, write_seq) - snd_nxt;
	f->snd_wnd = GET(tp, snd_wnd);
	f->srtt_us = GET(tp, srtt_us) >> 3;

	/* as keepalive_time_elapsed() */
	f->received_ms = age_ms(GET(tp, rcv_tstamp), jiffies);
	received = age_ms(GET(icsk, icsk_ack.lrcvtime), jiffies);
	if (received < f->received_ms)
		f->received_ms = received;
	f->sent_ms = age_ms(GET(tp, lsndtime), jiffies);

	/* tcp_clock_ns() is CLOCK_MONOTONIC; the stamp keeps its low 32 bits, in ms or us */
	stamp = GET(tp, retrans_stamp);
	f->retrans_ms = UNKNOWN;
	if (stamp && f->retransmits) {
		if (stamps_in_usec(tp, typed))
			f->retrans_ms = ((__u32)(ktime / 1000) - stamp) / 1000;
		else
			f->retrans_ms = (__u32)(ktime / 1000000) - stamp;
	}
}

/*
 * The sequence number that the socket began with: all that was acknowledged since is counted. It stays while the socket lives, and
 * a later socket of the same tuple has another one (secure_tcp_seq counts on by the clock). 0 where it is just moving.
 */
static __always_inline __u32 initial_sequence(const struct tcp_sock *tp, const bool typed)
{
	__u32 before = GET(tp, snd_una);
	__u64 acked;

	barrier();
	acked = GET(tp, bytes_acked);
	barrier();
	return GET(tp, snd_una) == before ? before - (__u32)acked : 0;
}

/* A raw socket may carry TCP's protocol number. See GET for `typed`. */
static __always_inline bool is_tcp(const struct sock *sk, const bool typed)
{
	return GET(sk, sk_protocol) == IPPROTO_TCP && GET(sk, sk_type) == SOCK_STREAM;
}

/* The socket as TCP sees it, NULL for anything that is not TCP. `typed`: the verifier trusts the pointer. */
static __always_inline struct tcp_sock *tcp_of(const struct sock *sk, const bool typed)
{
	if (!is_tcp(sk, typed))
		return NULL;
	if (typed)
		return (struct tcp_sock *)bpf_skc_to_tcp_sock((void *)sk);
	return (struct tcp_sock *)sk;
}

/*
 * A socket's cookie. Where the verifier trusts the pointer it is made, else it is 0 until somebody has asked for it. See GET for
 * `typed`.
 */
static __always_inline __u64 cookie_of(const struct sock *sk, const bool typed, const bool trusted)
{
	if (trusted)
		return bpf_get_socket_cookie((void *)sk);
	return GET(sk, __sk_common.skc_cookie.counter);
}

#endif
