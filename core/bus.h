/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted array of address ranges, complete before vCPUs run and looked up
 * without a lock. One for memory-mapped I/O, one for x86 ports. Doorbells are
 * addresses whose writes the kernel turns into an eventfd (ioeventfd), without
 * an exit to this process.
 */
#ifndef CORE_BUS_H
#define CORE_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Offsets are relative to the range and, with len (1, 2, 4 or 8), lie within
 * it. Called on vCPU threads, several at once.
 */
struct bus_ops {
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned int len);
	void (*write)(void *opaque, uint64_t offset, unsigned int len, uint64_t value);
};

struct bus_range {
	uint64_t base;
	uint64_t len;
	const struct bus_ops *ops;
	void *opaque;
};

struct bus_doorbell {
	uint64_t addr;
	int fd;
	bool match; /* only for writes of value */
	uint32_t value;
};

struct bus {
	struct bus_range *ranges;
	size_t count;
	struct bus_doorbell *doorbells;
	size_t doorbell_count;
	int vm_fd; /* the KVM VM that serves the doorbells; -1: bus_write() does it, for tests */
	bool ports;
};

/* ports: an I/O port bus instead of memory. */
void bus_init(struct bus *bus, int vm_fd, bool ports);
void bus_free(struct bus *bus);

/* -EEXIST when it overlaps a range, -ENOMEM. ops and opaque must outlive the bus. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *opaque);

/*
 * Writes of any width to addr signal fd. With match only 4-byte writes of value do (virtio-mmio's
 * one doorbell register for all queues). -errno of KVM_IOEVENTFD.
 */
int bus_doorbell(struct bus *bus, uint64_t addr, int fd, bool match, uint32_t value);

/*
 * data holds len bytes, little-endian, as KVM hands them over. Reads of
 * nothing give all ones, writes to nothing are ignored; len other than 1, 2,
 * 4 and 8 counts as nothing. Returns false when nothing was there.
 */
bool bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned int len);
bool bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned int len);

#endif
