// SPDX-License-Identifier: Apache-2.0
/* From an image to a kernel that can be entered. */
#include <asm/bootparam.h>
#include <assert.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/layout.h"

/* Behind the protocol's structure, up to LAYOUT_RESERVED. */
#define CMDLINE_GPA 0x20000

/* Both protocols number the types as e820 does. */
#define E820_RAM 1
#define E820_RESERVED 2

#define LOADER_UNDEFINED 0xff

/* Xen, public/arch-x86/hvm/start_info.h, version 1 */
#define PVH_MAGIC 0x336ec578

struct pvh_start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_count, reserved;
};
static_assert(offsetof(struct pvh_start_info, memmap) == 40, "ABI");
static_assert(sizeof(struct pvh_start_info) == 56, "ABI");

struct pvh_module {
	uint64_t gpa, len, cmdline, reserved;
};
static_assert(sizeof(struct pvh_module) == 32, "ABI");

struct pvh_memmap_entry {
	uint64_t gpa, len;
	uint32_t type, reserved;
};
static_assert(sizeof(struct pvh_memmap_entry) == 24, "ABI");

struct pvh_page {
	struct pvh_start_info info;
	struct pvh_module initrd;
	struct pvh_memmap_entry memmap[E820_MAX_ENTRIES_ZEROPAGE];
};
static_assert(LAYOUT_BOOT_INFO + sizeof(struct pvh_page) <= CMDLINE_GPA, "room");
static_assert(LAYOUT_BOOT_INFO + sizeof(struct boot_params) <= CMDLINE_GPA, "room");

struct memory_map {
	struct boot_e820_entry entries[E820_MAX_ENTRIES_ZEROPAGE];
	uint8_t count;
};

static int map_add(struct memory_map *map, uint64_t start, uint64_t end, uint32_t type)
{
	struct boot_e820_entry *last = map->count ? &map->entries[map->count - 1] : NULL;

	if (start >= end)
		return 0;
	if (last && last->type == type && last->addr + last->size == start) {
		last->size += end - start;
		return 0;
	}
	if (map->count == ARRAY_SIZE(map->entries))
		return -ENOSPC;
	map->entries[map->count++] = (struct boot_e820_entry){ start, end - start, type };
	return 0;
}

/* What lies where a PC has its BIOS and video memory is no RAM to use. */
static int map_add_region(struct memory_map *map, const struct mem_region *region)
{
	uint64_t at = region->gpa, end = region->gpa + region->len;
	uint64_t from = util_max(at, LAYOUT_RESERVED), to = util_min(end, LAYOUT_KERNEL);
	int err;

	if (from >= to)
		return map_add(map, at, end, E820_RAM);
	err = map_add(map, at, from, E820_RAM);
	if (!err)
		err = map_add(map, from, to, E820_RESERVED);
	return err ? err : map_add(map, to, end, E820_RAM);
}

static int write_start_info(const struct mem *mem, const struct boot_info *info,
			    uint64_t rsdp, const struct memory_map *map)
{
	struct pvh_page page = {
		.info = {
			.magic = PVH_MAGIC,
			.version = 1,
			.module_count = info->initrd_len ? 1 : 0,
			.modules = LAYOUT_BOOT_INFO + offsetof(struct pvh_page, initrd),
			.cmdline = CMDLINE_GPA,
			.rsdp = rsdp,
			.memmap = LAYOUT_BOOT_INFO + offsetof(struct pvh_page, memmap),
			.memmap_count = map->count,
		},
		.initrd = { .gpa = info->initrd_gpa, .len = info->initrd_len },
	};

	for (size_t i = 0; i < map->count; i++)
		page.memmap[i] = (struct pvh_memmap_entry){ .gpa = map->entries[i].addr,
							    .len = map->entries[i].size,
							    .type = map->entries[i].type };
	return mem_write(mem, LAYOUT_BOOT_INFO, &page, sizeof(page));
}

static int write_boot_params(const struct mem *mem, const struct boot_kernel *kernel,
			     const struct boot_info *info, uint64_t rsdp,
			     const struct memory_map *map)
{
	struct boot_params params = { 0 };

	memcpy((uint8_t *)&params + offsetof(struct boot_params, hdr), kernel->header,
	       kernel->header_len);
	params.hdr.type_of_loader = LOADER_UNDEFINED;
	params.hdr.setup_data = 0;
	params.hdr.cmd_line_ptr = CMDLINE_GPA;
	params.hdr.ramdisk_image = (uint32_t)info->initrd_gpa;
	params.hdr.ramdisk_size = (uint32_t)info->initrd_len;
	params.acpi_rsdp_addr = rsdp;
	params.e820_entries = map->count;
	memcpy(params.e820_table, map->entries, sizeof(map->entries));
	return mem_write(mem, LAYOUT_BOOT_INFO, &params, sizeof(params));
}

int kernel_inform(const struct boot_kernel *kernel, const struct mem *mem,
		  const struct boot_info *info, uint64_t rsdp, uint64_t *ret_gpa)
{
	size_t cmdline_size = strlen(info->cmdline) + 1;
	struct memory_map map = { 0 };
	int err = 0;

	if (cmdline_size - 1 > kernel->cmdline_max || cmdline_size > LAYOUT_RESERVED - CMDLINE_GPA)
		return -E2BIG;
	for (size_t i = 0; !err && i < mem->count; i++)
		err = map_add_region(&map, &mem->regions[i]);
	if (!err)
		err = mem_write(mem, CMDLINE_GPA, info->cmdline, cmdline_size);
	if (!err)
		err = kernel->protocol == KERNEL_PVH ?
			      write_start_info(mem, info, rsdp, &map) :
			      write_boot_params(mem, kernel, info, rsdp, &map);
	if (!err)
		*ret_gpa = LAYOUT_BOOT_INFO;
	return err;
}

const char arch_kernel_formats[] = "the guest's kernel: an ELF vmlinux or a bzImage";

const struct hint arch_kernel_hints[] = {
	BOOT_FILE_HINTS,
	{ ENOEXEC, "neither an ELF vmlinux nor a bzImage: give the kernel itself, unpacked" },
	{ EBADMSG, "the kernel image is truncated or damaged: fetch or build it again" },
	{ ENOTSUP, "not for a 64-bit x86 guest, or without a PVH entry point: use the bzImage, "
		   "or build with CONFIG_PVH=y" },
	{ E2BIG, "the kernel does not fit the guest's memory above 1 MiB: give the guest more" },
	{ 0 }
};

uint64_t kernel_ram_end(const struct mem *mem)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];

		if (region->gpa <= LAYOUT_KERNEL && LAYOUT_KERNEL - region->gpa < region->len)
			return region->gpa + region->len;
	}
	return 0;
}

struct mem_range kernel_initrd_room(const struct mem *mem, uint32_t max)
{
	uint64_t end = util_min(kernel_ram_end(mem), (uint64_t)max + 1);

	return (struct mem_range){ LAYOUT_KERNEL, end > LAYOUT_KERNEL ? end - LAYOUT_KERNEL : 0 };
}

int arch_load_kernel(const struct boot_file *file, const struct mem *mem,
		     struct boot_kernel *ret_kernel)
{
	int err = kernel_load_elf(file, mem, ret_kernel);

	return err == -ENOEXEC ? kernel_load_bzimage(file, mem, ret_kernel) : err;
}

int arch_describe(const struct arch_devices *devices, const struct mem *mem,
		  const struct boot_kernel *kernel, const struct boot_info *info,
		  struct arch_entry *ret_entry)
{
	struct arch_entry entry = { .pc = kernel->entry, .protocol = kernel->protocol };
	uint64_t rsdp;
	int err = acpi_write(mem, devices, &rsdp);

	if (!err)
		err = kernel_inform(kernel, mem, info, rsdp, &entry.info);
	if (!err)
		*ret_entry = entry;
	return err;
}
