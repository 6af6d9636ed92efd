// SPDX-License-Identifier: Apache-2.0
/*
 * virtio over PCI, modern only (virtio 1.2, section 4.1): one BAR with all
 * structures, a doorbell address and an MSI-X vector for each queue, and one
 * vector more for configuration changes. There is no INTx, so ISR is always 0.
 * Shared memory, which is no register, has a BAR of its own.
 *
 * A PC's doorbells are I/O ports, too, which its driver finds first (section
 * 4.1.4): KVM does not have to decode the instruction that writes to one.
 */
#include <assert.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include "core/bus.h"
#include "core/irq.h"
#include "core/state.h"
#include "devices/pci/pci.h"
#include "devices/virtio/transport.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_VIRTIO_BASE 0x1040 /* plus the device's virtio id */
#define REVISION_MODERN 1
/* Section 6; Linux names it from 6.4 on. */
#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif
/* What virtio 1.2 has of the common configuration; Linux' structures end before. */
#define COMMON_LEN (VIRTIO_PCI_COMMON_Q_RESET + 2)

/*
 * A driver waits for a reset to be over, and sleeps in between, which is long:
 * one that takes no time it does not have to wait for.
 */
#define RESET_WAIT_MS 5

/* The BAR. */
#define BAR_INDEX 0
#define BAR_LEN 0x10000
#define COMMON 0x0000
#define ISR 0x1000
#define DEVICE 0x2000
#define PBA 0x3000
#define NOTIFY 0x4000
#define TABLE 0x8000
#define PART_LEN 0x1000
#define NOTIFY_MULTIPLIER 4

#define PORTS_BAR_INDEX 1
#define SHM_BAR_INDEX 2

#define CONFIG_VECTOR VIRTIO_QUEUES_MAX /* its index in vectors[] */

struct virtio_pci {
	struct transport transport;
	struct pci_function function;
	struct pci_root *root;
	struct virtio_dev *dev;
	struct msix *msix;
	uint64_t bar;    /* its address */
	uint64_t ports;  /* of the doorbells; 0: there are none */
	uint8_t cfg_cap; /* where VIRTIO_PCI_CAP_PCI_CFG is */
	/* The vector of each queue and of the configuration; read by the worker. */
	_Atomic uint16_t vectors[VIRTIO_QUEUES_MAX + 1];
	/*
	 * The driver's selectors. Two vCPUs may race for them, to their own harm only: each access
	 * to a register loads them once.
	 */
	_Atomic uint32_t device_word, driver_word;
	_Atomic uint16_t queue;
};

static void raise(struct virtio_pci *pci, unsigned int index)
{
	uint16_t vector = pci->vectors[index];

	if (vector != VIRTIO_MSI_NO_VECTOR)
		msix_raise(pci->msix, vector);
}

static void raise_queue(struct transport *transport, unsigned int queue)
{
	raise(container_of(transport, struct virtio_pci, transport), queue);
}

static void raise_config(struct transport *transport)
{
	raise(container_of(transport, struct virtio_pci, transport), CONFIG_VECTOR);
}

static int interrupt_fd(struct transport *transport, unsigned int queue)
{
	struct virtio_pci *pci = container_of(transport, struct virtio_pci, transport);
	uint16_t vector = pci->vectors[queue];

	return vector == VIRTIO_MSI_NO_VECTOR ? -1 : msix_fd(pci->msix, vector);
}

static void forget_vectors(struct virtio_pci *pci)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(pci->vectors); i++)
		pci->vectors[i] = VIRTIO_MSI_NO_VECTOR;
}

static void set_vector(struct virtio_pci *pci, unsigned int index, uint64_t value)
{
	/* A vector that there is not reads back as none: section 4.1.5.1.2.1. */
	pci->vectors[index] = value < msix_count(pci->msix) ? (uint16_t)value :
							      VIRTIO_MSI_NO_VECTOR;
}

/* The width of the register at offset within struct virtio_pci_common_cfg; 0: none starts there. */
static unsigned int register_width(uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_NOFF:
	case VIRTIO_PCI_COMMON_Q_NDATA:
	case VIRTIO_PCI_COMMON_Q_RESET:
		return 2;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_DF:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return 4;
	default:
		return 0;
	}
}

static uint64_t read_queue(struct virtio_pci *pci, uint64_t offset)
{
	uint16_t queue = pci->queue;
	struct virtq_layout layout = virtio_queue(pci->dev, queue);

	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return layout.size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return queue < VIRTIO_QUEUES_MAX ? pci->vectors[queue] : VIRTIO_MSI_NO_VECTOR;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return layout.ready;
	case VIRTIO_PCI_COMMON_Q_NOFF:
	case VIRTIO_PCI_COMMON_Q_NDATA:
		return queue;
	case VIRTIO_PCI_COMMON_Q_RESET:
		return virtio_queue_resetting(pci->dev, queue);
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (uint32_t)layout.desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return layout.desc >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (uint32_t)layout.driver;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return layout.driver >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (uint32_t)layout.device;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return layout.device >> 32;
	default:
		return 0;
	}
}

static uint64_t read_common(struct virtio_pci *pci, uint64_t offset)
{
	struct virtio_dev *dev = pci->dev;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return pci->device_word;
	case VIRTIO_PCI_COMMON_DF:
		return virtio_offered(dev, pci->device_word);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return pci->driver_word;
	case VIRTIO_PCI_COMMON_GF:
		return virtio_driver_features(dev, pci->driver_word);
	case VIRTIO_PCI_COMMON_MSIX:
		return pci->vectors[CONFIG_VECTOR];
	case VIRTIO_PCI_COMMON_NUMQ:
		return dev->queue_count;
	case VIRTIO_PCI_COMMON_STATUS:
		return virtio_status(dev);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return virtio_generation(dev) & 0xff;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return pci->queue;
	default:
		return read_queue(pci, offset);
	}
}

static void write_queue(struct virtio_pci *pci, uint64_t offset, uint64_t value)
{
	uint16_t queue = pci->queue;
	struct virtq_layout layout = virtio_queue(pci->dev, queue);

	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_MSIX:
		if (queue < VIRTIO_QUEUES_MAX) {
			set_vector(pci, queue, value);
			virtio_redirect_queue(pci->dev, queue);
		}
		return;
	case VIRTIO_PCI_COMMON_Q_SIZE:
		layout.size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		/* Section 4.1.4.3.2: the driver only ever writes 1. */
		layout.ready |= value == 1;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		virtio_set_half(&layout.desc, offset & 4, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		virtio_set_half(&layout.driver, offset & 4, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		virtio_set_half(&layout.device, offset & 4, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_RESET:
		if (value == 1)
			virtio_reset_queue(pci->dev, queue);
		return;
	default:
		return;
	}
	virtio_set_queue(pci->dev, queue, &layout);
}

static void write_common(struct virtio_pci *pci, uint64_t offset, uint64_t value)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		pci->device_word = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		pci->driver_word = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_set_driver_features(pci->dev, pci->driver_word, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		set_vector(pci, CONFIG_VECTOR, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_set_status(pci->dev, (uint8_t)value);
		if (value)
			break;
		forget_vectors(pci);
		virtio_reset_wait(pci->dev, RESET_WAIT_MS);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		pci->queue = (uint16_t)value;
		break;
	default:
		write_queue(pci, offset, value);
		break;
	}
}

/*
 * Only for doorbells that did not come as an ioeventfd: through the window in configuration space,
 * and in memory where there are ports.
 */
static void ring_doorbell(struct virtio_pci *pci, uint64_t queue)
{
	if (queue < pci->dev->queue_count)
		util_signal(pci->dev->queues[queue].kick.fd);
}

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct virtio_pci *pci = opaque;
	uint64_t value = 0;

	if (offset < COMMON + PART_LEN)
		return register_width(offset) == len ? read_common(pci, offset) : 0;
	if (offset >= DEVICE && offset < DEVICE + PART_LEN)
		virtio_config_read(pci->dev, (uint32_t)(offset - DEVICE), &value, len);
	else if (offset >= PBA && offset < PBA + PART_LEN)
		value = msix_pba_read(pci->msix, offset - PBA, len);
	else if (offset >= TABLE)
		value = msix_table_read(pci->msix, offset - TABLE, len);
	return value;
}

static void bar_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	struct virtio_pci *pci = opaque;

	if (offset < COMMON + PART_LEN) {
		if (register_width(offset) == len)
			write_common(pci, offset, value);
	} else if (offset >= DEVICE && offset < DEVICE + PART_LEN) {
		virtio_config_write(pci->dev, (uint32_t)(offset - DEVICE), &value, len);
	} else if (offset >= NOTIFY && offset < NOTIFY + PART_LEN) {
		ring_doorbell(pci, (offset - NOTIFY) / NOTIFY_MULTIPLIER);
	} else if (offset >= TABLE) {
		msix_table_write(pci->msix, offset - TABLE, len, value);
	}
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

static uint64_t port_read(void *opaque, uint64_t offset, unsigned int len)
{
	(void)opaque;
	(void)offset;
	(void)len;
	return 0;
}

static void port_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	(void)len;
	(void)value;
	ring_doorbell(opaque, offset / NOTIFY_MULTIPLIER);
}

static const struct bus_ops port_ops = { .read = port_read, .write = port_write };

/* ---- configuration space ---- */

/* What answers in a BAR of registers, and how long it is; NULL: it has none. */
static const struct bus_ops *registers(const struct virtio_pci *pci, uint8_t bar, uint64_t *ret_len)
{
	if (bar == BAR_INDEX) {
		*ret_len = BAR_LEN;
		return &bar_ops;
	}
	if (bar == PORTS_BAR_INDEX && pci->ports) {
		*ret_len = (uint64_t)pci->dev->queue_count * NOTIFY_MULTIPLIER;
		return &port_ops;
	}
	return NULL;
}

/*
 * Section 4.1.4.9: a window onto the BARs for firmware that cannot map them. The
 * driver sets the capability's BAR, offset and length, then uses its data field.
 * What answers an access to [offset, offset + len), at *ret_cap, if that is the data.
 */
static const struct bus_ops *cfg_window(const struct virtio_pci *pci, unsigned int offset,
					unsigned int len, struct virtio_pci_cfg_cap *ret_cap)
{
	unsigned int data = pci->cfg_cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	const struct bus_ops *ops;
	struct virtio_pci_cfg_cap cap;
	uint64_t bar_len;

	if (offset >= data + sizeof(cap.pci_cfg_data) || offset + len <= data)
		return NULL;
	memcpy(&cap, pci->function.config + pci->cfg_cap, sizeof(cap));
	if (cap.cap.length != 1 && cap.cap.length != 2 && cap.cap.length != 4)
		return NULL;
	ops = registers(pci, cap.cap.bar, &bar_len);
	if (!ops || cap.cap.offset % cap.cap.length ||
	    !util_within(cap.cap.offset, cap.cap.length, bar_len))
		return NULL;
	*ret_cap = cap;
	return ops;
}

static void before_read(struct pci_function *function, unsigned int offset, unsigned int len)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);
	struct virtio_pci_cfg_cap cap;
	const struct bus_ops *ops = cfg_window(pci, offset, len, &cap);
	uint64_t value;

	if (!ops)
		return;
	value = ops->read(pci, cap.cap.offset, cap.cap.length);
	memcpy(function->config + pci->cfg_cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
	       &value, cap.cap.length);
}

static void after_write(struct pci_function *function, unsigned int offset, unsigned int len)
{
	struct virtio_pci *pci = container_of(function, struct virtio_pci, function);
	struct virtio_pci_cfg_cap cap;
	const struct bus_ops *ops = cfg_window(pci, offset, len, &cap);
	uint64_t value = 0;

	msix_control(pci->msix, function);
	if (!ops)
		return;
	memcpy(&value, cap.pci_cfg_data, cap.cap.length);
	ops->write(pci, cap.cap.offset, cap.cap.length, value);
}

static int add_cap(struct virtio_pci *pci, uint8_t type, uint8_t bar, uint32_t offset, uint32_t len)
{
	struct virtio_pci_notify_cap cap = {
		.cap = {
			.cap_len = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? sizeof(cap) : sizeof(cap.cap),
			.cfg_type = type,
			.bar = bar,
			.offset = offset,
			.length = len,
		},
		.notify_off_multiplier = NOTIFY_MULTIPLIER,
	};

	return pci_function_add_cap(&pci->function, PCI_CAP_ID_VNDR, &cap, cap.cap.cap_len);
}

static int add_cfg_cap(struct virtio_pci *pci)
{
	struct virtio_pci_cfg_cap cap = {
		.cap = { .cap_len = sizeof(cap), .cfg_type = VIRTIO_PCI_CAP_PCI_CFG },
	};
	uint8_t *writable;
	int at = pci_function_add_cap(&pci->function, PCI_CAP_ID_VNDR, &cap, sizeof(cap));

	if (at < 0)
		return at;
	pci->cfg_cap = (uint8_t)at;
	writable = pci->function.writable + at;
	memset(writable + VIRTIO_PCI_CAP_BAR, 0xff, 1);
	memset(writable + VIRTIO_PCI_CAP_OFFSET, 0xff, 4);
	memset(writable + VIRTIO_PCI_CAP_LENGTH, 0xff, 4);
	memset(writable + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 0xff, 4);
	return 0;
}

static int add_shm_cap(struct virtio_pci *pci)
{
	const struct virtio_shm *shm = &pci->dev->shm;
	const struct virtio_pci_cap64 cap = {
		.cap = {
			.cap_len = sizeof(cap),
			.cfg_type = VIRTIO_PCI_CAP_SHARED_MEMORY_CFG,
			.bar = SHM_BAR_INDEX,
			.id = shm->id,
			.length = (uint32_t)shm->window.len,
		},
		.length_hi = (uint32_t)(shm->window.len >> 32),
	};

	return pci_function_add_cap(&pci->function, PCI_CAP_ID_VNDR, &cap, sizeof(cap));
}

/* Where it is: in init, and as firmware would place it again. */
static void set_shm_bar(struct virtio_pci *pci)
{
	const struct virtio_shm *shm = &pci->dev->shm;

	if (shm->window.hva)
		pci_function_set_bar64(&pci->function, SHM_BAR_INDEX, shm->gpa, shm->window.len);
}

/* Where no ports are left the doorbells in memory do as well. */
static int add_ports(struct virtio_pci *pci, uint32_t len)
{
	uint32_t room = NOTIFY_MULTIPLIER;
	int err;

	while (room < len)
		room *= 2;
	err = pci_function_add_bar(&pci->function, &pci->root->ports, PORTS_BAR_INDEX, room,
				   &port_ops, pci, &pci->ports);
	if (err)
		return err == -ENOSPC ? 0 : err;
	return add_cap(pci, VIRTIO_PCI_CAP_NOTIFY_CFG, PORTS_BAR_INDEX, 0, len);
}

/*
 * What drivers do without comes late: Linux looks for a dozen capabilities of each device, from
 * the beginning each time, and every byte that it reads is an exit.
 */
static int add_caps(struct virtio_pci *pci, struct irq_router *router)
{
	unsigned int queues = pci->dev->queue_count;
	uint32_t doorbells = queues * NOTIFY_MULTIPLIER;
	int err;

	err = add_cap(pci, VIRTIO_PCI_CAP_COMMON_CFG, BAR_INDEX, COMMON, COMMON_LEN);
	if (err >= 0)
		err = add_ports(pci, doorbells);
	if (err >= 0)
		err = add_cap(pci, VIRTIO_PCI_CAP_ISR_CFG, BAR_INDEX, ISR, 1);
	if (err >= 0 && pci->dev->class->config_size)
		err = add_cap(pci, VIRTIO_PCI_CAP_DEVICE_CFG, BAR_INDEX, DEVICE,
			      (uint32_t)pci->dev->class->config_size);
	if (err >= 0)
		err = add_cap(pci, VIRTIO_PCI_CAP_NOTIFY_CFG, BAR_INDEX, NOTIFY, doorbells);
	if (err >= 0 && pci->dev->shm.window.hva)
		err = add_shm_cap(pci);
	if (err >= 0)
		err = add_cfg_cap(pci);
	if (err >= 0)
		err = msix_new(&pci->function, router, queues + 1, BAR_INDEX, TABLE, PBA,
			       &pci->msix);
	return err < 0 ? err : 0;
}

/*
 * A doorbell for each queue, and the interrupts' eventfds for the worker. Where there are ports no
 * driver is expected to ring in memory: each ioeventfd has KVM wait for all vCPUs when it starts.
 */
static int wire(struct virtio_pci *pci)
{
	struct virtio_dev *dev = pci->dev;
	struct bus *bus = pci->ports ? pci->root->ports.bus : pci->root->memory.bus;
	const uint64_t base = pci->ports ?: pci->bar + NOTIFY;
	int err = 0;

	for (unsigned int i = 0; !err && i < dev->queue_count; i++)
		err = bus_doorbell(bus, base + (uint64_t)i * NOTIFY_MULTIPLIER,
				   dev->queues[i].kick.fd, false, 0);
	for (unsigned int i = 0; !err && i < msix_count(pci->msix); i++)
		err = virtio_dev_keep_fd(dev, msix_fd(pci->msix, i));
	return err;
}

static void pci_freep(struct virtio_pci **pci)
{
	virtio_pci_free(*pci);
}

int virtio_pci_new(struct virtio_dev *dev, struct pci_root *root, struct irq_router *router,
		   struct virtio_pci **ret_pci)
{
	_cleanup_(pci_freep) struct virtio_pci *pci = calloc(1, sizeof(*pci));
	int err;

	if (!pci)
		return -ENOMEM;
	pci->transport = (struct transport){ raise_queue, raise_config, interrupt_fd };
	pci->dev = dev;
	pci->root = root;
	forget_vectors(pci);
	pci_function_init(&pci->function, PCI_VENDOR_VIRTIO,
			  (uint16_t)(PCI_DEVICE_VIRTIO_BASE + dev->class->id), dev->class->pci_class,
			  REVISION_MODERN);
	err = pci_root_plug(root, &pci->function);
	if (!err)
		err = add_caps(pci, router);
	if (!err)
		err = pci_function_add_bar(&pci->function, &root->memory, BAR_INDEX, BAR_LEN,
					   &bar_ops, pci, &pci->bar);
	set_shm_bar(pci);
	if (!err)
		err = wire(pci);
	if (err)
		return err;
	pci->function.before_read = before_read;
	pci->function.after_write = after_write;
	dev->transport = &pci->transport;
	/* Each queue has a doorbell of its own, so what is written there costs nothing. */
	dev->offered |= 1ULL << VIRTIO_F_NOTIFICATION_DATA;
	*ret_pci = util_steal_ptr(&pci);
	return 0;
}

void virtio_pci_reset(struct virtio_pci *pci)
{
	const uint32_t bars[] = {
		(uint32_t)pci->bar,
		pci->ports ? (uint32_t)pci->ports | PCI_BASE_ADDRESS_SPACE_IO : 0,
	};

	pthread_mutex_lock(&pci->root->lock);
	memset(pci->function.config + PCI_COMMAND, 0, 2);
	/* As firmware would place it: the guest may have left it sized, or moved in vain. */
	memcpy(pci->function.config + PCI_BASE_ADDRESS_0, bars, sizeof(bars));
	set_shm_bar(pci);
	msix_reset(pci->msix, &pci->function);
	pthread_mutex_unlock(&pci->root->lock);
	forget_vectors(pci);
	pci->device_word = pci->driver_word = 0;
	pci->queue = 0;
}

struct saved_pci {
	uint32_t device_word, driver_word;
	uint16_t queue;
	uint16_t vectors[VIRTIO_QUEUES_MAX + 1];
	uint8_t config[PCI_CONFIG_LEN];
};

static_assert(sizeof(struct saved_pci) == 10 + 2 * (VIRTIO_QUEUES_MAX + 1) + PCI_CONFIG_LEN, "no holes");

int virtio_pci_save(struct virtio_pci *pci, struct state *state)
{
	struct saved_pci saved = {
		.device_word = pci->device_word,
		.driver_word = pci->driver_word,
		.queue = pci->queue,
	};
	int err;

	for (unsigned int i = 0; i < ARRAY_SIZE(pci->vectors); i++)
		saved.vectors[i] = pci->vectors[i];
	pthread_mutex_lock(&pci->root->lock);
	memcpy(saved.config, pci->function.config, sizeof(saved.config));
	pthread_mutex_unlock(&pci->root->lock);
	err = state_put(state, "virtio-pci", 2, &saved, sizeof(saved));
	return err ? err : msix_save(pci->msix, state);
}

int virtio_pci_load(struct virtio_pci *pci, struct state_reader *reader)
{
	struct pci_function *function = &pci->function;
	struct saved_pci saved;
	int err = state_get(reader, "virtio-pci", 2, &saved, sizeof(saved));

	if (err)
		return err;
	pci->device_word = saved.device_word;
	pci->driver_word = saved.driver_word;
	pci->queue = saved.queue;
	for (unsigned int i = 0; i < ARRAY_SIZE(pci->vectors); i++)
		set_vector(pci, i, saved.vectors[i]);
	pthread_mutex_lock(&pci->root->lock);
	/* What the guest could not have changed is not the save's to change either. */
	for (unsigned int i = 0; i < PCI_CONFIG_LEN; i++)
		function->config[i] = (uint8_t)((function->config[i] & ~function->writable[i]) |
						(saved.config[i] & function->writable[i]));
	pthread_mutex_unlock(&pci->root->lock);
	return msix_load(pci->msix, function, reader);
}

void virtio_pci_free(struct virtio_pci *pci)
{
	if (!pci)
		return;
	pci_root_unplug(pci->root, &pci->function);
	msix_free(pci->msix);
	free(pci);
}
