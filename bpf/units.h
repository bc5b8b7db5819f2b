/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The units of the wire: milliseconds instead of jiffies, 16 bytes for any address. */
#ifndef MIDHOP_UNITS_H
#define MIDHOP_UNITS_H

#include <linux/types.h>
#include "kernel.h"
#include "event.h"

/* Jiffies per second. Written by the loader before the object is loaded, so the verifier sees a constant. */
volatile const __u32 hz = 250;

static __always_inline __u32 jiffies_to_ms(__u64 jiffies)
{
	__u64 ms = jiffies * 1000 / hz;

	return ms < UNKNOWN ? ms : UNKNOWN - 1;
}

/* The age of a 32-bit jiffies stamp (tcp_jiffies32); 0 is a stamp that was never set. */
static __always_inline __u32 age_ms(__u32 stamp, __u32 now)
{
	__s32 age = now - stamp;

	if (!stamp)
		return UNKNOWN;
	return age > 0 ? jiffies_to_ms(age) : 0;
}

/* From now until a moment in jiffies, negative when it is over. */
static __always_inline __s32 until_ms(__s64 left)
{
	if (left < 0)
		return -(__s32)jiffies_to_ms(-left);
	return jiffies_to_ms(left);
}

static __always_inline void write_v4(__u8 *to, __be32 addr)
{
	__builtin_memset(to, 0, 10);
	to[10] = 0xff;
	to[11] = 0xff;
	__builtin_memcpy(to + 12, &addr, 4);
}

#endif
