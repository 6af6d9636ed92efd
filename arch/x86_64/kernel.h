/* SPDX-License-Identifier: Apache-2.0 */
/* The formats and start protocols of x86 kernels. */
#ifndef ARCH_X86_64_KERNEL_H
#define ARCH_X86_64_KERNEL_H

#include "arch/arch.h"

enum kernel_protocol {
	KERNEL_PVH,     /* 32-bit entry with a hvm_start_info (Xen's x86/HVM direct boot ABI) */
	KERNEL_LINUX64, /* bzImage, 64-bit entry with boot_params (Documentation/arch/x86/boot.rst) */
};

/* The end of the RAM that LAYOUT_KERNEL is in; 0 when there is none. */
uint64_t kernel_ram_end(const struct mem *mem);
/* Where an initrd may lie whose last byte is at max or below. */
struct mem_range kernel_initrd_room(const struct mem *mem, uint32_t max);

/* The loaders behind arch_load_kernel(); each gives -ENOEXEC when the magic is not its own. */
int kernel_load_elf(const struct boot_file *file, const struct mem *mem,
		    struct boot_kernel *ret_kernel);
int kernel_load_bzimage(const struct boot_file *file, const struct mem *mem,
			struct boot_kernel *ret_kernel);

/*
 * Writes the command line, the memory map and the protocol's structure
 * (hvm_start_info or boot_params) into low memory, from LAYOUT_BOOT_INFO to
 * LAYOUT_RESERVED. *ret_gpa is what the entry point wants in its register.
 * -E2BIG: the command line is longer than the kernel takes.
 */
int kernel_inform(const struct boot_kernel *kernel, const struct mem *mem,
		  const struct boot_info *info, uint64_t rsdp, uint64_t *ret_gpa);

/* Writes the ACPI tables; *ret_rsdp is where they begin. -errno. */
int acpi_write(const struct mem *mem, const struct arch_devices *devices, uint64_t *ret_rsdp);

#endif
