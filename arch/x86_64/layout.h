/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical memory map of an x86 machine.
 *
 *	0x00001000  tables for a vCPU that starts in long mode
 *	0x00010000  what the boot protocol hands over (boot/)
 *	0x0009f000  the end of conventional RAM
 *	0x000e0000  ACPI tables
 *	0x00100000  RAM for the kernel
 *	0xc0000000  PCI BARs, ECAM, virtio-mmio, interrupt controllers: the hole
 *	0x100000000 RAM beyond 3 GiB
 */
#ifndef ARCH_X86_64_LAYOUT_H
#define ARCH_X86_64_LAYOUT_H

#include "core/util.h"

#define LAYOUT_GDT 0x1000
#define LAYOUT_PAGE_TABLES 0x2000 /* as many pages as it takes, up to LAYOUT_BOOT_INFO */
#define LAYOUT_BOOT_INFO 0x10000

#define LAYOUT_RESERVED 0x9f000 /* up to LAYOUT_KERNEL: where a PC has its BIOS and video memory */
#define LAYOUT_ACPI 0xe0000     /* up to LAYOUT_KERNEL: where guests look for an RSDP unasked */
#define LAYOUT_KERNEL 0x100000

#define LAYOUT_HOLE GIB(3)
#define LAYOUT_HIGH GIB(4)

#define LAYOUT_IOAPIC 0xfec00000 /* KVM's */
#define LAYOUT_LAPIC 0xfee00000
#define LAYOUT_KVM_TSS 0xfffbd000       /* three pages that KVM wants on old Intel hosts; it takes the one before them as well */

/* Offsets from arch_layout.power, as devices/platform has them. */
#define LAYOUT_SLEEP_CONTROL 0
#define LAYOUT_SLEEP_STATUS 1
#define LAYOUT_RESET 2
#define LAYOUT_S5_TYPE 5
#define LAYOUT_RESET_VALUE 1

#endif
