/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is remembered of a socket in trouble, and how its story is told to the evidence ring. */
#ifndef MIDHOP_TROUBLE_H
#define MIDHOP_TROUBLE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "event.h"
#include "ring.h"
#include "sock.h"

WIRE(tcp_event);

struct trouble {
	__u64 cookie; /* of its socket, where marks are listed; else 0 */
	__u64 last; /* ktime: when a hook met it last */
	__u64 told; /* ktime of the newest retransmission told, 0: none */
	__u8 retransmits; /* its icsk_retransmits */
	__u8 tail_only; /* 1: nothing but tail loss probes was met so far, which is no trouble yet */
	__u8 pad[6];
};

/*
 * TYPED is defined by the program that includes this: 1 where the verifier knows what its pointers point to, so that
 * something can be tied to a socket; 0 where sockets are known by their address, and forgotten when they end.
 */
#if TYPED
/* Lives and dies with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct trouble);
} troubled SEC(".maps");
#endif

/* Bounded: the one that was in trouble longest ago is forgotten, its end is not told as KIND_CLOSED, and the census follows it. */
#define MAX_TROUBLED 32768

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_TROUBLED);
	__type(key, __u64);
	__type(value, struct trouble);
} troubled_at SEC(".maps");

/*
 * Written by the loader: typed programs list marks by address, as untyped ones do, because this kernel does not let what is tied to
 * sockets be walked.
 */
volatile const bool list_marks = false;

static __always_inline bool tied(void) { return TYPED && !list_marks; }

/* What is remembered of a socket, NULL where there is nothing. */
static __always_inline struct trouble *trouble_of(const struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct trouble *t;

#if TYPED
	if (tied())
		return bpf_sk_storage_get(&troubled, (void *)sk, NULL, 0);
#endif
	t = bpf_map_lookup_elem(&troubled_at, &key);
	if (t && t->cookie && t->cookie != cookie_of(sk, TYPED, false)) /* of a socket that had this place before */
		return NULL;
	return t;
}

/* Marks a socket as in trouble; NULL where there is no memory for it. */
static __always_inline struct trouble *mark(const struct sock *sk)
{
	struct trouble *t, fresh = {};
	__u64 key = (__u64)sk;

#if TYPED
	if (tied()) {
		t = bpf_sk_storage_get(&troubled, (void *)sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		goto met;
	}
	fresh.cookie = bpf_get_socket_cookie((void *)sk);
#endif
	t = bpf_map_lookup_elem(&troubled_at, &key);
	if (t && t->cookie != fresh.cookie) {
		bpf_map_update_elem(&troubled_at, &key, &fresh, BPF_EXIST);
		t = bpf_map_lookup_elem(&troubled_at, &key);
	}
	if (!t) {
		bpf_map_update_elem(&troubled_at, &key, &fresh, BPF_NOEXIST);
		t = bpf_map_lookup_elem(&troubled_at, &key);
	}
#if TYPED
met:
#endif
	if (t) {
		t->last = bpf_ktime_get_ns();
		t->tail_only = 0;
	}
	return t;
}

/* Marks a socket that has sent a tail loss probe, for the walk over marked ones to watch. */
static __always_inline void mark_tail(const struct sock *sk)
{
	struct trouble *t = trouble_of(sk);

	if (t) {
		t->last = bpf_ktime_get_ns();
		return;
	}
	t = mark(sk);
	if (t)
		t->tail_only = 1;
}

/* The socket has ended; what is tied to it goes with it. */
static __always_inline void forget(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (!tied())
		bpf_map_delete_elem(&troubled_at, &key);
}

/* How long a socket has to be well for its mark to go. */
#define WELL_NS 10000000000ULL

static __always_inline bool is_well(const struct sock_facts *f)
{
	return !f->retransmits && !f->probes_out && !f->backoff;
}

static __always_inline void tell(const struct sock *sk, const struct tcp_sock *tp, __u16 kind, __s32 err,
				 __u8 old_state)
{
	struct tcp_event *e = reserve(&evidence, RING_EVIDENCE, sizeof(*e), kind);

	if (!e)
		return;
	e->sock.cookie = cookie_of(sk, TYPED, TYPED);
	read_sock(&e->sock, tp, e->h.ktime, TYPED);
	e->err = err;
	e->old_state = old_state;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	submit(&evidence, RING_EVIDENCE, &e->h);
}

#endif
