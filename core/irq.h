/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts by irqfd: a write to an eventfd becomes an interrupt without this
 * process running. A line is a GSI with an eventfd; it reaches a pin of the
 * interrupt controller, or carries an MSI whose address and data the guest
 * programmed.
 *
 * While a line is masked its eventfd is not bound, so that the eventfd's own
 * count is the pending bit, and binding it again delivers what is pending.
 */
#ifndef CORE_IRQ_H
#define CORE_IRQ_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct kvm_irq_routing;

/* MSIs to the address addr are the pins of the controller: data less first_data is the pin (GICv2m). */
struct irq_msi_pins {
	uint64_t addr; /* 0: there are none */
	uint32_t first_data;
};

struct irq_router {
	int vm_fd; /* -1: nothing is bound; for tests */
	uint32_t chip;
	struct irq_msi_pins msi_pins;
	bool senders; /* KVM wants to know who sends an MSI */
	pthread_mutex_t lock;
	struct kvm_irq_routing *table;
	uint32_t first_msi, next_msi; /* GSIs: the first for MSIs, and the next that is free */
};

struct irq_line {
	struct irq_router *router;
	uint32_t gsi;
	uint32_t sender; /* of an MSI */
	int fd; /* an eventfd: irq_raise() writes it */
	bool bound;
};

/*
 * GSIs 0 to pins - 1 are wired to the pins of the in-kernel controller called
 * chip (as KVM_SET_GSI_ROUTING names it); MSIs come after them. -ENOMEM.
 */
int irq_router_init(struct irq_router *router, int vm_fd, uint32_t chip, uint32_t pins,
		    struct irq_msi_pins msi_pins);
void irq_router_free(struct irq_router *router);

/* A line on the given pin, edge-triggered, bound at once. */
int irq_line_pin(struct irq_router *router, struct irq_line *line, uint32_t pin);
/*
 * A line for an MSI, masked. sender is the PCI requester id of its device, by which some
 * controllers (GICv3's ITS) tell MSIs apart. -ENOSPC when there is no route left.
 */
int irq_line_msi(struct irq_router *router, uint32_t sender, struct irq_line *line);
void irq_line_free(struct irq_line *line);

/* Programs an MSI line and binds it. On any thread, as the next two. -errno of KVM. */
int irq_line_unmask(struct irq_line *line, uint64_t addr, uint32_t data);
void irq_line_mask(struct irq_line *line);
/* For a masked line: whether it was raised since. */
bool irq_line_pending(const struct irq_line *line);
/* For a masked line: forgets that it was raised. */
void irq_line_clear(const struct irq_line *line);

/* From any thread; never blocks. */
void irq_raise(const struct irq_line *line);

#endif
