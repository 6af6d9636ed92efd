// SPDX-License-Identifier: Apache-2.0
/* A GICv3 (IHI 0069): pins are its SPIs, MSIs become LPIs by the ITS, one for each function. */
#include "gic.h"

#include "cpu.h"
#include "layout.h"

#define GICD_CTLR 0x0
#define GICD_CTLR_ARE_GROUP1 0x12
#define GICD_IGROUPR 0x80
#define GICD_ISENABLER 0x100
#define GICD_ICFGR 0xc00
#define GICD_ICFGR_EDGE 2
#define GICD_IROUTER 0x6000
#define SPI_FIRST 32

#define GICR_CTLR 0x0
#define GICR_CTLR_LPIS 1
#define GICR_PROPBASER 0x70
#define GICR_PROPBASER_16_BITS 15
#define GICR_PENDBASER 0x78
#define GICR_PENDBASER_ZERO (1ULL << 62)
#define LPI_FIRST 8192
#define LPI_ENABLED 0xa3 /* with a middle priority */

#define GITS_CTLR 0x0
#define GITS_CTLR_ENABLED 1
#define GITS_CBASER 0x80
#define GITS_CWRITER 0x88
#define GITS_CREADR 0x90
#define GITS_BASER 0x100
#define GITS_BASERS 8
#define GITS_BASER_TYPE_SHIFT 56
#define GITS_BASER_TYPE_MASK 7
#define GITS_BASER_64K_PAGES (2 << 8)
#define GITS_TRANSLATER 0x10040
#define VALID (1ULL << 63)

enum { TYPE_DEVICES = 1, TYPE_COLLECTIONS = 4 };
enum { MAPD = 8, MAPC = 9, MAPTI = 10 };

#define FUNCTIONS 256
#define TABLE_LEN 0x10000
#define TABLE_PAGES_4K (TABLE_LEN / 4096)
#define COMMAND_LEN 32

/* What the GIC keeps in the guest's memory. */
static struct {
	uint8_t devices[TABLE_LEN], collections[TABLE_LEN], commands[TABLE_LEN];
	uint8_t properties[TABLE_LEN], pending[TABLE_LEN];
	/* A function's only event; the alignment is the ITS's. */
	uint8_t events[FUNCTIONS][256];
} tables __attribute__((aligned(TABLE_LEN)));

static void command(uint64_t first, uint64_t second, uint64_t third)
{
	uint64_t at = read64(ITS + GITS_CWRITER);
	uint64_t *to = (uint64_t *)(void *)(tables.commands + at);

	to[0] = first;
	to[1] = second;
	to[2] = third;
	to[3] = 0;
	at = (at + COMMAND_LEN) % TABLE_LEN;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	write64(ITS + GITS_CWRITER, at);
	while (read64(ITS + GITS_CREADR) != at)
		cpu_pause();
}

static void init_its(void)
{
	for (unsigned int i = 0; i < GITS_BASERS; i++) {
		uintptr_t reg = ITS + GITS_BASER + 8 * i;
		uint64_t type = read64(reg) >> GITS_BASER_TYPE_SHIFT & GITS_BASER_TYPE_MASK;

		if (type == TYPE_DEVICES)
			write64(reg, VALID | (uintptr_t)tables.devices | GITS_BASER_64K_PAGES);
		else if (type == TYPE_COLLECTIONS)
			write64(reg, VALID | (uintptr_t)tables.collections | GITS_BASER_64K_PAGES);
	}
	write64(ITS + GITS_CBASER, VALID | (uintptr_t)tables.commands | (TABLE_PAGES_4K - 1));
	write32(ITS + GITS_CTLR, GITS_CTLR_ENABLED);
	/* Collection 0 is this processor. */
	command(MAPC, 0, VALID);
}

static void init_lpis(void)
{
	memset(tables.properties, LPI_ENABLED, FUNCTIONS);
	write64(GICR + GICR_PROPBASER, (uintptr_t)tables.properties | GICR_PROPBASER_16_BITS);
	write64(GICR + GICR_PENDBASER, (uintptr_t)tables.pending | GICR_PENDBASER_ZERO);
	write32(GICR + GICR_CTLR, GICR_CTLR_LPIS);
}

void gic_init(void)
{
	write32(GICD + GICD_CTLR, GICD_CTLR_ARE_GROUP1);
	__asm__ volatile("msr S3_0_C4_C6_0, %0\n\t" /* ICC_PMR_EL1 */
			 "msr S3_0_C12_C12_7, %1\n\t" /* ICC_IGRPEN1_EL1 */
			 "isb"
			 : : "r"(0xffULL), "r"(1ULL));
	init_lpis();
	init_its();
}

/* Edge-triggered, to this processor. */
void cpu_connect_pin(uint32_t pin)
{
	uint32_t id = SPI_FIRST + pin, bit = 1u << id % 32;
	uintptr_t group = GICD + GICD_IGROUPR + id / 32 * 4, edge = GICD + GICD_ICFGR + id / 16 * 4;

	write32(group, read32(group) | bit);
	write32(edge, read32(edge) | (uint32_t)GICD_ICFGR_EDGE << id % 16 * 2);
	write64(GICD + GICD_IROUTER + id * 8, 0);
	write32(GICD + GICD_ISENABLER + id / 32 * 4, bit);
}

/* Its number is its interrupt's, too. */
struct msi cpu_connect_msi(uint32_t function)
{
	uint64_t device = (uint64_t)function << 32;

	command(MAPD | device, 0, (uintptr_t)tables.events[function] | VALID);
	command(MAPTI | device, (uint64_t)(LPI_FIRST + function) << 32, 0);
	return (struct msi){ ITS + GITS_TRANSLATER, 0 };
}
