// SPDX-License-Identifier: Apache-2.0
/*
 * The boot loaders with images made here: right ones, truncated ones, damaged
 * ones. Guest memory lies between guard pages, and what loaders must not touch
 * is without access, so that a stray write ends the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/bootparam.h>
#include <elf.h>
#include <sys/mman.h>
#include "arch/x86_64/kernel.h"

#define RAM_SIZE MIB(8)
#define GUARD KIB(64)
#define MUTATIONS 20000

#define TEXT_GPA 0x200000
#define DATA_GPA 0x210000
#define ENTRY_OFFSET 0x50

/* Guest memory with guards, and a file whose content a test writes. */
struct fixture {
	struct mem mem;
	uint8_t *mapping, *ram;
	struct boot_file file;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	f->file.fd = memfd_create("image", MFD_CLOEXEC);
	f->mapping = mmap(NULL, RAM_SIZE + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	if (f->file.fd < 0 || f->mapping == MAP_FAILED)
		return -1;
	f->ram = f->mapping + GUARD;
	if (mprotect(f->ram, RAM_SIZE, PROT_READ | PROT_WRITE) < 0)
		return -1;
	return mem_add_at(&f->mem, 0, RAM_SIZE, f->ram);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	munmap(f->mapping, RAM_SIZE + 2 * GUARD);
	mem_free(&f->mem);
	close(f->file.fd);
	free(f);
	return 0;
}

static void set_file(struct fixture *f, const void *content, size_t len)
{
	assert_int_equal(ftruncate(f->file.fd, 0), 0);
	assert_int_equal(pwrite(f->file.fd, content, len, 0), len);
	f->file.size = len;
}

/* A vmlinux: text, data with bss, and the notes within text, the entry's after another. */
struct note {
	Elf64_Nhdr header;
	char name[4];
	uint64_t desc;
};

struct vmlinux {
	Elf64_Ehdr header;
	Elf64_Phdr text, data, notes;
	struct note other, entry;
	uint8_t code[256], values[128];
};

#define BSS 5000

static struct vmlinux make_vmlinux(void)
{
	struct vmlinux v = {
		.header = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				     EV_CURRENT },
			.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
			.e_phoff = offsetof(struct vmlinux, text),
			.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3,
			.e_ehsize = sizeof(Elf64_Ehdr),
		},
		.text = { .p_type = PT_LOAD, .p_offset = offsetof(struct vmlinux, code),
			  .p_vaddr = 0xffffffff81000000, .p_paddr = TEXT_GPA,
			  .p_filesz = 256, .p_memsz = 256 },
		.data = { .p_type = PT_LOAD, .p_offset = offsetof(struct vmlinux, values),
			  .p_paddr = DATA_GPA, .p_filesz = 128, .p_memsz = 128 + BSS },
		.notes = { .p_type = PT_NOTE, .p_offset = offsetof(struct vmlinux, other),
			   .p_filesz = 2 * sizeof(struct note), .p_align = 4 },
		.other = { { 4, 8, 17 }, "Xen", 0 },
		.entry = { { 4, 8, 18 }, "Xen", TEXT_GPA + ENTRY_OFFSET },
	};

	memset(v.code, 0xc0, sizeof(v.code));
	memset(v.values, 0xda, sizeof(v.values));
	return v;
}

#define SETUP_SECTS 2
#define CODE_LEN 0x1000
#define INIT_SIZE 0x8000

struct bzimage {
	uint8_t setup[(SETUP_SECTS + 1) * 512];
	uint8_t code[CODE_LEN];
};

static struct setup_header *header_of(struct bzimage *b)
{
	return (struct setup_header *)(b->setup + 0x1f1);
}

static struct bzimage make_bzimage(void)
{
	struct bzimage b = { 0 };

	*header_of(&b) = (struct setup_header){
		.setup_sects = SETUP_SECTS, .syssize = CODE_LEN / 16, .boot_flag = 0xaa55,
		.jump = 0x6aeb, .header = 0x53726448, .version = 0x20f, .loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff, .kernel_alignment = 0x200000,
		.relocatable_kernel = 1, .xloadflags = XLF_KERNEL_64, .cmdline_size = 2047,
		.setup_data = 0x1234, .pref_address = TEXT_GPA, .init_size = INIT_SIZE,
		.handover_offset = 0x77,
	};
	memset(b.code, 0xbc, sizeof(b.code));
	return b;
}

static int load_vmlinux(struct fixture *f, const struct vmlinux *v, struct boot_kernel *kernel)
{
	set_file(f, v, sizeof(*v));
	return arch_load_kernel(&f->file, &f->mem, kernel);
}

static int load_bzimage(struct fixture *f, const struct bzimage *b, struct boot_kernel *kernel)
{
	set_file(f, b, sizeof(*b));
	return arch_load_kernel(&f->file, &f->mem, kernel);
}

/* The kinds of error that the header promises. */
static bool documented(int err)
{
	return err == -ENOEXEC || err == -EBADMSG || err == -ENOTSUP || err == -E2BIG;
}

static void vmlinux_is_loaded(void **state)
{
	struct fixture *f = *state;
	struct vmlinux v = make_vmlinux();
	struct boot_kernel kernel;

	memset(f->ram, 0xee, RAM_SIZE);
	assert_int_equal(load_vmlinux(f, &v, &kernel), 0);
	assert_int_equal(kernel.protocol, KERNEL_PVH);
	assert_int_equal(kernel.entry, TEXT_GPA + ENTRY_OFFSET);
	assert_int_equal(kernel.base, TEXT_GPA);
	assert_int_equal(kernel.end, DATA_GPA + 128 + BSS);
	assert_memory_equal(f->ram + TEXT_GPA, v.code, sizeof(v.code));
	assert_int_equal(f->ram[TEXT_GPA + sizeof(v.code)], 0xee);
	assert_memory_equal(f->ram + DATA_GPA, v.values, sizeof(v.values));
	for (size_t i = 0; i < BSS; i++)
		assert_int_equal(f->ram[DATA_GPA + 128 + i], 0);
	assert_int_equal(f->ram[DATA_GPA + 128 + BSS], 0xee);
}

static void notes_may_be_aligned_to_eight(void **state)
{
	struct fixture *f = *state;
	struct vmlinux v = make_vmlinux();
	struct boot_kernel kernel;

	/* "Linux" ends at 18 of 24 bytes; the entry has four bytes here. */
	uint8_t notes[] = { 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'L', 'i', 'n', 'u', 'x', 0,
			    0, 0, 0, 0, 0, 0,
			    4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0,
			    0x10, 0, 0x20, 0 };

	memcpy(&v.other, notes, sizeof(notes));
	v.notes.p_filesz = sizeof(notes);
	v.notes.p_align = 8;
	assert_int_equal(load_vmlinux(f, &v, &kernel), 0);
	assert_int_equal(kernel.entry, 0x200010);
}

static void elf_headers_must_make_sense(void **state)
{
	struct fixture *f = *state;
	const struct vmlinux good = make_vmlinux();
	struct boot_kernel kernel = { .end = 12345 };

#define EXPECT(err, change) \
	do { \
		struct vmlinux v = good; \
		change; \
		assert_int_equal(load_vmlinux(f, &v, &kernel), -(err)); \
	} while (0)

	EXPECT(ENOEXEC, v.header.e_ident[0] = 'M');
	EXPECT(ENOTSUP, v.header.e_ident[EI_CLASS] = ELFCLASS32);
	EXPECT(ENOTSUP, v.header.e_ident[EI_DATA] = ELFDATA2MSB);
	EXPECT(ENOTSUP, v.header.e_machine = EM_AARCH64);
	EXPECT(EBADMSG, v.header.e_type = ET_REL);
	EXPECT(EBADMSG, v.header.e_phentsize = 32);
	EXPECT(EBADMSG, v.header.e_phnum = 0xffff);
	EXPECT(EBADMSG, v.header.e_phoff = UINT64_MAX - 8);
	EXPECT(EBADMSG, v.text.p_filesz = 257);
	EXPECT(EBADMSG, v.text.p_offset = UINT64_MAX);
	EXPECT(EBADMSG, v.data.p_paddr = TEXT_GPA + 255);
	EXPECT(EBADMSG, v.data.p_paddr = TEXT_GPA - 128);
	EXPECT(E2BIG, v.data.p_paddr = RAM_SIZE - 128);
	EXPECT(E2BIG, v.data.p_paddr = UINT64_MAX - 64);
	EXPECT(E2BIG, v.data.p_memsz = UINT64_MAX);
	EXPECT(E2BIG, v.text.p_paddr = 0xff000);
	EXPECT(ENOTSUP, v.entry.header.n_type = 6);
	EXPECT(ENOTSUP, memcpy(v.entry.name, "GNU", 4));
	EXPECT(ENOTSUP, v.notes.p_type = PT_NULL);
	EXPECT(EBADMSG, v.entry.header.n_descsz = 2);
	EXPECT(EBADMSG, v.entry.header.n_descsz = UINT32_MAX);
	EXPECT(EBADMSG, v.other.header.n_namesz = UINT32_MAX);
	EXPECT(EBADMSG, v.notes.p_filesz = UINT64_MAX);
	EXPECT(EBADMSG, v.entry.desc = TEXT_GPA - 1);
	EXPECT(EBADMSG, v.entry.desc = DATA_GPA + 128 + BSS);
#undef EXPECT
	assert_int_equal(kernel.end, 12345);
}

static void bzimage_is_loaded(void **state)
{
	struct fixture *f = *state;
	struct bzimage b = make_bzimage();
	struct boot_kernel kernel;

	assert_int_equal(load_bzimage(f, &b, &kernel), 0);
	assert_int_equal(kernel.protocol, KERNEL_LINUX64);
	assert_int_equal(kernel.entry, TEXT_GPA + 0x200);
	assert_int_equal(kernel.base, TEXT_GPA);
	assert_int_equal(kernel.end, TEXT_GPA + INIT_SIZE);
	assert_int_equal(kernel.initrd_room.gpa + kernel.initrd_room.len, RAM_SIZE);
	assert_int_equal(kernel.cmdline_max, 2047);
	assert_int_equal(kernel.header_len, 0x202 + 0x6a - 0x1f1);
	assert_memory_equal(kernel.header, header_of(&b), kernel.header_len);
	assert_memory_equal(f->ram + TEXT_GPA, b.code, sizeof(b.code));
	assert_int_equal(f->ram[TEXT_GPA + CODE_LEN], 0);
}

static void bzimage_headers_must_make_sense(void **state)
{
	struct fixture *f = *state;
	const struct bzimage good = make_bzimage();
	struct boot_kernel kernel = { .end = 12345 };

#define EXPECT(err, change) \
	do { \
		struct bzimage b = good; \
		struct setup_header *h = header_of(&b); \
		change; \
		assert_int_equal(load_bzimage(f, &b, &kernel), -(err)); \
	} while (0)

	EXPECT(ENOEXEC, h->boot_flag = 0);
	EXPECT(ENOEXEC, h->header++);
	EXPECT(ENOTSUP, h->version = 0x20b);
	EXPECT(ENOTSUP, h->xloadflags = 0);
	EXPECT(ENOTSUP, h->loadflags = 0);
	EXPECT(EBADMSG, h->jump = 0x10eb);
	EXPECT(EBADMSG, h->jump = 0xffeb);
	EXPECT(EBADMSG, h->syssize++);
	EXPECT(EBADMSG, h->syssize = UINT32_MAX);
	EXPECT(EBADMSG, h->syssize = 0);
	EXPECT(EBADMSG, h->setup_sects = 255);
	EXPECT(EBADMSG, h->init_size = CODE_LEN - 1);
	EXPECT(E2BIG, h->init_size = UINT32_MAX);
	EXPECT(E2BIG, h->pref_address = UINT64_MAX - 0x1000);
	EXPECT(E2BIG, h->pref_address = RAM_SIZE - INIT_SIZE + 1);
	EXPECT(E2BIG, h->pref_address = 0x10000);
#undef EXPECT
	assert_int_equal(kernel.end, 12345);
}

static void truncation_at_every_length(void **state)
{
	struct fixture *f = *state;
	struct vmlinux v = make_vmlinux();
	struct bzimage b = make_bzimage();
	struct boot_kernel kernel;

	assert_int_equal(mprotect(f->ram, MIB(1), PROT_NONE), 0);
	for (size_t len = 1; len < sizeof(v); len++) {
		set_file(f, &v, len);
		assert_true(documented(arch_load_kernel(&f->file, &f->mem, &kernel)));
	}
	for (size_t len = 1; len < sizeof(b); len++) {
		set_file(f, &b, len);
		assert_true(documented(arch_load_kernel(&f->file, &f->mem, &kernel)));
	}
	/* A file that became shorter after it was opened. */
	set_file(f, &b, sizeof(b));
	assert_int_equal(ftruncate(f->file.fd, sizeof(b) - 1), 0);
	assert_int_equal(arch_load_kernel(&f->file, &f->mem, &kernel), -EBADMSG);
}

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)(*seed >> 33);
}

/* A byte likely to matter: the ends of ranges, a single bit, or any. */
static uint8_t damage(uint8_t byte, uint64_t *seed)
{
	static const uint8_t edges[] = { 0x00, 0xff, 0x7f, 0x80, 0x01, 0xf0 };
	uint32_t r = next_random(seed);

	if (r % 3 == 0)
		return edges[(r >> 8) % sizeof(edges)];
	if (r % 3 == 1)
		return (uint8_t)(byte ^ 1u << (r >> 8 & 7));
	return (uint8_t)(r >> 8);
}

/* Loads copies of image with some bytes between start and end damaged; returns how many loaded. */
static unsigned int mutate(struct fixture *f, const void *image, size_t len, size_t start,
			   size_t end)
{
	uint8_t *copy = malloc(len);
	unsigned int loaded = 0;
	uint64_t seed = len;

	assert_non_null(copy);
	assert_int_equal(mprotect(f->ram, MIB(1), PROT_NONE), 0);
	for (unsigned int i = 0; i < MUTATIONS; i++) {
		struct boot_kernel kernel;
		uint64_t gpa;
		int err;

		memcpy(copy, image, len);
		for (uint32_t n = 1 + next_random(&seed) % 4; n; n--) {
			size_t at = start + next_random(&seed) % (end - start);

			copy[at] = damage(copy[at], &seed);
		}
		set_file(f, copy, len);
		err = arch_load_kernel(&f->file, &f->mem, &kernel);
		assert_true(!err || documented(err));
		if (err)
			continue;
		loaded++;
		assert_true(kernel.base >= MIB(1) && kernel.end <= RAM_SIZE);
		assert_true(kernel.entry >= kernel.base && kernel.entry < kernel.end);
		err = boot_load_initrd(&f->file, &f->mem, &kernel, &gpa);
		assert_true(!err || err == -E2BIG);
	}
	free(copy);
	return loaded;
}

static void damaged_images(void **state)
{
	struct fixture *f = *state;
	struct vmlinux v = make_vmlinux();
	struct bzimage b = make_bzimage();
	unsigned int loaded;

	loaded = mutate(f, &v, sizeof(v), 0, offsetof(struct vmlinux, code));
	assert_in_range(loaded, 1, MUTATIONS - 1);
	loaded = mutate(f, &b, sizeof(b), 0x1f1, 0x270);
	assert_in_range(loaded, 1, MUTATIONS - 1);
}

static void other_files_are_no_kernels(void **state)
{
	struct fixture *f = *state;
	struct boot_kernel kernel;
	char script[2048] = "#!/bin/sh\n";

	set_file(f, script, sizeof(script));
	assert_int_equal(arch_load_kernel(&f->file, &f->mem, &kernel), -ENOEXEC);
}

/* Guest memory of any size that nothing is written to. */
static void add_ram(struct mem *mem, uint64_t gpa, uint64_t len)
{
	assert_int_equal(mem_add(mem, gpa, len, &(struct mem_backing){ 0 }), 0);
}

#define RSDP 0xe0000

static struct boot_info info_of(const char *cmdline)
{
	return (struct boot_info){
		.cmdline = cmdline, .initrd_gpa = 0x7000000, .initrd_len = 0x1234,
	};
}

struct map_entry {
	uint64_t gpa, len;
	uint32_t type;
};

static const struct map_entry small_map[] = {
	{ 0, 0x9f000, 1 }, { 0x9f000, 0x61000, 2 }, { MIB(1), MIB(127), 1 },
};
static const struct map_entry big_map[] = {
	{ 0, 0x9f000, 1 }, { 0x9f000, 0x61000, 2 }, { MIB(1), GIB(3) - MIB(1), 1 },
	{ GIB(4), GIB(2), 1 },
};

static uint64_t get(const uint8_t *data, size_t offset, size_t len)
{
	uint64_t value = 0;

	memcpy(&value, data + offset, len);
	return value;
}

static void check_pvh(const struct mem *mem, const struct map_entry *map, size_t count)
{
	const struct boot_kernel kernel = { .protocol = KERNEL_PVH, .cmdline_max = 2047 };
	struct boot_info info = info_of("console=ttyS0 root=/dev/vda");
	const uint8_t *start, *modules, *entries;
	uint64_t gpa = 0;

	assert_int_equal(kernel_inform(&kernel, mem, &info, RSDP, &gpa), 0);
	assert_in_range(gpa, 0x10000, 0x9f000 - 56);
	start = mem_ptr(mem, gpa, 56);
	assert_int_equal(get(start, 0, 4), 0x336ec578);
	assert_int_equal(get(start, 4, 4), 1);
	assert_int_equal(get(start, 8, 4), 0);
	assert_int_equal(get(start, 12, 4), 1);
	modules = mem_ptr(mem, get(start, 16, 8), 32);
	assert_int_equal(get(modules, 0, 8), 0x7000000);
	assert_int_equal(get(modules, 8, 8), 0x1234);
	assert_string_equal(mem_ptr(mem, get(start, 24, 8), 32), info.cmdline);
	assert_int_equal(get(start, 32, 8), 0xe0000);
	assert_int_equal(get(start, 48, 4), count);
	entries = mem_ptr(mem, get(start, 40, 8), 24 * count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(get(entries, 24 * i, 8), map[i].gpa);
		assert_int_equal(get(entries, 24 * i + 8, 8), map[i].len);
		assert_int_equal(get(entries, 24 * i + 16, 4), map[i].type);
	}
}

static void check_boot_params(const struct mem *mem, const struct boot_kernel *kernel,
			      const struct map_entry *map, size_t count)
{
	struct boot_info info = info_of("quiet");
	const struct boot_params *params;
	uint64_t gpa = 0;

	assert_int_equal(kernel_inform(kernel, mem, &info, RSDP, &gpa), 0);
	assert_in_range(gpa, 0x10000, 0x9f000 - sizeof(*params));
	params = mem_ptr(mem, gpa, sizeof(*params));
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.handover_offset, 0x77);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_int_equal(params->hdr.setup_data, 0);
	assert_int_equal(params->hdr.ramdisk_image, 0x7000000);
	assert_int_equal(params->hdr.ramdisk_size, 0x1234);
	assert_int_equal(params->acpi_rsdp_addr, 0xe0000);
	assert_int_equal(params->sentinel, 0);
	assert_string_equal(mem_ptr(mem, params->hdr.cmd_line_ptr, 16), "quiet");
	assert_int_equal(params->e820_entries, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(params->e820_table[i].addr, map[i].gpa);
		assert_int_equal(params->e820_table[i].size, map[i].len);
		assert_int_equal(params->e820_table[i].type, map[i].type);
	}
}

static void kernels_learn_their_machine(void **state)
{
	struct fixture *f = *state;
	_cleanup_(mem_free) struct mem small = { 0 }, big = { 0 };
	struct bzimage b = make_bzimage();
	struct boot_kernel kernel;

	assert_int_equal(load_bzimage(f, &b, &kernel), 0);
	/* Regions that touch are one entry. */
	add_ram(&small, 0, MIB(64));
	add_ram(&small, MIB(64), MIB(64));
	add_ram(&big, 0, GIB(3));
	add_ram(&big, GIB(4), GIB(2));
	check_pvh(&small, small_map, ARRAY_SIZE(small_map));
	check_pvh(&big, big_map, ARRAY_SIZE(big_map));
	check_boot_params(&small, &kernel, small_map, ARRAY_SIZE(small_map));
	check_boot_params(&big, &kernel, big_map, ARRAY_SIZE(big_map));
}

static void no_initrd_is_no_module(void **state)
{
	struct fixture *f = *state;
	const struct boot_kernel kernel = { .protocol = KERNEL_PVH, .cmdline_max = 2047 };
	struct boot_info info = { .cmdline = "" };
	uint64_t gpa;

	assert_int_equal(kernel_inform(&kernel, &f->mem, &info, RSDP, &gpa), 0);
	assert_int_equal(get(f->ram, gpa + 12, 4), 0);
}

static void a_long_command_line_is_refused(void **state)
{
	struct fixture *f = *state;
	struct boot_kernel kernel = { .protocol = KERNEL_PVH, .cmdline_max = 10 };
	struct boot_info info = info_of("0123456789");
	char *huge = calloc(1, MIB(1));
	uint64_t gpa = 12345;

	assert_non_null(huge);
	assert_int_equal(kernel_inform(&kernel, &f->mem, &info, RSDP, &gpa), 0);
	gpa = 12345;
	info.cmdline = "0123456789a";
	assert_int_equal(kernel_inform(&kernel, &f->mem, &info, RSDP, &gpa), -E2BIG);
	/* A limit that the file claims does not lift ours. */
	memset(huge, 'x', MIB(1) - 1);
	info.cmdline = huge;
	kernel.cmdline_max = UINT32_MAX;
	assert_int_equal(kernel_inform(&kernel, &f->mem, &info, RSDP, &gpa), -E2BIG);
	assert_int_equal(gpa, 12345);
	free(huge);
}

static void a_memory_map_has_an_end(void **state)
{
	const struct boot_kernel kernel = { .protocol = KERNEL_PVH, .cmdline_max = 2047 };
	struct boot_info info = { .cmdline = "" };
	_cleanup_(mem_free) struct mem mem = { 0 };
	static uint8_t page[4096];
	uint64_t gpa = 12345;

	(void)state;
	add_ram(&mem, 0, MIB(2));
	for (uint64_t i = 1; i < 126; i++)
		assert_int_equal(mem_add_at(&mem, MIB(2 * i + 2), sizeof(page), page), 0);
	assert_int_equal(kernel_inform(&kernel, &mem, &info, RSDP, &gpa), 0);
	gpa = 12345;
	assert_int_equal(mem_add_at(&mem, GIB(4), sizeof(page), page), 0);
	assert_int_equal(kernel_inform(&kernel, &mem, &info, RSDP, &gpa), -ENOSPC);
	assert_int_equal(gpa, 12345);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vmlinux_is_loaded, setup, teardown),
		cmocka_unit_test_setup_teardown(notes_may_be_aligned_to_eight, setup, teardown),
		cmocka_unit_test_setup_teardown(elf_headers_must_make_sense, setup, teardown),
		cmocka_unit_test_setup_teardown(bzimage_is_loaded, setup, teardown),
		cmocka_unit_test_setup_teardown(bzimage_headers_must_make_sense, setup, teardown),
		cmocka_unit_test_setup_teardown(truncation_at_every_length, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_images, setup, teardown),
		cmocka_unit_test_setup_teardown(other_files_are_no_kernels, setup, teardown),
		cmocka_unit_test_setup_teardown(kernels_learn_their_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(no_initrd_is_no_module, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_command_line_is_refused, setup, teardown),
		cmocka_unit_test(a_memory_map_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
