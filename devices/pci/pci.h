/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI root with one bus behind ECAM, and MSI-X. BARs are placed once, before
 * the guest runs, and stay where they are: a guest can size them, not move
 * them, so that doorbells are registered for good.
 */
#ifndef DEVICES_PCI_PCI_H
#define DEVICES_PCI_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/bus.h"
#include "core/irq.h"
#include "core/mem.h"

#define PCI_SLOTS 32
#define PCI_ECAM_LEN (1u << 20)
#define PCI_CONFIG_LEN 256

struct pci_root;

/* A device's configuration space. Embedded in its owner; guarded by the root's lock once it is plugged in. */
struct pci_function {
	uint8_t config[PCI_CONFIG_LEN];
	uint8_t writable[PCI_CONFIG_LEN]; /* the bits that the guest may change */
	uint8_t last_cap;                 /* where the newest capability is; 0: none yet */
	uint8_t next_cap;                 /* where the next one would go */
	uint16_t id;                      /* as the sender of messages: its requester id */
	/* Before a read of, and after a write to [offset, offset + len); either may be NULL. */
	void (*before_read)(struct pci_function *function, unsigned int offset, unsigned int len);
	void (*after_write)(struct pci_function *function, unsigned int offset, unsigned int len);
};

/* Where BARs are placed. */
struct pci_space {
	struct bus *bus;
	struct mem_range window; /* what is left of it */
};

struct pci_root {
	pthread_mutex_t lock;
	struct pci_space memory, ports; /* ports: zeroed unless somebody has filled it in */
	struct pci_function *slots[PCI_SLOTS];
};

/* Shows the root's ECAM at ecam on bus; BARs are placed within window. -errno of bus_add(). */
int pci_root_init(struct pci_root *root, struct bus *bus, uint64_t ecam, struct mem_range window);

/* Fills in the header. class_code is base class, subclass, interface: 0x010000. */
void pci_function_init(struct pci_function *function, uint16_t vendor, uint16_t device,
		       uint32_t class_code, uint8_t revision);
/*
 * Appends a capability of len bytes; its first two (id, next) are set here.
 * Returns its offset; -ENOSPC when the space is full.
 */
int pci_function_add_cap(struct pci_function *function, uint8_t id, const void *body, uint8_t len);
/*
 * Places a 32-bit BAR of len bytes or ports (a power of two, 4 at least) in the space's
 * window and puts ops there. -ENOSPC when the window is full; *ret_base is its address.
 */
int pci_function_add_bar(struct pci_function *function, struct pci_space *space,
			 unsigned int index, uint32_t len, const struct bus_ops *ops, void *opaque,
			 uint64_t *ret_base);
/* A 64-bit prefetchable one, of len bytes (a power of two) at base, behind which is memory; it takes two indices. */
void pci_function_set_bar64(struct pci_function *function, unsigned int index, uint64_t base,
			    uint64_t len);
/* Plugs it into the next free slot, which gives it its id. -ENOSPC. */
int pci_root_plug(struct pci_root *root, struct pci_function *function);
/* Also for one that is not plugged in. */
void pci_root_unplug(struct pci_root *root, const struct pci_function *function);

struct state;
struct state_reader;

/* MSI-X (PCI 3.0, section 6.8.2): a line for each vector. */
struct msix;

/*
 * Adds the capability to a function that is plugged in: count vectors, the table at table_offset
 * and the pending bits at pba_offset of the BAR. The owner's after_write calls msix_control().
 */
int msix_new(struct pci_function *function, struct irq_router *router, unsigned int count,
	     unsigned int bar, uint32_t table_offset, uint32_t pba_offset, struct msix **ret_msix);
void msix_free(struct msix *msix);
/* After the guest wrote to configuration space: its message control may have changed. */
void msix_control(struct msix *msix, const struct pci_function *function);
/* Appends the table and what is pending. -ENOMEM. */
int msix_save(struct msix *msix, struct state *state);
/* The same for a table of as many vectors; the function's configuration space is loaded. -EINVAL. */
int msix_load(struct msix *msix, const struct pci_function *function, struct state_reader *reader);
/* Back to the state after power-on. */
void msix_reset(struct msix *msix, struct pci_function *function);
/* Accesses to the table and to the pending bits, by the offset within each. */
uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned int len);
void msix_table_write(struct msix *msix, uint64_t offset, unsigned int len, uint64_t value);
uint64_t msix_pba_read(struct msix *msix, uint64_t offset, unsigned int len);
unsigned int msix_count(const struct msix *msix);
/* The line's eventfd, for whoever has to keep it open. */
int msix_fd(const struct msix *msix, unsigned int vector);
/* From any thread. */
void msix_raise(struct msix *msix, unsigned int vector);

#endif
