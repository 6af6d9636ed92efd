// SPDX-License-Identifier: Apache-2.0
/* Accesses of every width to every offset: nothing is where nothing is, and nothing breaks. */
#include <linux/pci_regs.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include "tests/conform/conform.h"

#define SWEPT 0x140 /* bytes of each page: all that there is, and some more */

static const unsigned int widths[] = { 1, 2, 4, 8 };

static uint64_t config_at(const struct conform *c, uint32_t offset, unsigned int width)
{
	uint64_t value = 0;

	bus_read(&c->vdrv.bus, c->vdrv.config + offset, &value, width);
	return value;
}

/* What config space has within its transport's window; behind it another part begins. */
static uint32_t config_window(const struct conform *c)
{
	return c->cell.transport == VDRV_PCI ? 0x1000 : VIRTIO_MMIO_LEN - VIRTIO_MMIO_CONFIG;
}

static void config_reads(struct conform *c, const void *arg)
{
	const uint32_t len = c->vdrv.config_len, window = config_window(c);
	uint8_t bytes[VIRTIO_CONFIG_MAX + 8] = { 0 };

	(void)arg;
	if (!len)
		conform_not_here();
	vdrv_config_read(&c->vdrv, 0, bytes, len);
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++)
		for (uint32_t offset = 0; offset + widths[w] <= window; offset++) {
			uint64_t expected = 0;

			if (util_within(offset, widths[w], len))
				memcpy(&expected, bytes + offset, widths[w]);
			CHECK(config_at(c, offset, widths[w]) == expected);
		}
	conform_works(c);
}

static void config_writes(struct conform *c, const void *arg)
{
	static const uint64_t values[] = { UINT64_MAX, 0, 0x0123456789abcdef };
	const uint32_t window = config_window(c);

	(void)arg;
	if (!c->vdrv.config_len)
		conform_not_here();
	conform_threads(c);
	conform_begin(c);
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++)
		for (uint32_t offset = 0; offset + widths[w] <= window; offset++) {
			/* Far behind it there is only more of nothing. */
			if (offset > c->vdrv.config_len + 16 && offset + 16 < window)
				continue;
			for (size_t i = 0; i < ARRAY_SIZE(values); i++)
				bus_write(&c->vdrv.bus, c->vdrv.config + offset, &values[i], widths[w]);
			if (!util_within(offset, widths[w], c->vdrv.config_len))
				CHECK(config_at(c, offset, widths[w]) == 0);
		}
	conform_works(c);
}

/* A class that takes no writes has the same configuration for ever. */
static void config_read_only(struct conform *c, const void *arg)
{
	uint8_t before[VIRTIO_CONFIG_MAX], after[VIRTIO_CONFIG_MAX];
	uint32_t generation = vdrv_get(&c->vdrv, VDRV_GENERATION);

	(void)arg;
	if (!c->vdrv.config_len || c->class->config_write)
		conform_not_here();
	vdrv_config_read(&c->vdrv, 0, before, c->vdrv.config_len);
	memset(after, 0xa5, sizeof(after));
	vdrv_config_write(&c->vdrv, 0, after, c->vdrv.config_len);
	vdrv_config_read(&c->vdrv, 0, after, c->vdrv.config_len);
	CHECK(!memcmp(before, after, c->vdrv.config_len));
	CHECK(vdrv_get(&c->vdrv, VDRV_GENERATION) == generation);
}

static const struct bus_range *range_of(const struct conform *c, uint64_t addr)
{
	for (size_t i = 0; i < c->vdrv.bus.count; i++)
		if (addr - c->vdrv.bus.ranges[i].base < c->vdrv.bus.ranges[i].len)
			return &c->vdrv.bus.ranges[i];
	return NULL;
}

/* The first and the last bytes of each page, and over the range's end; write: with one of three values. */
static void sweep(struct conform *c, uint64_t base, uint64_t len, bool write)
{
	static const uint64_t values[] = { 0, UINT64_MAX, 0x8000000080000001 };

	for (size_t w = 0; w < ARRAY_SIZE(widths); w++)
		for (uint64_t offset = 0; offset < len + 8; offset++) {
			const uint64_t in_page = offset % CONFORM_PAGE;
			uint64_t value = values[(offset + w) % ARRAY_SIZE(values)];

			/* Between them there is more of the same, or nothing. */
			if (in_page >= SWEPT && in_page < CONFORM_PAGE - 8)
				continue;
			if (write)
				bus_write(&c->vdrv.bus, base + offset, &value, widths[w]);
			else
				bus_read(&c->vdrv.bus, base + offset, &value, widths[w]);
		}
}

static void every_register(struct conform *c, const void *arg)
{
	const struct bus_range *range = range_of(c, c->vdrv.registers);
	const bool write = arg;

	CHECK(range != NULL);
	conform_threads(c);
	sweep(c, range->base, range->len, write);
	/* Nothing was set up, so nothing can have gone wrong; while it runs, something may. */
	conform_begin(c);
	sweep(c, range->base, range->len, write);
	conform_works(c);
}

static void wrong_widths(struct conform *c, const void *arg)
{
	(void)arg;
	conform_begin(c);
	for (enum vdrv_register reg = 0; reg < VDRV_REGISTERS; reg++)
		for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
			const uint64_t value = 0;
			uint64_t got = 1;

			if (widths[w] == vdrv_register_width(&c->vdrv, reg))
				continue;
			bus_read(&c->vdrv.bus, vdrv_register(&c->vdrv, reg), &got, widths[w]);
			CHECK((got & (widths[w] == 8 ? ~0ULL : (1ULL << 8 * widths[w]) - 1)) == 0);
			/* A reset, for one, would be seen. */
			bus_write(&c->vdrv.bus, vdrv_register(&c->vdrv, reg), &value, widths[w]);
		}
	conform_probe_all(c);
}

static void no_such_queue(struct conform *c, const void *arg)
{
	const struct virtq_layout layout = { 4, true, c->data, c->data + 0x1000, c->data + 0x2000 };
	const uint32_t queues[] = { c->vdrv.queue_count, VIRTIO_QUEUES_MAX, 0x7fff, 0x8000, 0xffff,
				    0x10000, 0x80000000, UINT32_MAX };

	(void)arg;
	conform_threads(c);
	conform_negotiate(c);
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		/* PCI's selector has 16 bits. */
		if (c->cell.transport == VDRV_PCI && queues[i] > UINT16_MAX)
			continue;
		vdrv_set(&c->vdrv, VDRV_QUEUE_SELECT, queues[i]);
		CHECK(vdrv_get(&c->vdrv, VDRV_QUEUE_MAX) == 0);
		vdrv_set(&c->vdrv, VDRV_QUEUE_SIZE, layout.size);
		vdrv_set(&c->vdrv, VDRV_DESC_LOW, (uint32_t)layout.desc);
		vdrv_set(&c->vdrv, VDRV_DRIVER_LOW, (uint32_t)layout.driver);
		vdrv_set(&c->vdrv, VDRV_DEVICE_LOW, (uint32_t)layout.device);
		vdrv_set(&c->vdrv, VDRV_QUEUE_READY, 1);
		CHECK(vdrv_get(&c->vdrv, VDRV_QUEUE_READY) == 0);
		vdrv_set(&c->vdrv, VDRV_QUEUE_RESET, 1);
		CHECK(vdrv_get(&c->vdrv, VDRV_QUEUE_RESET) == 0);
	}
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_READY) == 0);
	conform_start(c);
	conform_probe_all(c);
}

static void no_such_doorbell(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_begin(c);
	for (uint64_t i = 0; i < 64; i++) {
		const uint64_t value = 1ULL << i;
		const uint64_t at = c->cell.transport == VDRV_PCI ?
			(uint64_t)c->vdrv.queue_count * c->vdrv.notify_multiplier + 2 * i : 0;

		for (size_t w = 0; w < ARRAY_SIZE(widths); w++)
			bus_write(c->vdrv.notify_bus, c->vdrv.notify + at, &value, widths[w]);
	}
	vdrv_settle(&c->vdrv);
	conform_probe_all(c);
}

/* A driver may write anything there when it has agreed to write something. */
static void doorbells_of_any_value(struct conform *c, const void *arg)
{
	(void)arg;
	if (c->cell.transport != VDRV_PCI)
		conform_not_here();
	conform_threads(c);
	conform_begin(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		const uint64_t at = c->vdrv.notify + (uint64_t)i * c->vdrv.notify_multiplier;

		for (unsigned int bit = 0; bit < 64; bit++) {
			const uint64_t value = ~0ULL << bit;

			bus_write(c->vdrv.notify_bus, at, &value, widths[bit % ARRAY_SIZE(widths)]);
		}
	}
	vdrv_settle(&c->vdrv);
	conform_probe_all(c);
}

/* Configuration space of PCI: every width, everywhere, and the window in it that leads to the BAR. */
static void pci_configuration(struct conform *c, const void *arg)
{
	const bool write = arg;

	if (c->cell.transport != VDRV_PCI)
		conform_not_here();
	conform_threads(c);
	conform_begin(c);
	for (int round = 0; round < 2; round++) {
		sweep(c, c->vdrv.function, 0x1000, write);
		sweep(c, c->vdrv.function + 0x1000, 0x1000, write);
	}
	conform_works(c);
}

static void pci_window(struct conform *c, const void *arg)
{
	static const uint32_t offsets[] = { 0, 1, 2, 20, 0x38, 0x1000, 0x2000, 0x3000, 0x4000, 0x7ffe,
					    0x8000, 0xfffc, 0xffff, 0x10000, 0x7fffffff, UINT32_MAX };
	static const uint32_t lens[] = { 0, 1, 2, 3, 4, 5, 8, 0x80000000, UINT32_MAX };
	const uint64_t cap = c->vdrv.window;

	(void)arg;
	if (c->cell.transport != VDRV_PCI)
		conform_not_here();
	CHECK(cap != 0);
	conform_threads(c);
	conform_begin(c);
	for (size_t i = 0; i < ARRAY_SIZE(offsets) * ARRAY_SIZE(lens) * 2; i++) {
		const uint32_t bar = i % 2, value = i % 3 ? UINT32_MAX : 1;
		uint32_t got;

		bus_write(&c->vdrv.bus, cap + VIRTIO_PCI_CAP_BAR, &bar, 1);
		bus_write(&c->vdrv.bus, cap + VIRTIO_PCI_CAP_OFFSET,
			  &offsets[i / 2 % ARRAY_SIZE(offsets)], 4);
		bus_write(&c->vdrv.bus, cap + VIRTIO_PCI_CAP_LENGTH,
			  &lens[i / 2 / ARRAY_SIZE(offsets)], 4);
		for (size_t w = 0; w < ARRAY_SIZE(widths) - 1; w++) {
			bus_read(&c->vdrv.bus, cap + sizeof(struct virtio_pci_cap), &got, widths[w]);
			bus_write(&c->vdrv.bus, cap + sizeof(struct virtio_pci_cap), &value, widths[w]);
		}
	}
	conform_works(c);
}

/* Base and length of a shared memory region; false: there is none of that id. */
static bool mmio_shm(const struct conform *c, uint32_t id, struct mem_range *ret_range)
{
	uint32_t words[4];

	bus_write(&c->vdrv.bus, c->vdrv.registers + VIRTIO_MMIO_SHM_SEL, &id, sizeof(id));
	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++)
		bus_read(&c->vdrv.bus, c->vdrv.registers + VIRTIO_MMIO_SHM_LEN_LOW + 4 * i, &words[i], 4);
	*ret_range = (struct mem_range){ words[2] | (uint64_t)words[3] << 32,
					 words[0] | (uint64_t)words[1] << 32 };
	return ret_range->len != UINT64_MAX;
}

static bool pci_shm(const struct conform *c, uint32_t id, struct mem_range *ret_range)
{
	uint8_t config[PCI_CONFIG_LEN];
	struct virtio_pci_cap64 cap;

	for (unsigned int i = 0; i < sizeof(config); i++)
		bus_read(&c->vdrv.bus, c->vdrv.function + i, &config[i], 1);
	for (uint8_t at = config[PCI_CAPABILITY_LIST]; at; at = config[at + PCI_CAP_LIST_NEXT]) {
		uint64_t bar;

		memcpy(&cap, config + at, util_min(sizeof(cap), sizeof(config) - at));
		if (cap.cap.cap_vndr != PCI_CAP_ID_VNDR || cap.cap.id != id ||
		    cap.cap.cfg_type != VIRTIO_PCI_CAP_SHARED_MEMORY_CFG)
			continue;
		memcpy(&bar, config + PCI_BASE_ADDRESS_0 + 4 * cap.cap.bar, sizeof(bar));
		CHECK((bar & 0xf) == (PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH));
		ret_range->gpa = (bar & ~0xfULL) + (cap.cap.offset | (uint64_t)cap.offset_hi << 32);
		ret_range->len = cap.cap.length | (uint64_t)cap.length_hi << 32;
		return true;
	}
	return false;
}

static void shared_memory(struct conform *c, const void *arg)
{
	const struct virtio_shm *shm = &c->vdrv.dev->shm;
	struct mem_range range;

	(void)arg;
	for (uint32_t id = 0; id < 3; id++) {
		const bool there = shm->window.hva && id == shm->id;

		CHECK((c->cell.transport == VDRV_PCI ? pci_shm : mmio_shm)(c, id, &range) == there);
		if (there)
			CHECK(range.gpa == VDRV_SHM && range.len == shm->window.len);
	}
	CHECK(c->cell.transport == VDRV_PCI || !mmio_shm(c, UINT32_MAX, &range));
}

const struct conform_case conform_registers[] = {
	{ "config: reads of every width and offset", config_reads, NULL, false },
	{ "config: writes of every width and offset", config_writes, NULL, false },
	{ "config: stays where a class takes no writes", config_read_only, NULL, false },
	{ "registers: reads of every width and offset", every_register, NULL, false },
	{ "registers: writes of every width and offset", every_register, "write", false },
	{ "registers: the wrong width is none", wrong_widths, NULL, false },
	{ "registers: queues that there are not", no_such_queue, NULL, false },
	{ "registers: doorbells that there are not", no_such_doorbell, NULL, false },
	{ "registers: shared memory", shared_memory, NULL, false },
	{ "registers: doorbells of any value", doorbells_of_any_value, NULL, false },
	{ "pci: reads of configuration space", pci_configuration, NULL, false },
	{ "pci: writes to configuration space", pci_configuration, "write", false },
	{ "pci: the window to the BAR", pci_window, NULL, false },
	{ 0 },
};
