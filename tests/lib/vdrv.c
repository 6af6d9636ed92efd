// SPDX-License-Identifier: Apache-2.0
/*
 * The driver's life and its registers.
 *
 * What a transport adds to the fds that the workers keep are its interrupts'
 * eventfds. Each is opened as the lowest fd that is free, so in ascending order
 * they are in the order of the vectors.
 */
#include "tests/lib/vdrv.h"

#include <linux/pci_regs.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include "core/opt.h"
#include "core/state.h"
#include "core/util.h"

#define PAGE 4096
#define RAM_DEFAULT MIB(16)
#define GUARD MIB(1) /* as far as an index of 16 bits reaches in a table of descriptors */

#define MMIO_BASE 0xd0000000ULL
#define MMIO_PIN 5
#define ECAM_BASE 0xe0000000ULL
#define WINDOW_BASE 0xc0000000ULL
#define WINDOW_LEN 0x1000000
#define PORTS_BASE 0x1000
#define PORTS_LEN 0x1000
#define PCI_VENDOR_VIRTIO 0x1af4
#define MSI_ADDRESS 0xfee00000

/* Of virtio 1.2, but younger than the headers of Linux 6.1. */
#define MMIO_QUEUE_RESET 0x0c0

/* Turns in which an inline device may find something to do before we stop to wait for it to be done. */
#define TURNS_MAX 10000

struct register_place {
	uint16_t offset, width; /* width 0: there is none */
};

static const struct register_place mmio_registers[VDRV_REGISTERS] = {
	[VDRV_DEVICE_WORD] = { VIRTIO_MMIO_DEVICE_FEATURES_SEL, 4 },
	[VDRV_DEVICE_FEATURES] = { VIRTIO_MMIO_DEVICE_FEATURES, 4 },
	[VDRV_DRIVER_WORD] = { VIRTIO_MMIO_DRIVER_FEATURES_SEL, 4 },
	[VDRV_DRIVER_FEATURES] = { VIRTIO_MMIO_DRIVER_FEATURES, 4 },
	[VDRV_STATUS] = { VIRTIO_MMIO_STATUS, 4 },
	[VDRV_GENERATION] = { VIRTIO_MMIO_CONFIG_GENERATION, 4 },
	[VDRV_QUEUE_SELECT] = { VIRTIO_MMIO_QUEUE_SEL, 4 },
	[VDRV_QUEUE_MAX] = { VIRTIO_MMIO_QUEUE_NUM_MAX, 4 },
	[VDRV_QUEUE_SIZE] = { VIRTIO_MMIO_QUEUE_NUM, 4 },
	[VDRV_QUEUE_READY] = { VIRTIO_MMIO_QUEUE_READY, 4 },
	[VDRV_QUEUE_RESET] = { MMIO_QUEUE_RESET, 4 },
	[VDRV_DESC_LOW] = { VIRTIO_MMIO_QUEUE_DESC_LOW, 4 },
	[VDRV_DESC_HIGH] = { VIRTIO_MMIO_QUEUE_DESC_HIGH, 4 },
	[VDRV_DRIVER_LOW] = { VIRTIO_MMIO_QUEUE_AVAIL_LOW, 4 },
	[VDRV_DRIVER_HIGH] = { VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 4 },
	[VDRV_DEVICE_LOW] = { VIRTIO_MMIO_QUEUE_USED_LOW, 4 },
	[VDRV_DEVICE_HIGH] = { VIRTIO_MMIO_QUEUE_USED_HIGH, 4 },
};

static const struct register_place pci_registers[VDRV_REGISTERS] = {
	[VDRV_DEVICE_WORD] = { VIRTIO_PCI_COMMON_DFSELECT, 4 },
	[VDRV_DEVICE_FEATURES] = { VIRTIO_PCI_COMMON_DF, 4 },
	[VDRV_DRIVER_WORD] = { VIRTIO_PCI_COMMON_GFSELECT, 4 },
	[VDRV_DRIVER_FEATURES] = { VIRTIO_PCI_COMMON_GF, 4 },
	[VDRV_STATUS] = { VIRTIO_PCI_COMMON_STATUS, 1 },
	[VDRV_GENERATION] = { VIRTIO_PCI_COMMON_CFGGENERATION, 1 },
	[VDRV_QUEUE_SELECT] = { VIRTIO_PCI_COMMON_Q_SELECT, 2 },
	/* One register, which begins with the largest. */
	[VDRV_QUEUE_MAX] = { VIRTIO_PCI_COMMON_Q_SIZE, 2 },
	[VDRV_QUEUE_SIZE] = { VIRTIO_PCI_COMMON_Q_SIZE, 2 },
	[VDRV_QUEUE_READY] = { VIRTIO_PCI_COMMON_Q_ENABLE, 2 },
	[VDRV_QUEUE_RESET] = { VIRTIO_PCI_COMMON_Q_RESET, 2 },
	[VDRV_DESC_LOW] = { VIRTIO_PCI_COMMON_Q_DESCLO, 4 },
	[VDRV_DESC_HIGH] = { VIRTIO_PCI_COMMON_Q_DESCHI, 4 },
	[VDRV_DRIVER_LOW] = { VIRTIO_PCI_COMMON_Q_AVAILLO, 4 },
	[VDRV_DRIVER_HIGH] = { VIRTIO_PCI_COMMON_Q_AVAILHI, 4 },
	[VDRV_DEVICE_LOW] = { VIRTIO_PCI_COMMON_Q_USEDLO, 4 },
	[VDRV_DEVICE_HIGH] = { VIRTIO_PCI_COMMON_Q_USEDHI, 4 },
};

/* ---- registers ---- */

static const struct register_place *place(const struct vdrv *vdrv, enum vdrv_register reg)
{
	return vdrv->setup.transport == VDRV_PCI ? &pci_registers[reg] : &mmio_registers[reg];
}

uint64_t vdrv_register(const struct vdrv *vdrv, enum vdrv_register reg)
{
	return vdrv->registers + place(vdrv, reg)->offset;
}

unsigned int vdrv_register_width(const struct vdrv *vdrv, enum vdrv_register reg)
{
	return place(vdrv, reg)->width;
}

uint32_t vdrv_get(const struct vdrv *vdrv, enum vdrv_register reg)
{
	uint32_t value = 0;

	bus_read(&vdrv->bus, vdrv_register(vdrv, reg), &value, place(vdrv, reg)->width);
	return value;
}

void vdrv_set(const struct vdrv *vdrv, enum vdrv_register reg, uint32_t value)
{
	bus_write(&vdrv->bus, vdrv_register(vdrv, reg), &value, place(vdrv, reg)->width);
}

uint32_t vdrv_queue_get(const struct vdrv *vdrv, unsigned int queue, enum vdrv_register reg)
{
	vdrv_set(vdrv, VDRV_QUEUE_SELECT, queue);
	return vdrv_get(vdrv, reg);
}

void vdrv_queue_set(const struct vdrv *vdrv, unsigned int queue, enum vdrv_register reg,
		    uint32_t value)
{
	vdrv_set(vdrv, VDRV_QUEUE_SELECT, queue);
	vdrv_set(vdrv, reg, value);
}

uint64_t vdrv_offered(const struct vdrv *vdrv)
{
	uint64_t low;

	vdrv_set(vdrv, VDRV_DEVICE_WORD, 0);
	low = vdrv_get(vdrv, VDRV_DEVICE_FEATURES);
	vdrv_set(vdrv, VDRV_DEVICE_WORD, 1);
	return low | (uint64_t)vdrv_get(vdrv, VDRV_DEVICE_FEATURES) << 32;
}

void vdrv_set_features(struct vdrv *vdrv, uint64_t features)
{
	vdrv_set(vdrv, VDRV_DRIVER_WORD, 0);
	vdrv_set(vdrv, VDRV_DRIVER_FEATURES, (uint32_t)features);
	vdrv_set(vdrv, VDRV_DRIVER_WORD, 1);
	vdrv_set(vdrv, VDRV_DRIVER_FEATURES, (uint32_t)(features >> 32));
	vdrv->features = features;
}

bool vdrv_needs_reset(const struct vdrv *vdrv)
{
	return vdrv_get(vdrv, VDRV_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

void vdrv_config_read(const struct vdrv *vdrv, uint32_t offset, void *data, uint32_t len)
{
	uint32_t generation;

	do {
		generation = vdrv_get(vdrv, VDRV_GENERATION);
		for (uint32_t i = 0; i < len; i++)
			bus_read(&vdrv->bus, vdrv->config + offset + i, (uint8_t *)data + i, 1);
	} while (vdrv_get(vdrv, VDRV_GENERATION) != generation);
}

void vdrv_config_write(const struct vdrv *vdrv, uint32_t offset, const void *data, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		bus_write(&vdrv->bus, vdrv->config + offset + i, (const uint8_t *)data + i, 1);
}

static uint64_t take_interrupts(const struct vdrv *vdrv, unsigned int vector)
{
	eventfd_t count = 0;
	uint32_t why;

	if (vdrv->setup.transport == VDRV_MMIO)
		vector = 0;
	if (eventfd_read(vdrv->lines[vector], &count) < 0)
		return 0;
	if (vdrv->setup.transport == VDRV_MMIO &&
	    bus_read(&vdrv->bus, MMIO_BASE + VIRTIO_MMIO_INTERRUPT_STATUS, &why, sizeof(why)))
		bus_write(&vdrv->bus, MMIO_BASE + VIRTIO_MMIO_INTERRUPT_ACK, &why, sizeof(why));
	return count;
}

uint64_t vdrv_interrupts(const struct vdrv *vdrv, unsigned int queue)
{
	return take_interrupts(vdrv, queue);
}

uint64_t vdrv_config_interrupts(const struct vdrv *vdrv)
{
	return take_interrupts(vdrv, vdrv->line_count - 1);
}

/* ---- memory ---- */

/* Guest RAM as the driver sees it, and for the device an address range that nobody may touch yet. */
static int map_ram(struct vdrv *vdrv)
{
	uint64_t len = vdrv->ram_len;
	uint8_t *guarded;

	vdrv->ram_fd = memfd_create("vdrv", MFD_CLOEXEC);
	if (vdrv->ram_fd < 0 || ftruncate(vdrv->ram_fd, (off_t)len) < 0)
		return -errno;
	vdrv->ram = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, vdrv->ram_fd, 0);
	guarded = mmap(NULL, vdrv->host_len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (guarded != MAP_FAILED)
		vdrv->host_ram = guarded;
	if (vdrv->ram == MAP_FAILED)
		vdrv->ram = NULL;
	if (!vdrv->ram || !vdrv->host_ram)
		return -ENOMEM;
	return 0;
}

/* For the device regions lie in the reverse order, with a guard page between them: neighbours are none in memory. */
static int map_region(struct vdrv *vdrv, uint64_t index, uint64_t region)
{
	uint64_t offset = index * region, len = util_min(region, vdrv->ram_len - offset);
	uint8_t *at = vdrv->host_ram + vdrv->host_len - GUARD - (index + 1) * (region + PAGE);

	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, vdrv->ram_fd,
		 (off_t)offset) == MAP_FAILED)
		return -errno;
	return mem_add_at(&vdrv->mem, VDRV_RAM + offset, len, at);
}

static int make_ram(struct vdrv *vdrv)
{
	uint64_t region, count;
	int err;

	vdrv->ram_len = vdrv->setup.ram ? vdrv->setup.ram : RAM_DEFAULT;
	region = vdrv->setup.region ? vdrv->setup.region : vdrv->ram_len;
	/* Address 0 of guest memory is no memory, and the first page is left to accidents. */
	vdrv->next = VDRV_RAM + PAGE;
	count = (vdrv->ram_len + region - 1) / region;
	vdrv->host_len = count * (region + PAGE) + 2 * GUARD;
	err = map_ram(vdrv);
	for (uint64_t i = 0; !err && i < count; i++)
		err = map_region(vdrv, i, region);
	return err;
}

uint64_t vdrv_ram_end(const struct vdrv *vdrv)
{
	return VDRV_RAM + vdrv->ram_len;
}

void *vdrv_ptr(const struct vdrv *vdrv, uint64_t gpa, uint64_t len)
{
	if (gpa < VDRV_RAM || !util_within(gpa - VDRV_RAM, len, vdrv->ram_len))
		return NULL;
	return vdrv->ram + (gpa - VDRV_RAM);
}

uint64_t vdrv_alloc(struct vdrv *vdrv, uint64_t len)
{
	uint64_t region = vdrv->setup.region, at = util_align_up(vdrv->next, 64);
	void *memory;

	if (region && len && at / region != (at + len - 1) / region)
		at = util_align_up(at, region);
	memory = vdrv_ptr(vdrv, at, len);
	if (!memory)
		return 0;
	memset(memory, 0, len);
	vdrv->next = at + len;
	return at;
}

/* ---- PCI, as a driver finds its device ---- */

static uint32_t ecam_get(const struct vdrv *vdrv, unsigned int reg, unsigned int len)
{
	uint32_t value = 0;

	bus_read(&vdrv->bus, vdrv->function + reg, &value, len);
	return value;
}

static void ecam_set(const struct vdrv *vdrv, unsigned int reg, unsigned int len, uint32_t value)
{
	bus_write(&vdrv->bus, vdrv->function + reg, &value, len);
}

static void pci_found(struct vdrv *vdrv, unsigned int cap)
{
	unsigned int index = ecam_get(vdrv, cap + VIRTIO_PCI_CAP_BAR, 1);
	uint32_t bar = ecam_get(vdrv, PCI_BASE_ADDRESS_0 + 4 * (index % 6), 4);
	bool ports = bar & PCI_BASE_ADDRESS_SPACE_IO;
	uint64_t at = (bar & ~(ports ? 0x3ULL : 0xfULL)) +
		      ecam_get(vdrv, cap + VIRTIO_PCI_CAP_OFFSET, 4);

	switch (ecam_get(vdrv, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		vdrv->registers = at;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		/* The first that there is. */
		if (vdrv->notify)
			break;
		vdrv->notify = at;
		vdrv->notify_bus = ports ? &vdrv->ports : &vdrv->bus;
		vdrv->notify_multiplier = ecam_get(vdrv, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		vdrv->config = at;
		vdrv->config_len = ecam_get(vdrv, cap + VIRTIO_PCI_CAP_LENGTH, 4);
		break;
	case VIRTIO_PCI_CAP_PCI_CFG:
		vdrv->window = vdrv->function + cap;
		break;
	}
}

static int pci_find(struct vdrv *vdrv)
{
	unsigned int cap, steps = 0;

	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		vdrv->function = ECAM_BASE + (slot << 15);
		if (ecam_get(vdrv, PCI_VENDOR_ID, 2) == PCI_VENDOR_VIRTIO)
			break;
	}
	if (ecam_get(vdrv, PCI_VENDOR_ID, 2) != PCI_VENDOR_VIRTIO)
		return -ENODEV;
	for (cap = ecam_get(vdrv, PCI_CAPABILITY_LIST, 1); cap;
	     cap = ecam_get(vdrv, cap + PCI_CAP_LIST_NEXT, 1)) {
		/* A list that does not end. */
		if (++steps == PCI_CONFIG_LEN / 4)
			return -ELOOP;
		if (ecam_get(vdrv, cap, 1) == PCI_CAP_ID_VNDR)
			pci_found(vdrv, cap);
		else if (ecam_get(vdrv, cap, 1) == PCI_CAP_ID_MSIX)
			vdrv->msix = cap;
	}
	return vdrv->registers && vdrv->notify && vdrv->msix ? 0 : -ENODEV;
}

static void pci_enable(const struct vdrv *vdrv)
{
	uint32_t place = ecam_get(vdrv, vdrv->msix + PCI_MSIX_TABLE, 4);
	uint64_t bar = ecam_get(vdrv, PCI_BASE_ADDRESS_0 + 4 * (place & PCI_MSIX_TABLE_BIR), 4);
	uint64_t table = (bar & ~0xfULL) + (place & PCI_MSIX_TABLE_OFFSET);

	ecam_set(vdrv, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned int i = 0; i < vdrv->line_count; i++) {
		const uint32_t entry[] = { MSI_ADDRESS, 0, i, 0 };

		for (unsigned int word = 0; word < ARRAY_SIZE(entry); word++)
			bus_write(&vdrv->bus, table + i * PCI_MSIX_ENTRY_SIZE + 4 * word, &entry[word],
				  4);
	}
	ecam_set(vdrv, vdrv->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void pci_set_vectors(const struct vdrv *vdrv)
{
	uint16_t vector = (uint16_t)(vdrv->line_count - 1);

	bus_write(&vdrv->bus, vdrv->registers + VIRTIO_PCI_COMMON_MSIX, &vector, sizeof(vector));
	for (vector = 0; vector < vdrv->queue_count; vector++) {
		vdrv_set(vdrv, VDRV_QUEUE_SELECT, vector);
		bus_write(&vdrv->bus, vdrv->registers + VIRTIO_PCI_COMMON_Q_MSIX, &vector,
			  sizeof(vector));
	}
}

/* ---- the machine ---- */

static void nobody_escapes(void *opaque, enum chardev_escape escape)
{
	(void)opaque;
	(void)escape;
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static bool has_line(const struct vdrv *vdrv, int fd)
{
	for (unsigned int i = 0; i < vdrv->line_count; i++)
		if (vdrv->lines[i] == fd)
			return true;
	return false;
}

/* kept: how many fds each worker kept before there was a transport. */
static void find_lines(struct vdrv *vdrv, const size_t *kept)
{
	vdrv->line_count = 0;
	for (unsigned int i = 0; i < vdrv->dev->worker_count; i++)
		for (size_t k = kept[i]; k < vdrv->dev->workers[i].keep_count; k++) {
			int fd = vdrv->dev->workers[i].keep[k];

			if (!has_line(vdrv, fd) && vdrv->line_count < ARRAY_SIZE(vdrv->lines))
				vdrv->lines[vdrv->line_count++] = fd;
		}
	qsort(vdrv->lines, vdrv->line_count, sizeof(vdrv->lines[0]), compare_fds);
}

static int make_transport(struct vdrv *vdrv)
{
	const struct mem_range window = { WINDOW_BASE, WINDOW_LEN };
	const struct mem_range ports = { PORTS_BASE, PORTS_LEN };
	size_t kept[VIRTIO_SETS_MAX];
	int err;

	for (unsigned int i = 0; i < vdrv->dev->worker_count; i++)
		kept[i] = vdrv->dev->workers[i].keep_count;
	bus_init(&vdrv->bus, -1, false);
	bus_init(&vdrv->ports, -1, true);
	err = irq_router_init(&vdrv->router, -1, 0, 24, (struct irq_msi_pins){ 0 });
	if (err)
		return err;
	if (vdrv->setup.transport == VDRV_MMIO) {
		err = virtio_mmio_new(vdrv->dev, &vdrv->bus, &vdrv->router, MMIO_BASE, MMIO_PIN,
				      &vdrv->mmio);
	} else {
		err = pci_root_init(&vdrv->root, &vdrv->bus, ECAM_BASE, window);
		/* As on a PC, and otherwise as on other machines. */
		if (!vdrv->setup.region)
			vdrv->root.ports = (struct pci_space){ &vdrv->ports, ports };
		if (!err)
			err = virtio_pci_new(vdrv->dev, &vdrv->root, &vdrv->router, &vdrv->pci);
	}
	find_lines(vdrv, kept);
	return err;
}

static int make_device(struct vdrv *vdrv)
{
	int err;

	vdrv->display.shots = true;
	vdrv->host = (struct virtio_host){
		.mem = &vdrv->mem,
		.vm_name = "vdrv",
		.confine = vdrv->setup.confine,
		.display = &vdrv->display,
		.escape = nobody_escapes,
	};
	err = virtio_dev_new(vdrv->setup.class, 0, vdrv->conf, &vdrv->host, &vdrv->dev);
	if (err)
		return err;
	vdrv->dev->shm.gpa = VDRV_SHM;
	return make_transport(vdrv);
}

static void drop_device(struct vdrv *vdrv)
{
	virtio_dev_free(vdrv->dev);
	virtio_mmio_free(vdrv->mmio);
	virtio_pci_free(vdrv->pci);
	irq_router_free(&vdrv->router);
	bus_free(&vdrv->bus);
	bus_free(&vdrv->ports);
	display_close(&vdrv->display);
	vdrv->dev = NULL;
	vdrv->mmio = NULL;
	vdrv->pci = NULL;
}

static int parse_options(struct vdrv *vdrv)
{
	const struct virtio_class *class = vdrv->setup.class;
	const char *options = vdrv->setup.options ? vdrv->setup.options : class->sample;
	struct opt_error error;

	vdrv->conf = calloc(1, class->conf_size);
	if (!vdrv->conf)
		return -ENOMEM;
	if (!options || !opt_parse(class->opts, options, vdrv->conf, &error))
		return 0;
	fprintf(stderr, "vdrv: %s %s: %s\n", class->name, options, error.text);
	return -EINVAL;
}

static int find_device(struct vdrv *vdrv)
{
	vdrv->config_len = (uint32_t)vdrv->setup.class->config_size;
	if (vdrv->setup.transport == VDRV_MMIO) {
		vdrv->registers = MMIO_BASE;
		vdrv->config = vdrv->config_len ? MMIO_BASE + VIRTIO_MMIO_CONFIG : 0;
		vdrv->notify = MMIO_BASE + VIRTIO_MMIO_QUEUE_NOTIFY;
		vdrv->notify_bus = &vdrv->bus;
	} else if (pci_find(vdrv)) {
		return -ENODEV;
	}
	while (vdrv->queue_count < VIRTIO_QUEUES_MAX &&
	       vdrv_queue_get(vdrv, vdrv->queue_count, VDRV_QUEUE_MAX))
		vdrv->queue_count++;
	vdrv->queues = calloc(vdrv->queue_count, sizeof(*vdrv->queues));
	if (!vdrv->queues)
		return -ENOMEM;
	for (unsigned int i = 0; i < vdrv->queue_count; i++)
		vdrv->queues[i] = (struct vdrv_queue){ .vdrv = vdrv, .index = i };
	return 0;
}

int vdrv_open(struct vdrv *vdrv, const struct vdrv_setup *setup)
{
	int err;

	*vdrv = (struct vdrv){ .setup = *setup, .ram_fd = -1 };
	display_init(&vdrv->display);
	err = parse_options(vdrv);
	if (!err)
		err = make_ram(vdrv);
	if (!err)
		err = make_device(vdrv);
	if (!err)
		err = find_device(vdrv);
	if (err)
		vdrv_close(vdrv);
	return err;
}

void vdrv_close(struct vdrv *vdrv)
{
	/* A zeroed one has nothing, and fd 0 is not its own. */
	if (!vdrv->setup.class)
		return;
	drop_device(vdrv);
	for (unsigned int i = 0; i < vdrv->queue_count; i++)
		free(vdrv->queues[i].links);
	free(vdrv->queues);
	mem_free(&vdrv->mem);
	if (vdrv->host_ram)
		munmap(vdrv->host_ram, vdrv->host_len);
	if (vdrv->ram)
		munmap(vdrv->ram, vdrv->ram_len);
	util_closep(&vdrv->ram_fd);
	if (vdrv->conf)
		opt_free(vdrv->setup.class->opts, vdrv->conf);
	free(vdrv->conf);
	*vdrv = (struct vdrv){ 0 };
}

int vdrv_run(struct vdrv *vdrv)
{
	int err = 0;

	for (unsigned int i = 0; !err && i < vdrv->dev->worker_count; i++)
		err = worker_start(&vdrv->dev->workers[i]);
	vdrv->running = !err;
	return err;
}

void vdrv_turn(struct vdrv *vdrv)
{
	unsigned int turns = 0;
	int ran;

	if (vdrv->running)
		return;
	do {
		ran = 0;
		for (unsigned int i = 0; i < vdrv->dev->worker_count; i++)
			ran += loop_turn(&vdrv->dev->workers[i].loop, 0) > 0;
	} while (ran && ++turns < TURNS_MAX);
}

static int do_nothing(void *arg)
{
	(void)arg;
	return 0;
}

void vdrv_settle(struct vdrv *vdrv)
{
	vdrv_turn(vdrv);
	/* The first call may come before a doorbell of the same turn, but the next one is another turn's. */
	for (unsigned int i = 0; i < 2 * vdrv->dev->worker_count; i++)
		worker_call(&vdrv->dev->workers[i / 2], do_nothing, NULL);
}

/* ---- the device's life ---- */

int vdrv_reset(struct vdrv *vdrv)
{
	vdrv_set(vdrv, VDRV_STATUS, 0);
	vdrv->features = 0;
	for (unsigned int us = 0; us < VDRV_TIMEOUT_MS * 1000; us += VDRV_POLL_US) {
		if (!vdrv_get(vdrv, VDRV_STATUS))
			return 0;
		vdrv_turn(vdrv);
		usleep(VDRV_POLL_US);
	}
	return -ETIMEDOUT;
}

int vdrv_negotiate(struct vdrv *vdrv, uint64_t features)
{
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	int err = vdrv_reset(vdrv);

	if (err)
		return err;
	vdrv_set(vdrv, VDRV_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	vdrv_set(vdrv, VDRV_STATUS, status);
	vdrv_set_features(vdrv, features);
	vdrv_set(vdrv, VDRV_STATUS, status | VIRTIO_CONFIG_S_FEATURES_OK);
	return vdrv_get(vdrv, VDRV_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK ? 0 : -ENOTSUP;
}

int vdrv_start(struct vdrv *vdrv, uint16_t size)
{
	int err = 0;

	if (vdrv->setup.transport == VDRV_PCI) {
		pci_enable(vdrv);
		pci_set_vectors(vdrv);
	}
	for (unsigned int i = 0; !err && i < vdrv->queue_count; i++) {
		uint16_t max = virtio_queue_max(vdrv->dev, i);

		err = vdrv_set_up_queue(vdrv, i, (uint16_t)util_min(size, max));
	}
	if (err)
		return err;
	vdrv_set(vdrv, VDRV_STATUS, vdrv_get(vdrv, VDRV_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
	vdrv_settle(vdrv);
	return vdrv_needs_reset(vdrv) ? -EIO : 0;
}

int vdrv_begin(struct vdrv *vdrv, uint64_t features, uint16_t size)
{
	int err = vdrv_negotiate(vdrv, features | 1ULL << VIRTIO_F_VERSION_1);

	return err ? err : vdrv_start(vdrv, size);
}

/* ---- saves ---- */

int vdrv_save(struct vdrv *vdrv, struct state *state)
{
	int err;

	virtio_dev_pause(vdrv->dev);
	err = virtio_dev_save(vdrv->dev, state);
	if (err)
		return err;
	return vdrv->mmio ? virtio_mmio_save(vdrv->mmio, state) :
			    virtio_pci_save(vdrv->pci, state);
}

int vdrv_load(struct vdrv *vdrv, const struct state *state)
{
	struct state_reader reader = { state->data, state->len };
	bool running = vdrv->running;
	int err;

	drop_device(vdrv);
	vdrv->running = false;
	err = make_device(vdrv);
	if (!err)
		err = virtio_dev_load(vdrv->dev, &reader);
	if (!err)
		err = vdrv->mmio ? virtio_mmio_load(vdrv->mmio, &reader) :
				   virtio_pci_load(vdrv->pci, &reader);
	return err || !running ? err : vdrv_run(vdrv);
}
