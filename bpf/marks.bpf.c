//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The same sockets as those of troubled.bpf.c, where the kernel does not let what is tied to sockets be walked: the hooks list the
 * addresses of those that they mark, and the reader hands them in again, some hundreds at a time. An address proves nothing: the
 * socket may have ended, and another one have its place. What is there is read as a socket, which faults at worst to zeroes, and
 * counts only if it has the cookie of the one that was marked, before and after: no two sockets ever have the same.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "ring.h"
#include "sock.h"

#define TYPED 0
#include "trouble.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

WIRE(socket_row);

/* One value, so that it takes one call to hand it in or out. */
struct marks_asked {
	__u64 n;
	__u64 at[MARKS];
};

struct marks_found {
	__u64 n;
	struct socket_row rows[MARKS];
};

WIRE(marks_asked);
WIRE(marks_found);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct marks_asked);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct marks_found);
} found SEC(".maps");

struct walk {
	struct marks_asked *asked;
	struct marks_found *found;
};

static long look_at(__u32 i, struct walk *w)
{
	struct socket_row *row;
	struct trouble *t;
	struct tcp_sock *tp;
	struct sock *sk;
	__u64 at, n = w->found->n;

	if (i >= MARKS || n >= MARKS)
		return 1;
	at = w->asked->at[i];
	t = bpf_map_lookup_elem(&troubled_at, &at);
	if (!t)
		return 0;
	sk = bpf_rdonly_cast((void *)at, bpf_core_type_id_kernel(struct sock));
	tp = bpf_rdonly_cast((void *)at, bpf_core_type_id_kernel(struct tcp_sock));
	if (!t->cookie || cookie_of(sk, true, false) != t->cookie || sk->__sk_common.skc_state == TCP_CLOSE)
		goto ended;
	row = &w->found->rows[n];
	__builtin_memset(row, 0, sizeof(*row));
	row->h.kind = KIND_SOCKET;
	row->h.len = sizeof(*row);
	row->h.cpu = bpf_get_smp_processor_id();
	row->h.ktime = bpf_ktime_get_ns();
	row->sock.cookie = t->cookie;
	read_sock(&row->sock, tp, row->h.ktime, true);
	row->isn = initial_sequence(tp, true);
	barrier();
	if (cookie_of(sk, true, false) != t->cookie)
		goto ended;
	w->found->n = n + 1;
	if (!is_well(&row->sock) || row->h.ktime - t->last <= WELL_NS)
		return 0;
ended:
	bpf_map_delete_elem(&troubled_at, &at);
	return 0;
}

/* Never attached: the reader runs it. */
SEC("raw_tp")
int look_at_marked(void *ctx)
{
	struct walk w;
	__u32 zero = 0;

	w.asked = bpf_map_lookup_elem(&asked, &zero);
	w.found = bpf_map_lookup_elem(&found, &zero);
	if (!w.asked || !w.found)
		return 0;
	w.found->n = 0;
	bpf_loop(w.asked->n, look_at, &w, 0);
	return 0;
}
