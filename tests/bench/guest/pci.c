// SPDX-License-Identifier: Apache-2.0
/*
 * virtio over PCI, as far as there is one bus and nobody else on it. BARs are
 * used where they are, or placed, as there may have been no firmware to do it.
 */
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include "virtio.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_VIRTIO_BASE 0x1040
#define SLOTS 32
#define SLOT_SHIFT 15
#define FUNCTIONS 256
#define FUNCTION_SHIFT 12

static uint64_t offered(const struct device *dev)
{
	uint64_t features;

	write32(dev->base + VIRTIO_PCI_COMMON_DFSELECT, 1);
	features = (uint64_t)read32(dev->base + VIRTIO_PCI_COMMON_DF) << 32;
	write32(dev->base + VIRTIO_PCI_COMMON_DFSELECT, 0);
	return features | read32(dev->base + VIRTIO_PCI_COMMON_DF);
}

static void accept(const struct device *dev, uint64_t features)
{
	for (unsigned int word = 0; word < 2; word++) {
		write32(dev->base + VIRTIO_PCI_COMMON_GFSELECT, word);
		write32(dev->base + VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> 32 * word));
	}
}

static uint8_t status(const struct device *dev)
{
	return read8(dev->base + VIRTIO_PCI_COMMON_STATUS);
}

static void set_status(const struct device *dev, uint8_t status)
{
	write8(dev->base + VIRTIO_PCI_COMMON_STATUS, status);
}

static void set_address(const struct device *dev, uint32_t low, const void *address)
{
	write32(dev->base + low, (uint32_t)(uintptr_t)address);
	write32(dev->base + low + 4, (uint32_t)((uintptr_t)address >> 32));
}

/* All queues share vector 0. */
static bool set_queue(const struct device *dev, struct queue *queue)
{
	write16(dev->base + VIRTIO_PCI_COMMON_Q_SELECT, queue->index);
	queue->size = queue_size(read16(dev->base + VIRTIO_PCI_COMMON_Q_SIZE));
	if (!queue->size)
		return false;
	write16(dev->base + VIRTIO_PCI_COMMON_Q_SIZE, queue->size);
	write16(dev->base + VIRTIO_PCI_COMMON_Q_MSIX, 0);
	set_address(dev, VIRTIO_PCI_COMMON_Q_DESCLO, &queue->desc);
	set_address(dev, VIRTIO_PCI_COMMON_Q_AVAILLO, &queue->driver);
	set_address(dev, VIRTIO_PCI_COMMON_Q_USEDLO, &queue->device);
	write16(dev->base + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	queue->doorbell = dev->notify + (uintptr_t)read16(dev->base + VIRTIO_PCI_COMMON_Q_NOFF) *
						dev->notify_multiplier;
	return read16(dev->base + VIRTIO_PCI_COMMON_Q_MSIX) == 0;
}

static void ring(const struct queue *queue)
{
	if (queue->dev->rings_ports)
		cpu_out16((uint16_t)queue->doorbell, queue->index);
	else
		write16(queue->doorbell, queue->index);
}

static void acknowledge(const struct device *dev)
{
	(void)dev;
}

static const struct transport pci = {
	.offered = offered,
	.accept = accept,
	.status = status,
	.set_status = set_status,
	.set_queue = set_queue,
	.ring = ring,
	.acknowledge = acknowledge,
};

/* Where a BAR is; one that is nowhere gets the next place in the window. */
static uintptr_t bar_address(uintptr_t function, unsigned int index, uintptr_t *window)
{
	uintptr_t reg = function + PCI_BASE_ADDRESS_0 + 4 * index;
	uint32_t old = read32(reg), len;
	bool wide = (old & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;

	if ((old & PCI_BASE_ADDRESS_MEM_MASK) && !(wide && read32(reg + 4)))
		return old & PCI_BASE_ADDRESS_MEM_MASK;
	write32(reg, UINT32_MAX);
	len = -(read32(reg) & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK);
	*window = (*window + len - 1) & -(uintptr_t)len;
	write32(reg, (uint32_t)*window);
	if (wide)
		write32(reg + 4, 0);
	*window += len;
	return *window - len;
}

static void enable_msix(uintptr_t function, uintptr_t cap, uintptr_t *window)
{
	struct msi msi = cpu_connect_msi(function >> FUNCTION_SHIFT & (FUNCTIONS - 1));
	uint32_t table = read32(cap + PCI_MSIX_TABLE);
	uintptr_t entry = bar_address(function, table & PCI_MSIX_TABLE_BIR, window) +
			  (table & PCI_MSIX_TABLE_OFFSET);

	write32(entry + PCI_MSIX_ENTRY_LOWER_ADDR, (uint32_t)msi.address);
	write32(entry + PCI_MSIX_ENTRY_UPPER_ADDR, (uint32_t)(msi.address >> 32));
	write32(entry + PCI_MSIX_ENTRY_DATA, msi.data);
	write32(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
	write16(cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
}

/* Of several the first is the one that the device prefers. */
static void note_doorbells(struct device *dev, uintptr_t cap, uintptr_t at, bool ports)
{
	if (dev->notify)
		return;
	dev->rings_ports = ports;
	dev->notify = at;
	dev->notify_multiplier = read32(cap + VIRTIO_PCI_NOTIFY_CAP_MULT);
}

static void note_part(struct device *dev, uintptr_t function, uintptr_t cap, uintptr_t *window)
{
	uint8_t type = read8(cap + VIRTIO_PCI_CAP_CFG_TYPE), bar = read8(cap + VIRTIO_PCI_CAP_BAR);
	uint32_t address;
	uintptr_t at;

	if (type != VIRTIO_PCI_CAP_COMMON_CFG && type != VIRTIO_PCI_CAP_NOTIFY_CFG &&
	    type != VIRTIO_PCI_CAP_DEVICE_CFG)
		return;
	address = read32(function + PCI_BASE_ADDRESS_0 + 4 * bar);
	if (address & PCI_BASE_ADDRESS_SPACE_IO) {
		/* Nobody tells where there is room for ports that are nowhere. */
		at = address & PCI_BASE_ADDRESS_IO_MASK;
		if (cpu_has_ports() && at && type == VIRTIO_PCI_CAP_NOTIFY_CFG)
			note_doorbells(dev, cap, at + read32(cap + VIRTIO_PCI_CAP_OFFSET), true);
		return;
	}
	at = bar_address(function, bar, window) + read32(cap + VIRTIO_PCI_CAP_OFFSET);
	if (type == VIRTIO_PCI_CAP_COMMON_CFG) {
		dev->base = at;
	} else if (type == VIRTIO_PCI_CAP_DEVICE_CFG) {
		dev->config = at;
	} else {
		note_doorbells(dev, cap, at, false);
	}
}

static void set_up(struct device *dev, uintptr_t function, uintptr_t *window)
{
	uint8_t next = read8(function + PCI_CAPABILITY_LIST);

	write16(function + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	while (next) {
		uintptr_t cap = function + next;

		if (read8(cap) == PCI_CAP_ID_VNDR)
			note_part(dev, function, cap, window);
		else if (read8(cap) == PCI_CAP_ID_MSIX)
			enable_msix(function, cap, window);
		next = read8(cap + PCI_CAP_LIST_NEXT);
	}
}

unsigned int pci_scan(uintptr_t ecam, uintptr_t window, struct device devices[DEVICES_MAX])
{
	unsigned int found = 0;

	for (unsigned int slot = 0; slot < SLOTS && found < DEVICES_MAX; slot++) {
		uintptr_t function = ecam + ((uintptr_t)slot << SLOT_SHIFT);
		uint16_t id = read16(function + PCI_DEVICE_ID);

		if (read16(function + PCI_VENDOR_ID) != PCI_VENDOR_VIRTIO ||
		    id < PCI_DEVICE_VIRTIO_BASE)
			continue;
		devices[found] = (struct device){
			.id = id - PCI_DEVICE_VIRTIO_BASE,
			.transport = &pci,
		};
		set_up(&devices[found++], function, &window);
	}
	return found;
}
