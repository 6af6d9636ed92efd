// SPDX-License-Identifier: Apache-2.0
#include "boot/boot.h"

#define PAGE 4096ULL

const struct hint boot_initrd_hints[] = {
	BOOT_FILE_HINTS,
	{ EBADMSG, "the file became shorter while it was read" },
	{ E2BIG, "no room beside the kernel in the memory that it can take an initrd from: give the "
		 "guest more, or make it smaller" },
	{ 0 }
};

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
	uint64_t bottom = kernel->initrd_room.gpa, top = bottom + kernel->initrd_room.len, gpa;
	void *to;
	int err;

	if (!place_below(top, util_max(bottom, kernel->end), file->size, &gpa) &&
	    !place_below(util_min(top, kernel->base), bottom, file->size, &gpa))
		return -E2BIG;
	to = mem_ptr(mem, gpa, file->size);
	if (!to)
		return -E2BIG;
	err = boot_file_read(file, 0, to, file->size);
	if (!err)
		*ret_gpa = gpa;
	return err;
}
