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

struct irq_router {
	int vm_fd; /* -1: nothing is bound; for tests */
	pthread_mutex_t lock;
	struct kvm_irq_routing *table;
	uint32_t capacity;
	uint32_t next_msi; /* the next free GSI */
	uint32_t pins;
	uint32_t next_pin;
};

struct irq_line {
	struct irq_router *router;
	uint32_t gsi;
	int fd;      /* write 1 (irq_raise) to interrupt */
	bool bound;
};

/*
 * pins GSIs, from 0, are wired to the controller already by KVM's default
 * routing, which the table repeats; MSIs come after them.
 */
int irq_router_init(struct irq_router *router, int vm_fd, uint32_t pins);
void irq_router_free(struct irq_router *router);

/* A line on the given pin, bound at once (edge-triggered). */
int irq_line_pin(struct irq_router *router, struct irq_line *line, uint32_t pin);
/* A line for an MSI, masked. -ENOSPC when KVM has no route left. */
int irq_line_msi(struct irq_router *router, struct irq_line *line);
void irq_line_free(struct irq_line *line);

/* Programs an MSI line and binds it. Called on vCPU threads. */
int irq_line_unmask(struct irq_line *line, uint64_t addr, uint32_t data);
void irq_line_mask(struct irq_line *line);
/* For a masked line: whether it was raised since. */
bool irq_line_pending(const struct irq_line *line);

/* From any thread; never blocks. */
void irq_raise(const struct irq_line *line);

#endif
