// SPDX-License-Identifier: Apache-2.0
#include "core/irq.h"

#include <linux/kvm.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include "core/util.h"

/* KVM allows 4096 routes; a device takes one per queue and one for its configuration. */
#define MSI_MAX 1024

int irq_router_init(struct irq_router *router, int vm_fd, uint32_t chip, uint32_t pins,
		    struct irq_msi_pins msi_pins)
{
	struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + (pins + MSI_MAX) * sizeof(table->entries[0]));

	if (!table)
		return -ENOMEM;
	for (uint32_t pin = 0; pin < pins; pin++)
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { .irqchip = chip, .pin = pin },
		};
	*router = (struct irq_router){
		.vm_fd = vm_fd,
		.chip = chip,
		.msi_pins = msi_pins,
		.senders = vm_fd >= 0 &&
			   ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID) > 0,
		.table = table,
		.first_msi = pins,
		.next_msi = pins,
	};
	pthread_mutex_init(&router->lock, NULL);
	return 0;
}

void irq_router_free(struct irq_router *router)
{
	free(router->table);
	router->table = NULL;
}

static int bind_line(struct irq_line *line, bool on)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)line->fd,
		.gsi = line->gsi,
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	if (line->bound == on)
		return 0;
	if (line->router->vm_fd >= 0 && ioctl(line->router->vm_fd, KVM_IRQFD, &irqfd) < 0)
		return -errno;
	line->bound = on;
	return 0;
}

static int open_line(struct irq_router *router, struct irq_line *line, uint32_t gsi)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	*line = (struct irq_line){ .router = router, .gsi = gsi, .fd = fd };
	return 0;
}

int irq_line_pin(struct irq_router *router, struct irq_line *line, uint32_t pin)
{
	int err = open_line(router, line, pin);

	return err ? err : bind_line(line, true);
}

int irq_line_msi(struct irq_router *router, uint32_t sender, struct irq_line *line)
{
	int err;

	if (router->next_msi >= router->first_msi + MSI_MAX)
		return -ENOSPC;
	err = open_line(router, line, router->next_msi);
	if (err)
		return err;
	line->sender = sender;
	router->next_msi++;
	return 0;
}

void irq_line_free(struct irq_line *line)
{
	if (!line->router)
		return;
	/* KVM drops an eventfd that is closed, and unlike KVM_IRQFD nobody waits for a grace period. */
	util_closep(&line->fd);
	line->router = NULL;
}

/* The route of gsi, which is added when it has none yet. */
static struct kvm_irq_routing_entry *route(struct kvm_irq_routing *table, uint32_t gsi)
{
	for (uint32_t i = 0; i < table->nr; i++)
		if (table->entries[i].gsi == gsi)
			return &table->entries[i];
	table->entries[table->nr] = (struct kvm_irq_routing_entry){ .gsi = gsi };
	return &table->entries[table->nr++];
}

static struct kvm_irq_routing_entry describe(const struct irq_line *line, uint64_t addr,
					     uint32_t data)
{
	const struct irq_router *router = line->router;
	struct kvm_irq_routing_entry entry = { .gsi = line->gsi };

	if (router->msi_pins.addr && addr == router->msi_pins.addr) {
		entry.type = KVM_IRQ_ROUTING_IRQCHIP;
		entry.u.irqchip.irqchip = router->chip;
		entry.u.irqchip.pin = data - router->msi_pins.first_data; /* KVM refuses what is none */
		return entry;
	}
	entry.type = KVM_IRQ_ROUTING_MSI;
	entry.u.msi.address_lo = (uint32_t)addr;
	entry.u.msi.address_hi = (uint32_t)(addr >> 32);
	entry.u.msi.data = data;
	if (router->senders) {
		entry.flags = KVM_MSI_VALID_DEVID;
		entry.u.msi.devid = line->sender;
	}
	return entry;
}

static int program(const struct irq_line *line, uint64_t addr, uint32_t data)
{
	const struct irq_router *router = line->router;
	const uint32_t nr = router->table->nr;
	struct kvm_irq_routing_entry *entry = route(router->table, line->gsi), old = *entry;
	struct kvm_irq_routing_entry wanted = describe(line, addr, data);

	/* KVM replaces the whole table and waits for its readers: worth avoiding. */
	if (old.type == wanted.type && !memcmp(&old.u.msi, &wanted.u.msi, sizeof(wanted.u.msi)))
		return 0;
	*entry = wanted;
	if (router->vm_fd < 0 || ioctl(router->vm_fd, KVM_SET_GSI_ROUTING, router->table) == 0)
		return 0;
	/* Or every later table, other lines' too, would be refused for it. */
	*entry = old;
	router->table->nr = nr;
	return -errno;
}

int irq_line_unmask(struct irq_line *line, uint64_t addr, uint32_t data)
{
	int err;

	pthread_mutex_lock(&line->router->lock);
	err = program(line, addr, data);
	if (!err)
		err = bind_line(line, true);
	pthread_mutex_unlock(&line->router->lock);
	return err;
}

void irq_line_mask(struct irq_line *line)
{
	pthread_mutex_lock(&line->router->lock);
	(void)bind_line(line, false);
	pthread_mutex_unlock(&line->router->lock);
}

bool irq_line_pending(const struct irq_line *line)
{
	struct pollfd raised = { .fd = line->fd, .events = POLLIN };

	return !line->bound && ppoll(&raised, 1, &(struct timespec){ 0 }, NULL) == 1;
}

void irq_line_clear(const struct irq_line *line)
{
	eventfd_t raised;

	/* It fails when there is nothing to forget. */
	(void)eventfd_read(line->fd, &raised);
}

void irq_raise(const struct irq_line *line)
{
	util_signal(line->fd);
}
