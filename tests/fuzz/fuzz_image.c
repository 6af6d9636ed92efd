// SPDX-License-Identifier: Apache-2.0
/*
 * A kernel image for Arm, whatever machine this is. The last byte of the input
 * chooses whether the rest is a file or what is packed in one, as no fuzzer
 * comes by a checksum.
 *
 * Nothing is accessible in front of the kernel's place and behind the end of
 * RAM, so that a stray write ends the run.
 */
#include <zlib.h>
#include <zstd.h>
#include "arch/aarch64/layout.h"
#include "arch/arch.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"

#define ROOM MIB(2)
#define LOW (LAYOUT_KERNEL - LAYOUT_RAM)
#define GUARD KIB(64)
#define INPUT_MAX MIB(1)
#define PACKED_MAX (2 * INPUT_MAX)

struct machine {
	struct mem mem;
	struct boot_file kernel, initrd;
	uint8_t packed[PACKED_MAX];
};

static struct machine *machine_new(void)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	uint8_t *ram = mmap(NULL, LOW + ROOM + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	assert(machine && ram != MAP_FAILED);
	err = mprotect(ram + LOW, ROOM, PROT_READ | PROT_WRITE);
	err = err ?: mem_add_at(&machine->mem, LAYOUT_RAM, LOW + ROOM, ram);
	assert(!err);
	fuzz_file_init(&machine->kernel);
	fuzz_file_init(&machine->initrd);
	return machine;
}

static size_t pack_gzip(struct machine *machine, const uint8_t *data, size_t len)
{
	z_stream deflater = {
		.next_in = (uint8_t *)data, .avail_in = (uInt)len,
		.next_out = machine->packed, .avail_out = (uInt)PACKED_MAX,
	};
	int rc = deflateInit2(&deflater, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);

	assert(rc == Z_OK);
	rc = deflate(&deflater, Z_FINISH);
	assert(rc == Z_STREAM_END);
	deflateEnd(&deflater);
	return deflater.total_out;
}

static void set_kernel(struct machine *machine, const uint8_t *data, size_t len, uint8_t choice)
{
	size_t packed;

	if (choice % 4 == 1)
		packed = pack_gzip(machine, data, len);
	else if (choice % 4 == 2)
		packed = ZSTD_compress(machine->packed, PACKED_MAX, data, len, 1);
	else
		return fuzz_file_set(&machine->kernel, data, len, len);
	assert(packed <= PACKED_MAX);
	fuzz_file_set(&machine->kernel, machine->packed, packed, packed);
}

static void load_initrd(struct machine *machine, const struct boot_kernel *kernel, uint8_t choice)
{
	uint64_t gpa, end;
	int err;

	fuzz_file_set(&machine->initrd, &choice, 1, (size_t)choice * KIB(8) + 1);
	err = boot_load_initrd(&machine->initrd, &machine->mem, kernel, &gpa);
	if (err) {
		assert(err == -E2BIG);
		return;
	}
	end = gpa + machine->initrd.size;
	assert(gpa >= LAYOUT_KERNEL && end <= LAYOUT_KERNEL + ROOM);
	assert(end <= kernel->base || gpa >= kernel->end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine *machine;
	struct boot_kernel kernel;
	uint8_t choice;
	int err;

	if (!machine)
		machine = machine_new();
	if (size < 2 || size > INPUT_MAX)
		return -1;
	choice = data[--size];
	set_kernel(machine, data, size, choice);
	err = arch_load_kernel(&machine->kernel, &machine->mem, &kernel);
	if (err) {
		assert(err == -ENOEXEC || err == -EBADMSG || err == -ENOTSUP || err == -ENOPKG ||
		       err == -E2BIG);
		return 0;
	}
	assert(kernel.base >= LAYOUT_KERNEL && kernel.end <= LAYOUT_KERNEL + ROOM);
	assert(kernel.entry >= kernel.base && kernel.entry < kernel.end);
	load_initrd(machine, &kernel, choice);
	return 0;
}
