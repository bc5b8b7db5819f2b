//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The sockets that some hook has marked as in trouble, and no others: in all network namespaces, and also those that no file
 * holds any more. Looking at these shows recovery, and follows a socket that its application has closed to its end,
 * without touching a packet and without walking all sockets.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "ring.h"
#include "sock.h"

#define TYPED 1
#include "trouble.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

WIRE(socket_row);

SEC("iter/bpf_sk_storage_map")
int troubled_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct trouble *t = ctx->value;
	struct sock *sk = ctx->sk;
	struct socket_row row;
	struct tcp_sock *tp;

	if (!sk || !t)
		return 0;
	tp = tcp_of(sk, true);
	if (!tp || sk->__sk_common.skc_state == TCP_CLOSE)
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	row.h.kind = KIND_SOCKET;
	row.h.len = sizeof(row);
	row.h.cpu = bpf_get_smp_processor_id();
	row.h.ktime = bpf_ktime_get_ns();
	row.sock.cookie = cookie_of(sk, true, true);
	read_sock(&row.sock, tp, row.h.ktime, true);
	row.isn = initial_sequence(tp, true);
	bpf_seq_write(seq, &row, sizeof(row));
	if (is_well(&row.sock) && row.h.ktime - t->last > WELL_NS)
		bpf_sk_storage_delete(&troubled, sk);
	return 0;
}
