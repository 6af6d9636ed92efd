/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_AARCH64_IRQCHIP_H
#define ARCH_AARCH64_IRQCHIP_H

#include <stdbool.h>

/* The registers of a GICv2 in bytes, and those of a GICv3, whose redistributors are one for each vCPU. */
#define IRQCHIP_V2_GICD_LEN 0x1000
#define IRQCHIP_V2_GICC_LEN 0x2000
#define IRQCHIP_V2M_LEN 0x1000
#define IRQCHIP_V3_GICD_LEN 0x10000
#define IRQCHIP_V3_GICR_LEN 0x20000
#define IRQCHIP_ITS_LEN 0x20000

/* What MSIs have of a GICv2's interrupts. */
#define IRQCHIP_V2M_FIRST 128
#define IRQCHIP_V2M_COUNT 384

struct arch_irqchip {
	int vm_fd, gic_fd, its_fd;
	bool v3; /* with an ITS; else a GICv2 with a GICv2m */
	unsigned int cpus;
	unsigned int interrupts; /* the private ones included */
};

#endif
