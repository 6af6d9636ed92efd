// SPDX-License-Identifier: Apache-2.0
#include "boot/boot.h"

#include <asm/bootparam.h>
#include <assert.h>

/* Low memory: the protocol's structure, and the command line up to the end. */
#define INFO_GPA 0x10000
#define CMDLINE_GPA 0x20000
#define LOW_END 0x9f000

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
static_assert(INFO_GPA + sizeof(struct pvh_page) <= CMDLINE_GPA, "room");
static_assert(INFO_GPA + sizeof(struct boot_params) <= CMDLINE_GPA, "room");

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

static int map_add_region(struct memory_map *map, const struct mem_region *region,
			  const struct boot_info *info)
{
	uint64_t at = region->gpa, end = region->gpa + region->len;

	for (size_t i = 0; i < info->reserved_count; i++) {
		uint64_t from = util_max(at, info->reserved[i].gpa);
		uint64_t to = util_min(end, info->reserved[i].gpa + info->reserved[i].len);
		int err;

		if (from >= to)
			continue;
		err = map_add(map, at, from, E820_RAM);
		if (!err)
			err = map_add(map, from, to, E820_RESERVED);
		if (err)
			return err;
		at = to;
	}
	return map_add(map, at, end, E820_RAM);
}

static int write_start_info(const struct mem *mem, const struct boot_info *info,
			    const struct memory_map *map)
{
	struct pvh_page page = {
		.info = {
			.magic = PVH_MAGIC,
			.version = 1,
			.module_count = info->initrd_len ? 1 : 0,
			.modules = INFO_GPA + offsetof(struct pvh_page, initrd),
			.cmdline = CMDLINE_GPA,
			.rsdp = info->firmware_gpa,
			.memmap = INFO_GPA + offsetof(struct pvh_page, memmap),
			.memmap_count = map->count,
		},
		.initrd = { .gpa = info->initrd_gpa, .len = info->initrd_len },
	};

	for (size_t i = 0; i < map->count; i++)
		page.memmap[i] = (struct pvh_memmap_entry){ .gpa = map->entries[i].addr,
							    .len = map->entries[i].size,
							    .type = map->entries[i].type };
	return mem_write(mem, INFO_GPA, &page, sizeof(page));
}

static int write_boot_params(const struct mem *mem, const struct boot_kernel *kernel,
			     const struct boot_info *info, const struct memory_map *map)
{
	struct boot_params params = { 0 };

	memcpy((uint8_t *)&params + offsetof(struct boot_params, hdr), kernel->setup_header,
	       kernel->setup_header_len);
	params.hdr.type_of_loader = LOADER_UNDEFINED;
	params.hdr.setup_data = 0;
	params.hdr.cmd_line_ptr = CMDLINE_GPA;
	params.hdr.ramdisk_image = (uint32_t)info->initrd_gpa;
	params.hdr.ramdisk_size = (uint32_t)info->initrd_len;
	params.acpi_rsdp_addr = info->firmware_gpa;
	params.e820_entries = map->count;
	memcpy(params.e820_table, map->entries, sizeof(map->entries));
	return mem_write(mem, INFO_GPA, &params, sizeof(params));
}

int boot_finish(const struct boot_kernel *kernel, const struct mem *mem,
		const struct boot_info *info, uint64_t *ret_gpa)
{
	size_t cmdline_size = strlen(info->cmdline) + 1;
	struct memory_map map = { 0 };
	int err = 0;

	if (cmdline_size - 1 > kernel->cmdline_max || cmdline_size > LOW_END - CMDLINE_GPA)
		return -E2BIG;
	for (size_t i = 0; !err && i < mem->count; i++)
		err = map_add_region(&map, &mem->regions[i], info);
	if (!err)
		err = mem_write(mem, CMDLINE_GPA, info->cmdline, cmdline_size);
	if (!err)
		err = kernel->protocol == BOOT_PVH ?
			      write_start_info(mem, info, &map) :
			      write_boot_params(mem, kernel, info, &map);
	if (!err)
		*ret_gpa = INFO_GPA;
	return err;
}
