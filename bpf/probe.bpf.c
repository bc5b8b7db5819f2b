//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Keepalive and window probes that go unanswered. No tracepoint sees them; the census is the next rung. */
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
#include "wakeup.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The kprobe on the same function (kprobe.bpf.c) tells the same. */
SEC("fentry/tcp_write_wakeup")
int BPF_PROG(tcp_write_wakeup, struct sock *sk)
{
	return on_write_wakeup(sk);
}
