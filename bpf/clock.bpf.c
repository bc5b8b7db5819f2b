//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Reads two clocks at one moment, so that the loader can work out how many jiffies make a second. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct clocks {
	__u64 jiffies;
	__u64 ktime;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct clocks);
} clocks SEC(".maps");

/* Never attached: the loader runs it. */
SEC("raw_tp")
int read_clocks(void *ctx)
{
	__u32 zero = 0;
	struct clocks *c = bpf_map_lookup_elem(&clocks, &zero);

	if (c) {
		c->ktime = bpf_ktime_get_ns();
		c->jiffies = bpf_jiffies64();
	}
	return 0;
}
