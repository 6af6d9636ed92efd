// SPDX-License-Identifier: Apache-2.0
/*
 * Linux for arm64: an Image (Documentation/arch/arm64/booting.rst), one that is
 * packed, or one packed inside of an EFI program (zboot, Linux'
 * drivers/firmware/efi/libstub/zboot-header.S), of which only that counts.
 *
 * Each is first brought to LAYOUT_KERNEL and then looked at. Only the unpacked
 * header tells how far from there it has to be: not at all since Linux 5.8.
 */
#include <assert.h>
#include "arch/aarch64/layout.h"
#include "arch/aarch64/unpack.h"
#include "arch/arch.h"

#define IMAGE_MAGIC 0x644d5241  /* "ARM\x64" */
#define IMAGE_BIG_ENDIAN 1      /* in flags */
#define OLD_TEXT_OFFSET 0x80000 /* of kernels before 3.17, which tell no size */

#define ZBOOT_MZ 0x5a4d
#define ZBOOT_TYPE 0x676d697a /* "zimg" */

#define COMMAND_LINE_SIZE 2048 /* Linux' */
#define INITRD_WINDOW GIB(32)  /* from LAYOUT_RAM, where Linux maps an initrd */

struct image_header {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags;
	uint64_t reserved[3];
	uint32_t magic, pe_offset;
};
static_assert(sizeof(struct image_header) == 64, "ABI");

struct zboot_header {
	uint32_t mz, type;
	uint32_t payload_offset, payload_size;
};

const char arch_kernel_formats[] = "the guest's kernel: an Image, Image.gz or EFI image (vmlinuz)";

const struct hint arch_kernel_hints[] = {
	BOOT_FILE_HINTS,
	{ ENOEXEC, "not an arm64 kernel, or not packed by gzip or zstd: give its Image, Image.gz or EFI "
		   "image (vmlinuz)" },
	{ EBADMSG, "the kernel image is truncated or damaged: fetch or build it again" },
	{ ENOTSUP, "a big-endian kernel: build it with CONFIG_CPU_LITTLE_ENDIAN=y" },
	{ ENOPKG, "an EFI image whose kernel is packed by neither gzip nor zstd: give the Image "
		  "itself, or build with CONFIG_KERNEL_GZIP=y" },
	{ E2BIG, "the kernel does not fit the guest's memory behind its first 2 MiB: give the "
		 "guest more" },
	{ 0 }
};

/* How much RAM there is from LAYOUT_KERNEL on, in one piece. */
static uint64_t find_room(const struct mem *mem)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];

		if (region->gpa <= LAYOUT_KERNEL && LAYOUT_KERNEL - region->gpa < region->len)
			return region->gpa + region->len - LAYOUT_KERNEL;
	}
	return 0;
}

static int64_t fetch_zboot(const struct boot_file *file, const struct zboot_header *header,
			   uint8_t *to, uint64_t room)
{
	const struct packed payload = { file, header->payload_offset, header->payload_size };
	int64_t len;

	if (!util_within(payload.offset, payload.len, file->size))
		return -EBADMSG;
	len = unpack(&payload, to, room);
	return len == -ENOEXEC ? -ENOPKG : len;
}

/* Puts the unpacked image there, whatever the file is. Returns its length, or -errno. */
static int64_t fetch(const struct boot_file *file, uint8_t *to, uint64_t room)
{
	union {
		struct image_header image;
		struct zboot_header zboot;
	} header;
	int err;

	if (file->size < sizeof(header))
		return -ENOEXEC;
	err = boot_file_read(file, 0, &header, sizeof(header));
	if (err)
		return err;
	if (header.zboot.mz == ZBOOT_MZ && header.zboot.type == ZBOOT_TYPE)
		return fetch_zboot(file, &header.zboot, to, room);
	if (header.image.magic != IMAGE_MAGIC)
		return unpack(&(struct packed){ file, 0, file->size }, to, room);
	if (file->size > room)
		return -E2BIG;
	err = boot_file_read(file, 0, to, file->size);
	return err ? err : (int64_t)file->size;
}

/* Moves the image from the beginning of the room to where its header wants it. */
static int place(uint8_t *ram, uint64_t room, uint64_t len, struct boot_kernel *kernel)
{
	struct image_header header;
	uint64_t offset, extent;

	if (len < sizeof(header))
		return -ENOEXEC;
	memcpy(&header, ram, sizeof(header));
	if (header.magic != IMAGE_MAGIC)
		return -ENOEXEC;
	if (header.flags & IMAGE_BIG_ENDIAN)
		return -ENOTSUP;
	offset = header.image_size ? header.text_offset : OLD_TEXT_OFFSET;
	extent = util_max(header.image_size, len);
	if (!util_within(offset, extent, room))
		return -E2BIG;
	if (offset)
		memmove(ram + offset, ram, len);
	kernel->entry = kernel->base = LAYOUT_KERNEL + offset;
	kernel->end = kernel->base + extent;
	return 0;
}

int arch_load_kernel(const struct boot_file *file, const struct mem *mem,
		     struct boot_kernel *ret_kernel)
{
	uint64_t room = find_room(mem);
	uint8_t *ram = mem_ptr(mem, LAYOUT_KERNEL, room);
	struct boot_kernel kernel = {
		.initrd_room = { LAYOUT_KERNEL,
				 util_min(room, LAYOUT_RAM + INITRD_WINDOW - LAYOUT_KERNEL) },
		.cmdline_max = COMMAND_LINE_SIZE - 1,
	};
	int64_t len;
	int err;

	if (!room)
		return -E2BIG;
	len = fetch(file, ram, room);
	if (len < 0)
		return (int)len;
	err = place(ram, room, (uint64_t)len, &kernel);
	if (!err)
		*ret_kernel = kernel;
	return err;
}
