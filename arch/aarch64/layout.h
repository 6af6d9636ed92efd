/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical memory map of an Arm machine. Whatever is not RAM lies
 * below it, so that RAM is one piece of any size.
 *
 *	0x08000000  interrupt controllers
 *	0x09000000  platform devices
 *	0x0a000000  virtio-mmio
 *	0x10000000  PCI BARs
 *	0x3f000000  ECAM
 *	0x40000000  RAM: the device tree, and from LAYOUT_KERNEL on the kernel
 */
#ifndef ARCH_AARCH64_LAYOUT_H
#define ARCH_AARCH64_LAYOUT_H

#include "core/util.h"

#define LAYOUT_GICD 0x08000000
#define LAYOUT_GICC 0x08010000 /* GICv2 */
#define LAYOUT_GICV2M 0x08020000
#define LAYOUT_ITS 0x08080000  /* GICv3 */
#define LAYOUT_GICR 0x080a0000

#define LAYOUT_RAM 0x40000000
#define LAYOUT_FDT LAYOUT_RAM
#define LAYOUT_FDT_MAX KIB(64)
#define LAYOUT_KERNEL (LAYOUT_RAM + MIB(2))

/* Interrupts as the GIC counts them: a pin is a shared one (SPI), and the private ones come before. */
#define LAYOUT_SPI_FIRST 32
#define LAYOUT_PINS 64
#define LAYOUT_PMU_PPI 7

#endif
