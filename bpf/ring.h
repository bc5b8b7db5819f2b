/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The rings and how a record gets into one. Waking the reader costs ten times what the record costs, so it is woken only
 * when it sleeps long (nothing for a second) or when a ring fills faster than its ticker drains it.
 */
#ifndef MIDHOP_RING_H
#define MIDHOP_RING_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "event.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RINGS);
	__type(key, __u32);
	__type(value, struct ring_count);
} ring_counts SEC(".maps");

/* Which hooks have run since the programs were loaded. Attaching does not prove that a place is ever passed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOOKS);
	__type(key, __u32);
	__type(value, __u64);
} hook_ran SEC(".maps");

static __always_inline void ran(__u32 hook)
{
	__u64 *p = bpf_map_lookup_elem(&hook_ran, &hook);

	if (p && !*p) /* written once, or all processors would fight for it */
		*p = 1;
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries,
	       4 << 20); /* 16,000 records: what a node that dies with all its sockets busy says in 10 ms */
} evidence SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20); /* 14,000 records: what a node accepts in well over a second */
} bulk SEC(".maps");

/* Silence after which a reader may be asleep; the reader's own figure (ring_linux.go) is a little longer. */
#define READER_ASLEEP_NS 1000000000ULL

/* Reserves room for a record and fills its header; counts the loss where there is none. */
static __always_inline void *reserve(void *map, __u32 ring, __u64 size, __u16 kind)
{
	struct ring_count *count;
	struct header *h;

	h = bpf_ringbuf_reserve(map, size, 0);
	if (!h) {
		count = bpf_map_lookup_elem(&ring_counts, &ring);
		if (count)
			__sync_fetch_and_add(&count->dropped, 1);
		return NULL;
	}
	h->kind = kind;
	h->len = size;
	h->cpu = bpf_get_smp_processor_id();
	h->ktime = bpf_ktime_get_ns();
	return h;
}

static __always_inline void submit(void *map, __u32 ring, struct header *h)
{
	__u64 flags = BPF_RB_NO_WAKEUP, now = h->ktime, unread, mark;
	struct ring_count *count = bpf_map_lookup_elem(&ring_counts, &ring);
	__u64 len = h->len;

	if (count) {
		/* programs of one CPU may interrupt each other: `last` is a hint, the counts are added atomically */
		__sync_fetch_and_add(&count->sent, 1);
		if (now - count->last > READER_ASLEEP_NS)
			flags = BPF_RB_FORCE_WAKEUP;
		count->last = now;
	}
	/* one wake-up as the mark is crossed; the reader's ticker makes up for a crossing that is missed */
	unread = bpf_ringbuf_query(map, BPF_RB_AVAIL_DATA);
	mark = bpf_ringbuf_query(map, BPF_RB_RING_SIZE) / 8;
	if (unread >= mark && unread < mark + 2 * len)
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(h, flags);
}

#endif
