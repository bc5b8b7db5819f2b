/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the entry of tcp_write_wakeup shows, on both rungs that stand there. */
#ifndef MIDHOP_WAKEUP_H
#define MIDHOP_WAKEUP_H

#include "ring.h"
#include "sock.h"
#include "trouble.h"

/*
 * Runs once per keepalive interval of an idle socket and once per window probe. icsk_probes_out counts the probes sent
 * before this one and not answered; it stays 0 while the peer answers. A window probe with back-off is told even when the
 * probes are answered: that is a peer which does not read.
 */
static __always_inline int on_write_wakeup(const struct sock *sk)
{
	const bool typed = TYPED;
	struct tcp_sock *tp = tcp_of(sk, typed);

	ran(HOOK_PROBE);
	if (!tp)
		return 0;
	if (!GET(tp, inet_conn.icsk_probes_out) && !GET(tp, inet_conn.icsk_backoff))
		return 0;
	mark(sk);
	tell(sk, tp, KIND_PROBE, 0, 0);
	return 0;
}

#endif
