//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Resets that this machine sends without having a socket. The tracepoint tells of them since 6.10; its arguments may be
 * NULL, and what the verifier makes of that differs between kernels, so there is no typed rung.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "reset.h"

WIRE(tcp_event);

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("raw_tp/tcp_send_reset")
int BPF_PROG(tcp_send_reset, const struct sock *sk, const struct sk_buff *skb)
{
	ran(HOOK_RESET_SENT);
	if (sk || !skb)
		return 0;
	return on_nobodys_segment(skb);
}
