// SPDX-License-Identifier: Apache-2.0
/*
 * rogue DEVICE outside|loop|head: a driver that breaks the rules: a queue outside of RAM, a chain
 * without an end, a head beyond the queue. Succeeds once the device asks for its reset.
 *
 * rogue DEVICE abandon ROUNDS: a disk's driver that resets with reads in flight. Succeeds if
 * nothing of its memory changes once a reset is over.
 *
 * DEVICE is a PCI function's directory in sysfs, or the physical address of virtio-mmio registers;
 * Linux' drivers must not have it. A huge page has to be free.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define MEMORY_LEN (2 << 20) /* a huge page: physically in one piece */
#define BAR_LEN 0x10000
#define QUEUE_SIZE 64
#define READS (QUEUE_SIZE / 3)
#define READ_LEN 4096
#define DATA_AT 0x10000 /* behind the ring, which fits into less */
#define MARK 0xa5

enum reg {
	FEATURES_WORD, FEATURES, STATUS, QUEUE, SIZE, READY, DESC, DRIVER, DEVICE,
};

static const struct {
	uint16_t mmio, pci;
	unsigned int pci_width;
} registers[] = {
	[FEATURES_WORD] = { VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_PCI_COMMON_GFSELECT, 4 },
	[FEATURES] = { VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_PCI_COMMON_GF, 4 },
	[STATUS] = { VIRTIO_MMIO_STATUS, VIRTIO_PCI_COMMON_STATUS, 1 },
	[QUEUE] = { VIRTIO_MMIO_QUEUE_SEL, VIRTIO_PCI_COMMON_Q_SELECT, 2 },
	[SIZE] = { VIRTIO_MMIO_QUEUE_NUM, VIRTIO_PCI_COMMON_Q_SIZE, 2 },
	[READY] = { VIRTIO_MMIO_QUEUE_READY, VIRTIO_PCI_COMMON_Q_ENABLE, 2 },
	[DESC] = { VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_PCI_COMMON_Q_DESCLO, 4 },
	[DRIVER] = { VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_PCI_COMMON_Q_AVAILLO, 4 },
	[DEVICE] = { VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_PCI_COMMON_Q_USEDLO, 4 },
};

struct rogue {
	bool pci;
	volatile uint8_t *registers, *doorbell;
	uint8_t *memory;
	uint64_t physical; /* the memory's address */
	struct vring ring;
};

static volatile void *register_at(struct rogue *rogue, enum reg reg)
{
	return rogue->registers + (rogue->pci ? registers[reg].pci : registers[reg].mmio);
}

static void set(struct rogue *rogue, enum reg reg, uint32_t value)
{
	volatile void *at = register_at(rogue, reg);

	switch (rogue->pci ? registers[reg].pci_width : 4) {
	case 1:
		*(volatile uint8_t *)at = (uint8_t)value;
		break;
	case 2:
		*(volatile uint16_t *)at = (uint16_t)value;
		break;
	default:
		*(volatile uint32_t *)at = value;
	}
}

static void set_address(struct rogue *rogue, enum reg reg, uint64_t value)
{
	volatile uint32_t *halves = register_at(rogue, reg);

	halves[0] = (uint32_t)value;
	halves[1] = (uint32_t)(value >> 32);
}

static uint8_t status(struct rogue *rogue)
{
	volatile void *at = register_at(rogue, STATUS);

	return rogue->pci ? *(volatile uint8_t *)at : (uint8_t)*(volatile uint32_t *)at;
}

static void *map(const char *path, off_t offset, size_t len)
{
	int fd = open(path, O_RDWR | O_SYNC);
	void *at = fd < 0 ? MAP_FAILED :
			    mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	if (at == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
	return at;
}

/* Where in the BAR a structure of virtio is. */
static uint32_t find_structure(const uint8_t *config, uint8_t type)
{
	struct virtio_pci_cap cap;

	for (uint8_t at = config[PCI_CAPABILITY_LIST]; at; at = cap.cap_next) {
		memcpy(&cap, config + at, sizeof(cap));
		if (cap.cap_vndr == PCI_CAP_ID_VNDR && cap.cfg_type == type && cap.bar == 0)
			return cap.offset;
	}
	errx(1, "no structure of type %u", type);
}

static void open_pci(struct rogue *rogue, const char *directory)
{
	uint8_t config[256], *bar;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/config", directory);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, config, sizeof(config)) != sizeof(config))
		err(1, "%s", path);
	close(fd);
	snprintf(path, sizeof(path), "%s/resource0", directory);
	bar = map(path, 0, BAR_LEN);
	rogue->pci = true;
	rogue->registers = bar + find_structure(config, VIRTIO_PCI_CAP_COMMON_CFG);
	rogue->doorbell = bar + find_structure(config, VIRTIO_PCI_CAP_NOTIFY_CFG);
}

static void open_mmio(struct rogue *rogue, off_t address)
{
	uint8_t *page = map("/dev/mem", address / PAGE * PAGE, PAGE);

	rogue->registers = page + address % PAGE;
	rogue->doorbell = rogue->registers + VIRTIO_MMIO_QUEUE_NOTIFY;
}

static void find_memory(struct rogue *rogue)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	rogue->memory = mmap(NULL, MEMORY_LEN, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (rogue->memory == MAP_FAILED)
		err(1, "a huge page");
	if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)rogue->memory / PAGE * sizeof(entry))) !=
	    sizeof(entry))
		err(1, "pagemap");
	close(fd);
	rogue->physical = (entry & ((1ULL << 55) - 1)) * PAGE;
	vring_init(&rogue->ring, QUEUE_SIZE, rogue->memory, PAGE);
}

static uint64_t physical(const struct rogue *rogue, const volatile void *at)
{
	return rogue->physical + (uint64_t)((const volatile uint8_t *)at - rogue->memory);
}

static void reset(struct rogue *rogue)
{
	set(rogue, STATUS, 0);
	while (status(rogue))
		usleep(100);
}

/* Queue 0, with its descriptors at desc, and a driver that is ready. */
static void start(struct rogue *rogue, uint64_t desc)
{
	const uint8_t negotiated = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				   VIRTIO_CONFIG_S_FEATURES_OK;

	reset(rogue);
	memset(rogue->memory, 0, DATA_AT);
	set(rogue, STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	set(rogue, FEATURES_WORD, 0);
	set(rogue, FEATURES, 0);
	set(rogue, FEATURES_WORD, 1);
	set(rogue, FEATURES, 1 << (VIRTIO_F_VERSION_1 - 32));
	set(rogue, STATUS, negotiated);
	set(rogue, QUEUE, 0);
	set(rogue, SIZE, QUEUE_SIZE);
	set_address(rogue, DESC, desc);
	set_address(rogue, DRIVER, physical(rogue, rogue->ring.avail));
	set_address(rogue, DEVICE, physical(rogue, rogue->ring.used));
	set(rogue, READY, 1);
	set(rogue, STATUS, negotiated | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void kick(struct rogue *rogue)
{
	__sync_synchronize();
	if (rogue->pci)
		*(volatile uint16_t *)rogue->doorbell = 0;
	else
		*(volatile uint32_t *)rogue->doorbell = 0;
}

static int lie(struct rogue *rogue, const char *how)
{
	struct vring *ring = &rogue->ring;

	if (!strcmp(how, "outside")) {
		start(rogue, 1ULL << 40);
	} else {
		start(rogue, rogue->physical);
		ring->desc[0] = (struct vring_desc){ .addr = rogue->physical + DATA_AT,
						     .len = READ_LEN, .flags = VRING_DESC_F_NEXT };
		ring->avail->ring[0] = strcmp(how, "head") ? 0 : QUEUE_SIZE;
		ring->avail->idx = 1;
		kick(rogue);
	}
	for (int i = 0; i < 1000; i++, usleep(10000))
		if (status(rogue) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return 0;
	warnx("the status is still 0x%x", status(rogue));
	return 1;
}

/* A header, 4 KiB of data and a status. */
static void post_read(struct rogue *rogue, uint16_t i)
{
	struct vring_desc *desc = rogue->ring.desc + i * 3;
	uint8_t *data = rogue->memory + DATA_AT + i * 2 * READ_LEN, *rest = data + READ_LEN;
	struct virtio_blk_outhdr *header = (void *)rest;

	*header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN,
					      .sector = (uint64_t)i * READ_LEN / 512 };
	desc[0] = (struct vring_desc){ physical(rogue, header), sizeof(*header), VRING_DESC_F_NEXT,
				       (uint16_t)(i * 3 + 1) };
	desc[1] = (struct vring_desc){ physical(rogue, data), READ_LEN,
				       VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, (uint16_t)(i * 3 + 2) };
	desc[2] = (struct vring_desc){ physical(rogue, header + 1), 1, VRING_DESC_F_WRITE, 0 };
	rogue->ring.avail->ring[i] = (uint16_t)(i * 3);
}

static bool is_untouched(const struct rogue *rogue)
{
	for (size_t i = 0; i < MEMORY_LEN; i++)
		if (rogue->memory[i] != MARK)
			return false;
	return true;
}

static int abandon(struct rogue *rogue, unsigned int rounds)
{
	unsigned int returned = 0;

	for (unsigned int round = 0; round < rounds; round++) {
		start(rogue, rogue->physical);
		for (uint16_t i = 0; i < READS; i++)
			post_read(rogue, i);
		rogue->ring.avail->idx = READS;
		kick(rogue);
		/* From at once until after the last of them. */
		usleep(round * 50000 / rounds);
		reset(rogue);
		returned += *(volatile uint16_t *)&rogue->ring.used->idx;
		memset(rogue->memory, MARK, MEMORY_LEN);
		usleep(30000);
		if (!is_untouched(rogue)) {
			warnx("round %u: the device wrote after its reset", round);
			return 1;
		}
	}
	printf("%u returned, %u abandoned\n", returned, rounds * READS - returned);
	return 0;
}

int main(int argc, char **argv)
{
	struct rogue rogue = { 0 };

	if (argc < 3)
		errx(2, "rogue DEVICE outside|loop|head, or rogue DEVICE abandon ROUNDS");
	if (strchr(argv[1], '/'))
		open_pci(&rogue, argv[1]);
	else
		open_mmio(&rogue, strtol(argv[1], NULL, 16));
	find_memory(&rogue);
	if (argc == 4)
		return abandon(&rogue, (unsigned int)atoi(argv[3]));
	return lie(&rogue, argv[2]);
}
