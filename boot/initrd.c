// SPDX-License-Identifier: Apache-2.0
#include "boot/image.h"

#define PAGE 4096ULL

/* Places len bytes right below top, if that is above floor. */
static bool place_below(uint64_t top, uint64_t floor, uint64_t len, uint64_t *ret_gpa)
{
	uint64_t gpa;

	if (top < floor || len > top - floor)
		return false;
	gpa = (top - len) & ~(PAGE - 1);
	if (gpa < floor)
		return false;
	*ret_gpa = gpa;
	return true;
}

int boot_load_initrd(const struct boot_file *file, const struct mem *mem,
		     const struct boot_kernel *kernel, uint64_t *ret_gpa)
{
	uint64_t top = boot_ram_end(mem), gpa;
	int err;

	if (kernel->initrd_max < top)
		top = kernel->initrd_max + 1;
	if (!place_below(top, kernel->end, file->size, &gpa) &&
	    !place_below(util_min(top, kernel->base), BOOT_RAM_BASE, file->size, &gpa))
		return -E2BIG;
	err = boot_file_read(file, 0, mem_ptr(mem, gpa, file->size), file->size);
	if (!err)
		*ret_gpa = gpa;
	return err;
}
