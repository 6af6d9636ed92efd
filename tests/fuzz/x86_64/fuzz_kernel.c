// SPDX-License-Identifier: Apache-2.0
/*
 * A kernel image for a PC, and what is told to the kernel besides. The last
 * bytes of the input choose the initrd and the command line, the rest is the
 * image.
 *
 * While images are loaded nothing below 1 MiB is accessible, nor is anything
 * behind the end of RAM, so that a stray write ends the run.
 */
#include "arch/arch.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"

#define RAM_SIZE MIB(4)
#define LOW MIB(1)
#define GUARD KIB(64)
#define INITRD_UNIT 256

struct machine {
	struct mem load, finish; /* the same, but for what lies below LOW */
	struct boot_file kernel, initrd;
};

/* The last bytes of the input. */
struct choice {
	uint16_t initrd_units, cmdline_len;
} __attribute__((packed));

static struct machine *machine_new(void)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	uint8_t *ram = mmap(NULL, RAM_SIZE + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	assert(machine && ram != MAP_FAILED);
	err = mprotect(ram + LOW, RAM_SIZE - LOW, PROT_READ | PROT_WRITE);
	err = err ?: mem_add_at(&machine->load, 0, RAM_SIZE, ram);
	err = err ?: mem_add_at(&machine->finish, LOW, RAM_SIZE - LOW, ram + LOW);
	err = err ?: mem_add(&machine->finish, 0, LOW, &(struct mem_backing){ 0 });
	assert(!err);
	fuzz_file_init(&machine->kernel);
	fuzz_file_init(&machine->initrd);
	return machine;
}

static bool load_initrd(struct machine *machine, const struct boot_kernel *kernel,
			struct boot_info *info)
{
	uint64_t gpa, end;
	int err = boot_load_initrd(&machine->initrd, &machine->load, kernel, &gpa);

	if (err) {
		assert(err == -E2BIG);
		return false;
	}
	end = gpa + machine->initrd.size;
	assert(gpa % 4096 == 0 && gpa >= LOW && end <= RAM_SIZE &&
	       util_within(gpa, machine->initrd.size,
			   kernel->initrd_room.gpa + kernel->initrd_room.len));
	assert(end <= kernel->base || gpa >= kernel->end);
	info->initrd_gpa = gpa;
	info->initrd_len = machine->initrd.size;
	return true;
}

static void finish(struct machine *machine, const struct boot_kernel *kernel,
		   struct boot_info *info, size_t cmdline_len)
{
	const struct arch_devices devices = { .cpus = 1, .pci = true };
	struct arch_entry entry = { 0 };
	_cleanup_free_ char *cmdline = calloc(1, cmdline_len + 1);
	int err;

	assert(cmdline);
	memset(cmdline, 'x', cmdline_len);
	info->cmdline = cmdline;
	err = arch_describe(&devices, &machine->finish, kernel, info, &entry);
	if (cmdline_len > kernel->cmdline_max)
		assert(err == -E2BIG);
	assert(err == -E2BIG || (!err && entry.pc == kernel->entry && entry.info < LOW));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine *machine;
	struct boot_kernel kernel;
	struct boot_info info = { 0 };
	struct choice choice;
	int err;

	if (!machine)
		machine = machine_new();
	if (size <= sizeof(choice))
		return -1;
	size -= sizeof(choice);
	memcpy(&choice, data + size, sizeof(choice));
	fuzz_file_set(&machine->kernel, data, size, size);
	err = arch_load_kernel(&machine->kernel, &machine->load, &kernel);
	if (err) {
		assert(err == -ENOEXEC || err == -EBADMSG || err == -ENOTSUP || err == -E2BIG);
		return 0;
	}
	assert(kernel.base >= LOW && kernel.end <= RAM_SIZE);
	assert(kernel.entry >= kernel.base && kernel.entry < kernel.end);
	if (choice.initrd_units) {
		fuzz_file_set(&machine->initrd, data, 1,
			      (size_t)choice.initrd_units * INITRD_UNIT + 1);
		if (!load_initrd(machine, &kernel, &info))
			return 0;
	}
	finish(machine, &kernel, &info, choice.cmdline_len);
	return 0;
}
