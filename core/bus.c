// SPDX-License-Identifier: Apache-2.0
#include "core/bus.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include "core/util.h"

void bus_init(struct bus *bus, int vm_fd, bool ports)
{
	*bus = (struct bus){ .vm_fd = vm_fd, .ports = ports };
}

void bus_free(struct bus *bus)
{
	free(bus->ranges);
	free(bus->doorbells);
	*bus = (struct bus){ .vm_fd = -1 };
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *opaque)
{
	struct bus_range *ranges;
	size_t at = 0;

	while (at < bus->count && bus->ranges[at].base < base)
		at++;
	if (at > 0 && base - bus->ranges[at - 1].base < bus->ranges[at - 1].len)
		return -EEXIST;
	if (at < bus->count && bus->ranges[at].base - base < len)
		return -EEXIST;

	ranges = reallocarray(bus->ranges, bus->count + 1, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	memmove(&ranges[at + 1], &ranges[at], (bus->count - at) * sizeof(*ranges));
	ranges[at] = (struct bus_range){ base, len, ops, opaque };
	bus->ranges = ranges;
	bus->count++;
	return 0;
}

int bus_doorbell(struct bus *bus, uint64_t addr, int fd, bool match, uint32_t value)
{
	struct kvm_ioeventfd kick = {
		.datamatch = value,
		.addr = addr,
		/* Length 0 takes every width and spares KVM decoding the instruction. */
		.len = match ? 4 : 0,
		.fd = fd,
		.flags = (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (bus->ports ? KVM_IOEVENTFD_FLAG_PIO : 0),
	};
	struct bus_doorbell *doorbells;

	if (bus->vm_fd >= 0)
		return ioctl(bus->vm_fd, KVM_IOEVENTFD, &kick) < 0 ? -errno : 0;

	doorbells = reallocarray(bus->doorbells, bus->doorbell_count + 1, sizeof(*doorbells));
	if (!doorbells)
		return -ENOMEM;
	bus->doorbells = doorbells;
	doorbells[bus->doorbell_count++] = (struct bus_doorbell){ addr, fd, match, value };
	return 0;
}

static const struct bus_range *find(const struct bus *bus, uint64_t addr, unsigned int len)
{
	size_t low = 0, high = bus->count;

	if (len > 8 || (len & (len - 1)) || !len)
		return NULL;
	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct bus_range *range = &bus->ranges[middle];

		if (addr < range->base)
			high = middle;
		else if (addr - range->base >= range->len)
			low = middle + 1;
		else
			return util_within(addr - range->base, len, range->len) ? range : NULL;
	}
	return NULL;
}

bool bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned int len)
{
	const struct bus_range *range = find(bus, addr, len);
	uint64_t value;

	if (!range) {
		memset(data, 0xff, len);
		return false;
	}
	value = range->ops->read(range->opaque, addr - range->base, len);
	memcpy(data, &value, len);
	return true;
}

static bool ring_doorbell(const struct bus *bus, uint64_t addr, uint64_t value, unsigned int len)
{
	for (size_t i = 0; i < bus->doorbell_count; i++) {
		const struct bus_doorbell *bell = &bus->doorbells[i];

		if (bell->addr != addr || (bell->match && (len != 4 || bell->value != value)))
			continue;
		util_signal(bell->fd);
		return true;
	}
	return false;
}

bool bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned int len)
{
	const struct bus_range *range = find(bus, addr, len);
	uint64_t value = 0;

	if (!range)
		return false;
	memcpy(&value, data, len);
	if (!ring_doorbell(bus, addr, value, len))
		range->ops->write(range->opaque, addr - range->base, len, value);
	return true;
}
