// SPDX-License-Identifier: Apache-2.0
/*
 * MSI-X by irqfd. A vector that is masked, by its own bit, by the function's
 * or because MSI-X is off, has its line masked: the line's eventfd then keeps
 * what is raised, and so it is the pending bit (core/irq.h).
 */
#include <assert.h>
#include <linux/pci_regs.h>
#include "core/state.h"
#include "core/util.h"
#include "devices/pci/pci.h"

#define ENTRY_WORDS (PCI_MSIX_ENTRY_SIZE / 4)

struct msix {
	pthread_mutex_t lock;
	uint8_t cap;
	uint16_t control; /* PCI_MSIX_FLAGS_ENABLE and _MASKALL */
	unsigned int count;
	uint32_t (*table)[ENTRY_WORDS];
	struct irq_line *lines;
};

int msix_new(struct pci_function *function, struct irq_router *router, unsigned int count,
	     unsigned int bar, uint32_t table_offset, uint32_t pba_offset, struct msix **ret_msix)
{
	struct {
		uint8_t id, next;
		uint16_t control;
		uint32_t table, pba;
	} body = { .control = (uint16_t)(count - 1),
		   .table = table_offset | bar,
		   .pba = pba_offset | bar };
	struct msix *msix = calloc(1, sizeof(*msix));
	int cap = pci_function_add_cap(function, PCI_CAP_ID_MSIX, &body, PCI_CAP_MSIX_SIZEOF), err = cap;

	static_assert(sizeof(body) == PCI_CAP_MSIX_SIZEOF, "the capability has no holes");
	if (!msix)
		return -ENOMEM;
	pthread_mutex_init(&msix->lock, NULL);
	msix->table = calloc(count, sizeof(*msix->table));
	msix->lines = calloc(count, sizeof(*msix->lines));
	if (!msix->table || !msix->lines)
		err = -ENOMEM;
	for (; err >= 0 && msix->count < count; msix->count++) {
		err = irq_line_msi(router, function->id, &msix->lines[msix->count]);
		msix->table[msix->count][3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	if (err < 0) {
		msix_free(msix);
		return err;
	}
	msix->cap = (uint8_t)cap;
	function->writable[cap + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	*ret_msix = msix;
	return 0;
}

void msix_free(struct msix *msix)
{
	if (!msix)
		return;
	for (unsigned int i = 0; i < msix->count; i++)
		irq_line_free(&msix->lines[i]);
	free(msix->lines);
	free(msix->table);
	free(msix);
}

static void update(struct msix *msix, unsigned int vector)
{
	const uint32_t *entry = msix->table[vector];

	/* A refused route leaves the vector masked: the guest that programmed nonsense gets nothing. */
	if ((msix->control & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) !=
		    PCI_MSIX_FLAGS_ENABLE ||
	    entry[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT ||
	    irq_line_unmask(&msix->lines[vector], (uint64_t)entry[1] << 32 | entry[0], entry[2]))
		irq_line_mask(&msix->lines[vector]);
}

void msix_control(struct msix *msix, const struct pci_function *function)
{
	uint16_t control;

	memcpy(&control, function->config + msix->cap + PCI_MSIX_FLAGS, sizeof(control));
	control &= PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;
	pthread_mutex_lock(&msix->lock);
	if (control != msix->control) {
		msix->control = control;
		for (unsigned int i = 0; i < msix->count; i++)
			update(msix, i);
	}
	pthread_mutex_unlock(&msix->lock);
}

void msix_reset(struct msix *msix, struct pci_function *function)
{
	function->config[msix->cap + PCI_MSIX_FLAGS + 1] &=
		(uint8_t)~((PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8);
	msix_control(msix, function);
	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < msix->count; i++) {
		memset(msix->table[i], 0, sizeof(msix->table[i]));
		msix->table[i][3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		irq_line_clear(&msix->lines[i]);
	}
	pthread_mutex_unlock(&msix->lock);
}

struct saved_vector {
	uint32_t entry[ENTRY_WORDS];
	uint32_t pending;
};

int msix_save(struct msix *msix, struct state *state)
{
	int err = 0;

	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; !err && i < msix->count; i++) {
		struct saved_vector saved = { .pending = irq_line_pending(&msix->lines[i]) };

		memcpy(saved.entry, msix->table[i], sizeof(saved.entry));
		err = state_put(state, "msix", 1, &saved, sizeof(saved));
	}
	pthread_mutex_unlock(&msix->lock);
	return err;
}

int msix_load(struct msix *msix, const struct pci_function *function, struct state_reader *reader)
{
	int err = 0;

	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; !err && i < msix->count; i++) {
		struct saved_vector saved;

		err = state_get(reader, "msix", 1, &saved, sizeof(saved));
		if (err)
			break;
		memcpy(msix->table[i], saved.entry, sizeof(saved.entry));
		if (saved.pending)
			irq_raise(&msix->lines[i]);
		update(msix, i);
	}
	pthread_mutex_unlock(&msix->lock);
	msix_control(msix, function);
	return err;
}

/* Aligned accesses of 4 and 8 bytes are all that the specification allows. */
static bool valid_access(const struct msix *msix, uint64_t offset, unsigned int len)
{
	return (len == 4 || len == 8) && offset % len == 0 &&
	       util_within(offset, len, (uint64_t)msix->count * PCI_MSIX_ENTRY_SIZE);
}

uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned int len)
{
	uint64_t value = 0;

	if (!valid_access(msix, offset, len))
		return 0;
	pthread_mutex_lock(&msix->lock);
	memcpy(&value, (uint8_t *)msix->table + offset, len);
	pthread_mutex_unlock(&msix->lock);
	return value;
}

void msix_table_write(struct msix *msix, uint64_t offset, unsigned int len, uint64_t value)
{
	if (!valid_access(msix, offset, len))
		return;
	pthread_mutex_lock(&msix->lock);
	memcpy((uint8_t *)msix->table + offset, &value, len);
	update(msix, (unsigned int)(offset / PCI_MSIX_ENTRY_SIZE));
	pthread_mutex_unlock(&msix->lock);
}

uint64_t msix_pba_read(struct msix *msix, uint64_t offset, unsigned int len)
{
	uint64_t pending = 0;

	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < 8 * len; i++) {
		uint64_t vector = 8 * offset + i;

		if (vector < msix->count && irq_line_pending(&msix->lines[vector]))
			pending |= 1ULL << i;
	}
	pthread_mutex_unlock(&msix->lock);
	return pending;
}

unsigned int msix_count(const struct msix *msix)
{
	return msix->count;
}

int msix_fd(const struct msix *msix, unsigned int vector)
{
	return msix->lines[vector].fd;
}

void msix_raise(struct msix *msix, unsigned int vector)
{
	irq_raise(&msix->lines[vector]);
}
