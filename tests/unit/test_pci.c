// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include "core/bus.h"
#include "core/irq.h"
#include "core/state.h"
#include "devices/pci/pci.h"
#include "tests/unit/driver.h"
#include "tests/unit/fake.h"
#include "tests/unit/hostile.h"

#define ECAM 0xe0000000
#define SLOT(n) ((n) << 15)
#define WINDOW 0xc0000000
#define WINDOW_LEN 0x1000000
#define BAR_LEN 0x10000
#define PORTS 0x1000
#define PORTS_LEN 16
#define PORTS_SIZED (~(PORTS_LEN - 1u) | PCI_BASE_ADDRESS_SPACE_IO)
#define COMMON_LEN 60 /* of virtio 1.2 */

#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif

#define VECTORS (FAKE_QUEUES + 1)

static const struct fake_conf plain;

struct fixture {
	struct vq_guest guest;
	struct bus bus, ports;
	struct irq_router router;
	struct pci_root root;
	struct virtio_pci *pci;
	/* As the capabilities say. */
	uint64_t bar, common, isr, notify, device, table, pba, port;
	uint32_t notify_multiplier;
	unsigned int msix, window, shm;
	const int *lines; /* the vectors' eventfds */
};

static uint32_t config_read(struct fixture *f, unsigned int reg, unsigned int len)
{
	uint32_t value = 0;

	assert_true(bus_read(&f->bus, ECAM + SLOT(1) + reg, &value, len));
	return value;
}

static void config_write(struct fixture *f, unsigned int reg, unsigned int len, uint32_t value)
{
	assert_true(bus_write(&f->bus, ECAM + SLOT(1) + reg, &value, len));
}

static uint64_t bar_read(struct fixture *f, uint64_t addr, unsigned int len)
{
	uint64_t value = 0;

	assert_true(bus_read(&f->bus, addr, &value, len));
	return value;
}

static void bar_write(struct fixture *f, uint64_t addr, unsigned int len, uint64_t value)
{
	assert_true(bus_write(&f->bus, addr, &value, len));
}

static uint64_t common_read(struct fixture *f, unsigned int reg, unsigned int len)
{
	return bar_read(f, f->common + reg, len);
}

static void common_write(struct fixture *f, unsigned int reg, unsigned int len, uint64_t value)
{
	bar_write(f, f->common + reg, len, value);
}

/* Where a structure is; it lies within the BAR. */
static uint64_t place(struct fixture *f, unsigned int cap)
{
	uint32_t offset = config_read(f, cap + VIRTIO_PCI_CAP_OFFSET, 4);
	uint32_t len = config_read(f, cap + VIRTIO_PCI_CAP_LENGTH, 4);

	assert_int_equal(config_read(f, cap + VIRTIO_PCI_CAP_BAR, 1), 0);
	assert_true(len > 0 && util_within(offset, len, BAR_LEN));
	return f->bar + offset;
}

static uint64_t port_place(struct fixture *f, unsigned int cap)
{
	const uint32_t bar = config_read(f, PCI_BASE_ADDRESS_1, 4);

	assert_int_equal(bar, PORTS | PCI_BASE_ADDRESS_SPACE_IO);
	return (bar & PCI_BASE_ADDRESS_IO_MASK) + config_read(f, cap + VIRTIO_PCI_CAP_OFFSET, 4);
}

static void find_virtio_cap(struct fixture *f, unsigned int cap)
{
	switch (config_read(f, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		f->common = place(f, cap);
		assert_true(config_read(f, cap + VIRTIO_PCI_CAP_LENGTH, 4) == COMMON_LEN);
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		if (config_read(f, cap + VIRTIO_PCI_CAP_BAR, 1)) {
			/* A driver takes the first that it can use. */
			assert_true(!f->notify);
			f->port = port_place(f, cap);
		} else {
			f->notify = place(f, cap);
		}
		f->notify_multiplier = config_read(f, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		assert_int_equal(config_read(f, cap + VIRTIO_PCI_CAP_LENGTH, 4),
				 FAKE_QUEUES * f->notify_multiplier);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		f->isr = place(f, cap);
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		f->device = place(f, cap);
		assert_int_equal(config_read(f, cap + VIRTIO_PCI_CAP_LENGTH, 4), FAKE_CONFIG_SIZE);
		break;
	case VIRTIO_PCI_CAP_PCI_CFG:
		f->window = cap;
		break;
	case VIRTIO_PCI_CAP_SHARED_MEMORY_CFG:
		f->shm = cap;
		break;
	default:
		fail();
	}
}

/* As a driver finds its way: through the list of capabilities, which has to end. */
static void find_caps(struct fixture *f)
{
	unsigned int steps = 0;

	f->notify = 0;
	assert_true(config_read(f, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	f->bar = config_read(f, PCI_BASE_ADDRESS_0, 4);
	for (unsigned int cap = config_read(f, PCI_CAPABILITY_LIST, 1); cap;
	     cap = config_read(f, cap + PCI_CAP_LIST_NEXT, 1)) {
		assert_true(cap >= PCI_STD_HEADER_SIZEOF && cap % 4 == 0);
		assert_true(++steps < 16);
		if (config_read(f, cap, 1) == PCI_CAP_ID_VNDR) {
			find_virtio_cap(f, cap);
			continue;
		}
		assert_int_equal(config_read(f, cap, 1), PCI_CAP_ID_MSIX);
		f->msix = cap;
		assert_int_equal(config_read(f, cap + PCI_MSIX_FLAGS, 2), VECTORS - 1);
		f->table = f->bar + config_read(f, cap + PCI_MSIX_TABLE, 4);
		f->pba = f->bar + config_read(f, cap + PCI_MSIX_PBA, 4);
	}
	assert_true(f->common && f->isr && f->notify && f->device && f->window && f->msix);
}

static void wire_with(struct fixture *f, uint64_t ports)
{
	const struct mem_range window = { WINDOW, WINDOW_LEN };
	struct worker *worker = &f->guest.dev->workers[0];

	bus_init(&f->bus, -1, false);
	assert_int_equal(irq_router_init(&f->router, -1, 0, 24, (struct irq_msi_pins){ 0 }), 0);
	assert_int_equal(pci_root_init(&f->root, &f->bus, ECAM, window), 0);
	bus_init(&f->ports, -1, true);
	f->root.ports = (struct pci_space){ &f->ports, { PORTS, ports } };
	assert_int_equal(virtio_pci_new(f->guest.dev, &f->root, &f->router, &f->pci), 0);
	f->lines = &worker->keep[worker->keep_count - VECTORS];
	find_caps(f);
}

static void wire(struct fixture *f)
{
	wire_with(f, PORTS_LEN);
}

static void unwire(struct fixture *f)
{
	virtio_pci_free(f->pci);
	irq_router_free(&f->router);
	bus_free(&f->bus);
	bus_free(&f->ports);
}

static void setup_as(struct fixture *f, const struct fake_conf *conf)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(vq_guest_init(&f->guest, &fake_class, conf), 0);
	wire(f);
}

static void setup(struct fixture *f)
{
	setup_as(f, &plain);
}

static void teardown(struct fixture *f)
{
	vq_guest_free(&f->guest);
	unwire(f);
}

static uint64_t interrupts(struct fixture *f, unsigned int vector)
{
	eventfd_t count = 0;

	(void)eventfd_read(f->lines[vector], &count);
	return count;
}

static void set_up_vectors(struct fixture *f)
{
	config_write(f, f->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned int i = 0; i < VECTORS; i++) {
		bar_write(f, f->table + 16 * i, 8, 0xfee00000);
		bar_write(f, f->table + 16 * i + 8, 4, 0x20 + i);
		bar_write(f, f->table + 16 * i + 12, 4, 0);
	}
}

static void set_up_queue(struct fixture *f, uint16_t queue)
{
	struct vq *vq = &f->guest.queues[queue];

	/* Allocates the rings, and writes them into the registers, from where they go again. */
	vq_set_up_queue(&f->guest, queue);
	virtio_set_queue(f->guest.dev, queue, &(struct virtq_layout){ .size = FAKE_QUEUE_SIZE });
	common_write(f, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	common_write(f, VIRTIO_PCI_COMMON_Q_SIZE, 2, VQ_SIZE);
	common_write(f, VIRTIO_PCI_COMMON_Q_DESCLO, 4, vq->desc);
	common_write(f, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0);
	common_write(f, VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 0);
	common_write(f, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, vq->avail);
	common_write(f, VIRTIO_PCI_COMMON_Q_USEDLO, 4, vq->used);
	common_write(f, VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0);
	common_write(f, VIRTIO_PCI_COMMON_Q_MSIX, 2, queue + 1u);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_Q_MSIX, 2), queue + 1u);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	common_write(f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void start(struct fixture *f)
{
	common_write(f, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_STATUS, 1), 0);
	common_write(f, VIRTIO_PCI_COMMON_STATUS, 1,
		     VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	common_write(f, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	common_write(f, VIRTIO_PCI_COMMON_GF, 4, 1 | 1u << (VIRTIO_F_NOTIFICATION_DATA - 32) |
							1u << (VIRTIO_F_RING_RESET - 32));
	common_write(f, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_write(f, VIRTIO_PCI_COMMON_GF, 4, 1u << FAKE_FEATURE);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_GF, 4), 1u << FAKE_FEATURE);
	common_write(f, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_FEATURES_OK);
	set_up_vectors(f);
	common_write(f, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_MSIX, 2), 0);
	for (uint16_t i = 0; i < FAKE_QUEUES; i++)
		set_up_queue(f, i);
	common_write(f, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(common_read(f, VIRTIO_PCI_COMMON_STATUS, 1), 0xf);
}

/* ---- configuration space ---- */

static void test_header(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(config_read(&f, PCI_VENDOR_ID, 4), (0x1040 + 42) << 16 | 0x1af4);
	assert_int_equal(config_read(&f, PCI_CLASS_REVISION, 4), 0x08800001);
	assert_int_equal(config_read(&f, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
	assert_int_equal(config_read(&f, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(f.bar, WINDOW);
	config_write(&f, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(config_read(&f, PCI_COMMAND, 2),
			 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
				 PCI_COMMAND_INTX_DISABLE);
	teardown(&f);
}

static void test_empty_slots(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (uint64_t at = 0; at < PCI_ECAM_LEN; at += 0x1000) {
		uint32_t value = 0, ones = UINT32_MAX;

		assert_true(bus_write(&f.bus, ECAM + at, &ones, 4));
		assert_true(bus_read(&f.bus, ECAM + at, &value, 4));
		/* Function 0 of slot 1 alone. */
		assert_int_equal(value == UINT32_MAX, at != SLOT(1));
	}
	teardown(&f);
}

/* Ones everywhere, in every width: what identifies the function and its structures stays. */
static void test_every_register(void **state)
{
	uint8_t before[PCI_CONFIG_LEN], after[PCI_CONFIG_LEN];
	struct fixture f, again;

	(void)state;
	setup(&f);
	for (unsigned int i = 0; i < PCI_CONFIG_LEN; i++)
		before[i] = (uint8_t)config_read(&f, i, 1);
	for (unsigned int len = 1; len <= 8; len *= 2) {
		for (unsigned int reg = 0; reg < 0x1000; reg++) {
			uint64_t ones = UINT64_MAX, value = 0;

			assert_true(bus_write(&f.bus, ECAM + SLOT(1) + reg, &ones, len));
			assert_true(bus_read(&f.bus, ECAM + SLOT(1) + reg, &value, len));
			if (reg >= PCI_CONFIG_LEN && reg + len <= 0x1000)
				assert_int_equal(value, 0);
		}
	}
	for (unsigned int i = 0; i < PCI_CONFIG_LEN; i++)
		after[i] = (uint8_t)config_read(&f, i, 1);
	/* The registers that are there to be written. */
	memcpy(after + PCI_COMMAND, before + PCI_COMMAND, 2);
	after[PCI_CACHE_LINE_SIZE] = after[PCI_INTERRUPT_LINE] = 0;
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_0, 4), (uint32_t)~(BAR_LEN - 1));
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_1, 4), PORTS_SIZED);
	memcpy(after + PCI_BASE_ADDRESS_0, before + PCI_BASE_ADDRESS_0, 8);
	memcpy(after + f.window + VIRTIO_PCI_CAP_BAR, before + f.window + VIRTIO_PCI_CAP_BAR, 1);
	memcpy(after + f.window + VIRTIO_PCI_CAP_OFFSET,
	       before + f.window + VIRTIO_PCI_CAP_OFFSET, 12);
	assert_int_equal(after[f.msix + PCI_MSIX_FLAGS + 1], 0xc0);
	after[f.msix + PCI_MSIX_FLAGS + 1] = 0;
	assert_memory_equal(after, before, sizeof(after));

	/* A reset of the machine puts back all that firmware would. */
	virtio_pci_reset(f.pci);
	again = f;
	find_caps(&again);
	assert_int_equal(again.bar, f.bar);
	assert_int_equal(config_read(&f, PCI_COMMAND, 2), 0);
	teardown(&f);
}

/* BARs can be sized; the registers do not move. */
static void test_bar(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	config_write(&f, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_0, 4), 0xffff0000);
	config_write(&f, PCI_BASE_ADDRESS_0, 4, (uint32_t)f.bar);
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_0, 4), f.bar);
	config_write(&f, PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_1, 4), PORTS_SIZED);
	for (unsigned int reg = PCI_BASE_ADDRESS_2; reg <= PCI_BASE_ADDRESS_5; reg += 4) {
		config_write(&f, reg, 4, UINT32_MAX);
		assert_int_equal(config_read(&f, reg, 4), 0);
	}
	config_write(&f, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	assert_int_equal(config_read(&f, PCI_ROM_ADDRESS, 4), 0);
	config_write(&f, PCI_BASE_ADDRESS_0, 4, 0x12340000);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
	teardown(&f);
}

/* In a BAR of 64 bits, which can be sized as well. */
static void test_shared_memory(void **state)
{
	const struct fake_conf conf = { .shm = GIB(8) };
	struct virtio_pci_cap64 cap;
	struct fixture f = { 0 };

	(void)state;
	assert_int_equal(vq_guest_init(&f.guest, &fake_class, &conf), 0);
	f.guest.dev->shm.gpa = GIB(24);
	wire(&f);
	assert_true(f.shm);
	for (unsigned int i = 0; i < sizeof(cap); i++)
		((uint8_t *)&cap)[i] = (uint8_t)config_read(&f, f.shm + i, 1);
	assert_int_equal(cap.cap.id, FAKE_SHM_ID);
	assert_int_equal(cap.cap.bar, 2);
	assert_int_equal(cap.cap.offset | cap.offset_hi | cap.cap.length, 0);
	assert_int_equal(cap.length_hi, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_2, 4), 0xc);
		assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_3, 4), 6);
		config_write(&f, PCI_BASE_ADDRESS_2, 4, UINT32_MAX);
		config_write(&f, PCI_BASE_ADDRESS_3, 4, UINT32_MAX);
		assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_2, 4), 0xc);
		assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_3, 4), UINT32_MAX - 1);
		virtio_pci_reset(f.pci);
	}
	teardown(&f);
}

static int add_bar(struct pci_root *root, struct pci_function *function, unsigned int index,
		   uint32_t len, uint64_t *ret_base)
{
	static const struct bus_ops no_ops;

	return pci_function_add_bar(function, &root->memory, index, len, &no_ops, NULL, ret_base);
}

static void test_root_is_full(void **state)
{
	const struct mem_range window = { WINDOW + 0x100, 0x3000 };
	static struct pci_function functions[PCI_SLOTS];
	uint8_t body[255] = { 0 };
	struct pci_root root;
	uint64_t base = 77;
	struct bus bus;

	(void)state;
	bus_init(&bus, -1, false);
	assert_int_equal(pci_root_init(&root, &bus, ECAM, window), 0);
	for (unsigned int i = 0; i < PCI_SLOTS; i++) {
		pci_function_init(&functions[i], 1, 2, 3, 4);
		assert_int_equal(pci_root_plug(&root, &functions[i]), i < 31 ? 0 : -ENOSPC);
	}
	/* Aligned to its size, and not beyond the window. */
	assert_int_equal(add_bar(&root, functions, 0, 0x1000, &base), 0);
	assert_int_equal(base, WINDOW + 0x1000);
	assert_int_equal(add_bar(&root, functions, 1, 0x2000, &base), -ENOSPC);
	assert_int_equal(add_bar(&root, functions, 1, 0x1000, &base), 0);
	assert_int_equal(base, WINDOW + 0x2000);
	assert_int_equal(add_bar(&root, functions, 2, 0x1000, &base), -ENOSPC);
	assert_int_equal(base, WINDOW + 0x2000);

	assert_int_equal(pci_function_add_cap(&functions[0], 9, body, 193), -ENOSPC);
	assert_int_equal(functions[0].config[PCI_CAPABILITY_LIST], 0);
	assert_int_equal(pci_function_add_cap(&functions[0], 9, body, 190), 64);
	assert_int_equal(pci_function_add_cap(&functions[0], 9, body, 4), -ENOSPC);
	assert_int_equal(pci_function_add_cap(&functions[1], 9, body, 192), 64);
	assert_int_equal(pci_function_add_cap(&functions[1], 9, body, 2), -ENOSPC);
	bus_free(&bus);
}

/* ---- the BAR ---- */

static void test_life(void **state)
{
	const uint64_t data = VQ_RAM_BASE + MIB(4);
	const struct vq_buffer ping[] = { { data, 4, false }, { data + 16, 9, true } };
	struct fixture f;
	uint32_t len;
	uint16_t head;

	(void)state;
	setup(&f);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
	for (uint32_t value, round = 1; round <= 3; round++) {
		start(&f);
		memcpy(vq_ptr(&f.guest, data, 4), "ping", 4);
		for (uint16_t queue = 0; queue < FAKE_QUEUES; queue++) {
			uint64_t offset;

			common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
			offset = common_read(&f, VIRTIO_PCI_COMMON_Q_NOFF, 2) * f.notify_multiplier;
			vq_post(&f.guest, queue, ping, ARRAY_SIZE(ping));
			/* With what VIRTIO_F_NOTIFICATION_DATA adds, or without; at last by its port. */
			value = round << 16 | queue;
			if (round < 3)
				bar_write(&f, f.notify + offset, round % 2 ? 2 : 4, value);
			else
				assert_true(bus_write(&f.ports, f.port + offset, &value, 2));
			vq_turn(&f.guest);
			assert_true(vq_take(&f.guest, queue, &head, &len));
			assert_int_equal(len, 4 + 3);
			assert_memory_equal(vq_ptr(&f.guest, data + 16, 4), "ping", 4);
			for (unsigned int vector = 0; vector < VECTORS; vector++)
				assert_int_equal(interrupts(&f, vector), vector == queue + 1u);
		}
		virtio_config_update(f.guest.dev, 0, "\1", 1);
		assert_int_equal(interrupts(&f, 0), 1);
		assert_int_equal(bar_read(&f, f.isr, 1), 0);
	}
	teardown(&f);
}

/* Where there is no room for ports doorbells are in memory alone. */
static void test_without_ports(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	assert_int_equal(vq_guest_init(&f.guest, &fake_class, &plain), 0);
	wire_with(&f, PORTS_LEN - 1);
	assert_int_equal(f.port, 0);
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_1, 4), 0);
	virtio_pci_reset(f.pci);
	assert_int_equal(config_read(&f, PCI_BASE_ADDRESS_1, 4), 0);
	teardown(&f);
}

static void test_features(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (uint32_t word = 0; word < 3; word++) {
		common_write(&f, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_DFSELECT, 4), word);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_DF, 4),
				 virtio_offered(f.guest.dev, word));
	}
	/* Each queue has a doorbell to itself, so there is room for data. */
	assert_true(virtio_offered(f.guest.dev, 1) >> (VIRTIO_F_NOTIFICATION_DATA - 32) & 1);
	/* Only what is written to the driver's word is taken. */
	common_write(&f, VIRTIO_PCI_COMMON_DF, 4, UINT32_MAX);
	common_write(&f, VIRTIO_PCI_COMMON_GFSELECT, 4, UINT32_MAX);
	common_write(&f, VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_GF, 4), 0);
	assert_int_equal(f.guest.dev->features, 0);
	teardown(&f);
}

static void test_queue_registers(void **state)
{
	struct virtq_layout layout;
	struct fixture f;

	(void)state;
	setup(&f);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), fake_queue_sizes[1]);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2, 2 * fake_queue_sizes[1]);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), fake_queue_sizes[1]);
	common_write(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0xfffe);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	common_write(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	common_write(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	for (unsigned int i = 0; i < 6; i++)
		common_write(&f, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4, 0x10101010 * (i + 1));
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_DESCLO + 4 * i, 4),
				 0x10101010 * (i + 1));
	layout = virtio_queue(f.guest.dev, 1);
	assert_int_equal(layout.desc, 0x2020202010101010);
	assert_int_equal(layout.driver, 0x4040404030303030);
	assert_int_equal(layout.device, 0x6060606050505050);
	assert_int_equal(virtio_queue(f.guest.dev, 0).desc, 0);

	/* A queue that there is not: size 0, section 4.1.4.3.1. */
	for (unsigned int queue = FAKE_QUEUES; queue <= UINT16_MAX; queue = 2 * queue + 1) {
		common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2), queue);
		for (unsigned int reg = VIRTIO_PCI_COMMON_Q_DESCLO; reg < COMMON_LEN; reg += 4)
			common_write(&f, reg, 4, UINT32_MAX);
		common_write(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	}
	teardown(&f);
}

static void test_queue_reset(void **state)
{
	struct fixture f;
	uint32_t len;

	(void)state;
	setup(&f);
	start(&f);
	for (uint16_t queue = 0; queue < FAKE_QUEUES; queue++) {
		assert_true(fake_ask(&f.guest, queue, "ping", &len));
		common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_NDATA, 2), queue);
		/* Only a 1 asks for it. */
		common_write(&f, VIRTIO_PCI_COMMON_Q_RESET, 2, 0);
		common_write(&f, VIRTIO_PCI_COMMON_Q_RESET, 2, 0x101);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		common_write(&f, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2),
				 fake_queue_sizes[queue]);
		assert_false(fake_ask(&f.guest, queue, "ping", &len));
		vq_set_up_queue_of(&f.guest, queue, 4);
		interrupts(&f, queue + 1u);
		assert_true(fake_ask(&f.guest, queue, "ping", &len));
		assert_int_equal(interrupts(&f, queue + 1u), 1);
	}
	assert_int_equal(fake_of(f.guest.dev)->starts, 1);
	teardown(&f);
}

/* The vCPU goes on after a moment, and the register reads as not 0 until the reset is over. */
static void test_reset_takes_its_time(void **state)
{
	struct fake_conf conf = { .gate = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC) };
	struct fixture f;

	(void)state;
	setup_as(&f, &conf);
	assert_int_equal(vq_run(&f.guest, false), 0);
	for (int round = 0; round < 3; round++) {
		start(&f);
		common_write(&f, VIRTIO_PCI_COMMON_STATUS, 1, 0);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_STATUS, 1), 0xf);
		/* Nobody is interrupted any more. */
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		common_write(&f, VIRTIO_PCI_COMMON_STATUS, 1, 1);
		common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		assert_int_equal(eventfd_write(conf.gate, FAKE_QUEUES), 0);
		while (common_read(&f, VIRTIO_PCI_COMMON_STATUS, 1))
			usleep(1000);
		assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	}
	close(conf.gate);
	conf.gate = 0;
	teardown(&f);
}

/* Where the queue's reset takes longer the register says so. */
static void test_queue_reset_takes_its_time(void **state)
{
	struct fake_conf conf = { .gate = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC) };
	struct fixture f;

	(void)state;
	setup_as(&f, &conf);
	assert_int_equal(vq_run(&f.guest, false), 0);
	start(&f);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	common_write(&f, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_RESET, 2), 1);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(eventfd_write(conf.gate, 1), 0);
	while (common_read(&f, VIRTIO_PCI_COMMON_Q_RESET, 2))
		usleep(1000);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(eventfd_write(conf.gate, FAKE_QUEUES), 0);
	teardown(&f);
	close(conf.gate);
}

static void test_save(void **state)
{
	struct state saved = { 0 }, again = { 0 };
	struct state_reader reader;
	struct fixture f;
	uint32_t len;

	(void)state;
	setup(&f);
	start(&f);
	assert_true(fake_ask(&f.guest, 0, "ping", &len));
	config_write(&f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	common_write(&f, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	/* Pending, as it is masked. */
	bar_write(&f, f.table + 12, 4, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	virtio_config_update(f.guest.dev, 0, "\1", 1);
	virtio_dev_pause(f.guest.dev);
	assert_int_equal(virtio_dev_save(f.guest.dev, &saved), 0);
	assert_int_equal(virtio_pci_save(f.pci, &saved), 0);

	virtio_dev_free(f.guest.dev);
	unwire(&f);
	assert_int_equal(vq_plug(&f.guest, &plain), 0);
	wire(&f);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(f.guest.dev, &reader), 0);
	assert_int_equal(virtio_pci_load(f.pci, &reader), 0);
	assert_int_equal(reader.left, 0);
	assert_int_equal(virtio_dev_save(f.guest.dev, &again), 0);
	assert_int_equal(virtio_pci_save(f.pci, &again), 0);
	assert_int_equal(again.len, saved.len);
	assert_memory_equal(again.data, saved.data, saved.len);

	virtio_dev_resume(f.guest.dev);
	assert_int_equal(config_read(&f, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2), 2);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), 3);
	assert_int_equal(bar_read(&f, f.pba, 8), 1);
	interrupts(&f, 1);
	assert_true(fake_ask(&f.guest, 0, "ping", &len));
	assert_int_equal(interrupts(&f, 1), 1);

	for (size_t cut = 0; cut < saved.len; cut += 11) {
		reader = (struct state_reader){ saved.data + cut, saved.len - cut };
		assert_int_equal(virtio_pci_load(f.pci, &reader), -EINVAL);
	}
	state_free(&saved);
	state_free(&again);
	teardown(&f);
}

static void test_vectors(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	start(&f);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_MSIX, 2), 0);
	/* A vector that there is not reads back as none, and interrupts nobody. */
	common_write(&f, VIRTIO_PCI_COMMON_MSIX, 2, VECTORS);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	virtio_config_update(f.guest.dev, 0, "\1", 1);
	common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	common_write(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0x8000);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	vq_post(&f.guest, 0, &(struct vq_buffer){ VQ_RAM_BASE, 8, true }, 1);
	bar_write(&f, f.notify, 4, 0);
	vq_turn(&f.guest);
	for (unsigned int vector = 0; vector < VECTORS; vector++)
		assert_int_equal(interrupts(&f, vector), 0);
	/* Queues that there are not have none, not even that of the configuration. */
	for (unsigned int queue = FAKE_QUEUES; queue <= UINT16_MAX; queue++) {
		common_write(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		common_write(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
		if (queue >= VIRTIO_QUEUES_MAX)
			assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2),
					 VIRTIO_MSI_NO_VECTOR);
	}
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);

	common_write(&f, VIRTIO_PCI_COMMON_MSIX, 2, 2);
	common_write(&f, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	teardown(&f);
}

/* What was raised while it was masked comes when it is not any more, and can be seen meanwhile. */
static void test_pending(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	start(&f);
	bar_write(&f, f.table + 12, 4, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	virtio_config_update(f.guest.dev, 0, "\1", 1);
	assert_int_equal(bar_read(&f, f.pba, 8), 1);
	bar_write(&f, f.table + 12, 4, 0);
	assert_int_equal(bar_read(&f, f.pba, 8), 0);
	assert_int_equal(interrupts(&f, 0), 1);

	config_write(&f, f.msix + PCI_MSIX_FLAGS, 2,
		     PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	virtio_config_update(f.guest.dev, 0, "\1", 1);
	assert_int_equal(bar_read(&f, f.pba, 4), 1);
	virtio_pci_reset(f.pci);
	assert_int_equal(bar_read(&f, f.pba, 4), 0);
	assert_int_equal(bar_read(&f, f.table + 12, 4), PCI_MSIX_ENTRY_CTRL_MASKBIT);
	assert_int_equal(bar_read(&f, f.table, 8), 0);
	assert_int_equal(config_read(&f, f.msix + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	teardown(&f);
}

static void test_device_config(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(bar_read(&f, f.device + 1, 1), 0xc1);
	assert_int_equal(bar_read(&f, f.device + 8, 8), 0xcfcecdcccbcac9c8);
	for (uint64_t offset = FAKE_CONFIG_SIZE - 1; offset < 0xff8; offset++)
		assert_int_equal(bar_read(&f, f.device + offset, 8), 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0);
	bar_write(&f, f.device + 2, 2, 0x4455);
	assert_int_equal(bar_read(&f, f.device, 4), 0x4455c1c0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
	for (int i = 0; i < 255; i++)
		bar_write(&f, f.device, 1, 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0);
	teardown(&f);
}

/* The common structure takes its registers' widths alone; the rest of the BAR is quiet. */
static void test_widths(void **state)
{
	static const uint8_t widths[COMMON_LEN] = {
		[0] = 4, [4] = 4, [8] = 4, [12] = 4, [16] = 2, [18] = 2, [20] = 1, [21] = 1,
		[22] = 2, [24] = 2, [26] = 2, [28] = 2, [30] = 2, [32] = 4, [36] = 4, [40] = 4,
		[44] = 4, [48] = 4, [52] = 4, [56] = 2, [58] = 2,
	};
	struct fixture f;

	(void)state;
	setup(&f);
	for (unsigned int len = 1; len <= 8; len *= 2) {
		for (uint64_t offset = 0; offset <= BAR_LEN; offset++) {
			uint64_t addr = f.bar + offset, value = 0, ones = UINT64_MAX;

			assert_int_equal(bus_read(&f.bus, addr, &value, len),
					 offset + len <= BAR_LEN);
			if (addr < f.common + sizeof(widths) && widths[addr - f.common] == len)
				continue;
			if (addr >= f.common && addr < f.device)
				assert_int_equal(value, 0);
			bus_write(&f.bus, addr, &ones, len);
		}
	}
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2), 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_GFSELECT, 4), 0);
	/* Its end is another's beginning. */
	assert_int_equal(f.bar, f.common);
	teardown(&f);
}

/* ---- the window in configuration space: section 4.1.4.9 ---- */

static void aim(struct fixture *f, uint8_t bar, uint32_t offset, uint32_t len)
{
	config_write(f, f->window + VIRTIO_PCI_CAP_BAR, 1, bar);
	config_write(f, f->window + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	config_write(f, f->window + VIRTIO_PCI_CAP_LENGTH, 4, len);
}

static void test_window(void **state)
{
	struct fixture f;
	unsigned int data;

	(void)state;
	setup(&f);
	data = f.window + (unsigned int)offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	aim(&f, 0, (uint32_t)(f.common - f.bar) + VIRTIO_PCI_COMMON_NUMQ, 2);
	assert_int_equal(config_read(&f, data, 2), FAKE_QUEUES);
	aim(&f, 0, (uint32_t)(f.device - f.bar) + 3, 1);
	assert_int_equal(config_read(&f, data, 1), 0xc3);
	aim(&f, 0, (uint32_t)(f.device - f.bar) + 4, 4);
	assert_int_equal(config_read(&f, data, 4), 0xc7c6c5c4);

	aim(&f, 0, (uint32_t)(f.common - f.bar) + VIRTIO_PCI_COMMON_STATUS, 1);
	config_write(&f, data, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(virtio_status(f.guest.dev), VIRTIO_CONFIG_S_ACKNOWLEDGE);

	/* Doorbells, which here are no ioeventfds: of memory, and the port. */
	start(&f);
	for (unsigned int bar = 0; bar < 2; bar++) {
		vq_post(&f.guest, 2, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
		aim(&f, (uint8_t)bar,
		    (bar ? 0 : (uint32_t)(f.notify - f.bar)) + 2 * f.notify_multiplier, 4);
		config_write(&f, data, 4, 2);
		vq_turn(&f.guest);
		assert_int_equal(interrupts(&f, 3), 1);
	}
	assert_int_equal(config_read(&f, data, 4), 0);

	/* And MSI-X, whose table it can reach as well. */
	aim(&f, 0, (uint32_t)(f.table - f.bar) + 16 + 8, 4);
	assert_int_equal(config_read(&f, data, 4), 0x21);
	teardown(&f);
}

static void test_window_aimed_elsewhere(void **state)
{
	static const struct {
		uint8_t bar;
		uint32_t offset, len;
	} targets[] = {
		{ 1, FAKE_QUEUES * 4, 4 }, { 2, 0, 4 }, { 255, 0, 4 }, { 0, 0, 0 }, { 0, 0, 3 },
		{ 0, 0, 8 },
		{ 0, 0, UINT32_MAX }, { 0, 2, 4 }, { 0, 0x2001, 2 }, { 0, BAR_LEN, 1 },
		{ 0, BAR_LEN, 4 },
		{ 0, BAR_LEN - 2, 4 }, { 0, UINT32_MAX, 1 }, { 0, UINT32_MAX - 3, 4 },
		{ 0, UINT32_MAX - 1, 2 }, { 0, 0x80002000, 4 },
	};
	struct fixture f;
	unsigned int data;

	(void)state;
	setup(&f);
	data = f.window + (unsigned int)offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		aim(&f, targets[i].bar, targets[i].offset, targets[i].len);
		config_write(&f, data, 4, 0x5a5a5a5a);
		assert_int_equal(config_read(&f, data, 4), 0x5a5a5a5a);
	}
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_DFSELECT, 4), 0);
	assert_int_equal(fake_of(f.guest.dev)->config_writes, 0);
	teardown(&f);
}

/* ---- hostile guests ---- */

#define RACE_ROUNDS 3000000

static void *select_queues(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < RACE_ROUNDS; i++)
		common_write(f, VIRTIO_PCI_COMMON_Q_SELECT, 2,
			     i % 2 ? VIRTIO_QUEUES_MAX + 2 + i % 8 : 0);
	return NULL;
}

/* One vCPU selects queues that there are not while another writes to the one that there was. */
static void test_selector_race(void **state)
{
	struct fixture f;
	pthread_t thread;

	(void)state;
	setup(&f);
	assert_int_equal(pthread_create(&thread, NULL, select_queues, &f), 0);
	for (int i = 0; i < RACE_ROUNDS; i++)
		common_write(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, i % 2);
	pthread_join(thread, NULL);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_DFSELECT, 4), 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_GFSELECT, 4), 0);
	assert_int_equal(common_read(&f, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	teardown(&f);
}

static void list_registers(struct fixture *f, struct mem_range ranges[9])
{
	const struct mem_range list[9] = {
		{ f->common, COMMON_LEN },
		{ f->common, COMMON_LEN },
		{ f->notify, 16 },
		{ f->device, FAKE_CONFIG_SIZE },
		{ f->table, VECTORS * 16 },
		{ f->pba, 8 },
		{ ECAM + SLOT(1), PCI_CONFIG_LEN },
		{ ECAM + SLOT(1) + f->window, 20 },
		{ f->bar, BAR_LEN + 8 },
	};

	memcpy(ranges, list, sizeof(list));
}

static void test_hostile(void **state)
{
	struct mem_range ranges[9];
	struct fixture f;

	(void)state;
	setup(&f);
	list_registers(&f, ranges);
	hostile_fuzz(&f.guest, &f.bus, ranges, ARRAY_SIZE(ranges));
	virtio_pci_reset(f.pci);
	for (unsigned int vector = 0; vector < VECTORS; vector++)
		interrupts(&f, vector);
	start(&f);
	vq_post(&f.guest, 0, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
	bar_write(&f, f.notify, 2, 0);
	vq_turn(&f.guest);
	assert_int_equal(interrupts(&f, 1), 1);
	teardown(&f);
}

static void test_threads(void **state)
{
	struct mem_range ranges[9];
	struct fixture f;

	(void)state;
	setup(&f);
	list_registers(&f, ranges);
	hostile_threads(&f.guest, &f.bus, ranges, ARRAY_SIZE(ranges));
	start(&f);
	assert_false(virtio_status(f.guest.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_empty_slots),
		cmocka_unit_test(test_every_register),
		cmocka_unit_test(test_bar),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_root_is_full),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_without_ports),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_queue_registers),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_reset_takes_its_time),
		cmocka_unit_test(test_queue_reset_takes_its_time),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_device_config),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_aimed_elsewhere),
		cmocka_unit_test(test_selector_race),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_threads),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
