// SPDX-License-Identifier: Apache-2.0
/* A bzImage by its 64-bit entry (Linux, Documentation/arch/x86/boot.rst). */
#include <asm/bootparam.h>
#include <assert.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/layout.h"

#define HEADER_OFFSET 0x1f1
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
#define HEADER_VERSION 0x020c   /* the first with xloadflags */
#define BOOT_FLAG 0xaa55
#define SECTOR UINT64_C(512)
#define ENTRY_64 0x200

static_assert(offsetof(struct boot_params, hdr) == HEADER_OFFSET, "ABI");
static_assert(sizeof(struct setup_header) <= sizeof(((struct boot_kernel *)0)->header),
	      "the header as Linux has it fits");

static int read_header(const struct boot_file *file, struct boot_kernel *kernel,
		       struct setup_header *header)
{
	size_t len;

	if (boot_file_read(file, HEADER_OFFSET, header,
			   offsetof(struct setup_header, realmode_swtch)) ||
	    header->boot_flag != BOOT_FLAG || header->header != HEADER_MAGIC)
		return -ENOEXEC;
	if (header->version < HEADER_VERSION)
		return -ENOTSUP;
	/* The header ends where the short jump at its beginning leads. */
	len = offsetof(struct setup_header, header) + (header->jump >> 8);
	if (len < offsetof(struct setup_header, handover_offset) ||
	    len > sizeof(kernel->header) ||
	    boot_file_read(file, HEADER_OFFSET, kernel->header, len))
		return -EBADMSG;
	memcpy(header, kernel->header, util_min(len, sizeof(*header)));
	kernel->header_len = len;
	return 0;
}

int kernel_load_bzimage(const struct boot_file *file, const struct mem *mem,
			struct boot_kernel *ret_kernel)
{
	struct boot_kernel kernel = { .protocol = KERNEL_LINUX64 };
	struct setup_header header = { 0 };
	uint64_t code, code_len;
	int err;

	err = read_header(file, &kernel, &header);
	if (err)
		return err;
	if (!(header.loadflags & LOADED_HIGH) || !(header.xloadflags & XLF_KERNEL_64))
		return -ENOTSUP;
	code = ((header.setup_sects ? header.setup_sects : 4) + 1) * SECTOR;
	code_len = (uint64_t)header.syssize * 16;
	if (!util_within(code, code_len, file->size) || code_len <= ENTRY_64 ||
	    header.init_size < code_len)
		return -EBADMSG;
	/*
	 * Where pref_address is not free there is no other place, even for a relocatable kernel:
	 * Linux never unpacks itself below it.
	 */
	if (header.pref_address < LAYOUT_KERNEL ||
	    !util_within(header.pref_address, header.init_size, kernel_ram_end(mem)))
		return -E2BIG;
	err = boot_file_read(file, code, mem_ptr(mem, header.pref_address, code_len), code_len);
	if (err)
		return err;
	kernel.base = header.pref_address;
	kernel.end = kernel.base + header.init_size;
	kernel.entry = kernel.base + ENTRY_64;
	kernel.initrd_room = kernel_initrd_room(mem, header.initrd_addr_max);
	kernel.cmdline_max = header.cmdline_size;
	*ret_kernel = kernel;
	return 0;
}
