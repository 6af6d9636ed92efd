// SPDX-License-Identifier: Apache-2.0
#include <linux/pci_regs.h>
#include "core/util.h"
#include "devices/pci/pci.h"

/* ECAM: 4 KiB for each function, 8 functions for each slot. */
#define FUNCTION_SHIFT 12
#define SLOT_SHIFT 15

static void store(uint8_t *to, uint64_t value, unsigned int bytes)
{
	memcpy(to, &value, bytes);
}

static struct pci_function *find(const struct pci_root *root, uint64_t offset, unsigned int len,
				 unsigned int *ret_register)
{
	struct pci_function *function = root->slots[offset >> SLOT_SHIFT];
	unsigned int reg = offset & ((1u << FUNCTION_SHIFT) - 1);

	/* Only function 0 of each slot is there. */
	if (!function || (offset >> FUNCTION_SHIFT & 7))
		return NULL;
	*ret_register = reg;
	return util_within(reg, len, 1u << FUNCTION_SHIFT) ? function : NULL;
}

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct pci_root *root = opaque;
	struct pci_function *function;
	unsigned int reg;
	uint64_t value = 0;

	function = find(root, offset, len, &reg);
	if (!function)
		return UINT64_MAX;
	/* There are no extended capabilities. */
	if (!util_within(reg, len, PCI_CONFIG_LEN))
		return 0;
	pthread_mutex_lock(&root->lock);
	if (function->before_read)
		function->before_read(function, reg, len);
	memcpy(&value, function->config + reg, len);
	pthread_mutex_unlock(&root->lock);
	return value;
}

static void ecam_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	struct pci_root *root = opaque;
	struct pci_function *function;
	unsigned int reg;

	function = find(root, offset, len, &reg);
	if (!function || !util_within(reg, len, PCI_CONFIG_LEN))
		return;
	pthread_mutex_lock(&root->lock);
	for (unsigned int i = 0; i < len; i++) {
		uint8_t mask = function->writable[reg + i], byte = (uint8_t)(value >> 8 * i);

		function->config[reg + i] =
			(uint8_t)((function->config[reg + i] & ~mask) | (byte & mask));
	}
	if (function->after_write)
		function->after_write(function, reg, len);
	pthread_mutex_unlock(&root->lock);
}

static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };

int pci_root_init(struct pci_root *root, struct bus *bus, uint64_t ecam, struct mem_range window)
{
	*root = (struct pci_root){ .memory = { bus, window } };
	pthread_mutex_init(&root->lock, NULL);
	return bus_add(bus, ecam, PCI_ECAM_LEN, &ecam_ops, root);
}

void pci_function_init(struct pci_function *function, uint16_t vendor, uint16_t device,
		       uint32_t class_code, uint8_t revision)
{
	*function = (struct pci_function){ .next_cap = PCI_STD_HEADER_SIZEOF };
	store(function->config + PCI_VENDOR_ID, vendor, 2);
	store(function->config + PCI_DEVICE_ID, device, 2);
	store(function->config + PCI_REVISION_ID, revision, 1);
	store(function->config + PCI_CLASS_PROG, class_code, 3);
	store(function->config + PCI_SUBSYSTEM_VENDOR_ID, vendor, 2);
	store(function->config + PCI_SUBSYSTEM_ID, device, 2);
	store(function->writable + PCI_COMMAND,
	      PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, 2);
	store(function->writable + PCI_CACHE_LINE_SIZE, 0xff, 1);
	store(function->writable + PCI_INTERRUPT_LINE, 0xff, 1);
}

int pci_function_add_cap(struct pci_function *function, uint8_t id, const void *body, uint8_t len)
{
	uint8_t at = function->next_cap;
	uint8_t link = function->last_cap ? function->last_cap + PCI_CAP_LIST_NEXT :
					    PCI_CAPABILITY_LIST;

	if (!util_within(at, len, PCI_CONFIG_LEN))
		return -ENOSPC;
	memcpy(function->config + at, body, len);
	function->config[at + PCI_CAP_LIST_ID] = id;
	function->config[at + PCI_CAP_LIST_NEXT] = 0;
	function->config[link] = at;
	function->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	function->last_cap = at;
	function->next_cap = (uint8_t)util_min(util_align_up(at + len, 4), UINT8_MAX);
	return at;
}

int pci_function_add_bar(struct pci_function *function, struct pci_space *space,
			 unsigned int index, uint32_t len, const struct bus_ops *ops, void *opaque,
			 uint64_t *ret_base)
{
	uint64_t base = util_align_up(space->window.gpa, len);
	uint64_t end = space->window.gpa + space->window.len;
	unsigned int reg = PCI_BASE_ADDRESS_0 + 4 * index;
	int err;

	if (base > end || len > end - base)
		return -ENOSPC;
	err = bus_add(space->bus, base, len, ops, opaque);
	if (err)
		return err;
	space->window = (struct mem_range){ base + len, end - base - len };
	store(function->config + reg, base | (space->bus->ports ? PCI_BASE_ADDRESS_SPACE_IO :
								  PCI_BASE_ADDRESS_SPACE_MEMORY), 4);
	store(function->writable + reg, ~(len - 1), 4);
	*ret_base = base;
	return 0;
}

void pci_function_set_bar64(struct pci_function *function, unsigned int index, uint64_t base,
			    uint64_t len)
{
	unsigned int reg = PCI_BASE_ADDRESS_0 + 4 * index;

	store(function->config + reg,
	      base | PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, 8);
	store(function->writable + reg, ~(len - 1), 8);
}

int pci_root_plug(struct pci_root *root, struct pci_function *function)
{
	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++) {
		if (root->slots[slot])
			continue;
		root->slots[slot] = function;
		function->id = (uint16_t)(slot << 3);
		return 0;
	}
	return -ENOSPC;
}

void pci_root_unplug(struct pci_root *root, const struct pci_function *function)
{
	unsigned int slot = function->id >> 3;

	if (root->slots[slot] == function)
		root->slots[slot] = NULL;
}
