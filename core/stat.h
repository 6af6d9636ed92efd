/* SPDX-License-Identifier: Apache-2.0 */
/* Counters: one thread adds, any thread reads. No lock, no locked instruction. */
#ifndef CORE_STAT_H
#define CORE_STAT_H

#include <stdatomic.h>
#include <stdint.h>

struct stat_counter {
	_Atomic uint64_t value;
};

static inline void stat_add(struct stat_counter *counter, uint64_t n)
{
	uint64_t value = atomic_load_explicit(&counter->value, memory_order_relaxed);

	atomic_store_explicit(&counter->value, value + n, memory_order_relaxed);
}

static inline uint64_t stat_read(const struct stat_counter *counter)
{
	return atomic_load_explicit(&((struct stat_counter *)counter)->value, memory_order_relaxed);
}

#endif
