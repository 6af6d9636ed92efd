// SPDX-License-Identifier: Apache-2.0
/* What every kernel's start has in common: its files, the place of its initrd, and its command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/mman.h>
#include "arch/arch.h"

#define RAM_SIZE MIB(8)

struct fixture {
	struct mem mem;
	uint8_t *ram;
	struct boot_file file;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	f->file.fd = memfd_create("initrd", MFD_CLOEXEC);
	if (f->file.fd < 0 || mem_add(&f->mem, 0, RAM_SIZE, &(struct mem_backing){ 0 }) < 0)
		return -1;
	f->ram = f->mem.regions[0].hva;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

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

static void files_are_opened_or_explained(void **state)
{
	struct fixture *f = *state;
	struct boot_file file = { 0 };
	char path[64];

	boot_file_close(&file);
	assert_int_equal(boot_file_open(&file, "/nowhere/vmlinux"), -ENOENT);
	assert_int_equal(boot_file_open(&file, "/proc"), -EISDIR);
	assert_int_equal(boot_file_open(&file, "/dev/null"), -EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->file.fd);
	assert_int_equal(boot_file_open(&file, path), -ENODATA);
	boot_file_close(&file);

	set_file(f, "abc", 3);
	assert_int_equal(boot_file_open(&file, path), 0);
	assert_int_equal(file.size, 3);
	boot_file_close(&file);
	boot_file_close(&file);
}

static void a_read_is_whole_or_refused(void **state)
{
	struct fixture *f = *state;
	char buffer[4] = "";

	set_file(f, "abc", 3);
	assert_int_equal(boot_file_read(&f->file, 1, buffer, 2), 0);
	assert_string_equal(buffer, "bc");
	assert_int_equal(boot_file_read(&f->file, 3, buffer, 0), 0);
	assert_int_equal(boot_file_read(&f->file, 1, buffer, 3), -EBADMSG);
	assert_int_equal(boot_file_read(&f->file, 3, buffer, 1), -EBADMSG);
	assert_int_equal(boot_file_read(&f->file, UINT64_MAX, buffer, 2), -EBADMSG);
	/* It became shorter. */
	assert_int_equal(ftruncate(f->file.fd, 2), 0);
	assert_int_equal(boot_file_read(&f->file, 0, buffer, 3), -EBADMSG);
}

static void initrd_is_high_and_clear(void **state)
{
	struct fixture *f = *state;
	struct boot_kernel kernel = {
		.base = MIB(2), .end = MIB(4) + 1, .initrd_room = { MIB(1), RAM_SIZE - MIB(1) },
	};
	uint8_t *content = malloc(MIB(4));
	uint64_t gpa = 0;

	assert_non_null(content);
	memset(content, 0x1d, MIB(4));
	set_file(f, content, 5000);
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &kernel, &gpa), 0);
	assert_int_equal(gpa, RAM_SIZE - 8192);
	assert_memory_equal(f->ram + gpa, content, 5000);
	assert_int_equal(f->ram[gpa - 1], 0);
	assert_int_equal(f->ram[gpa + 5000], 0);

	kernel.initrd_room.len = 0x700000 - MIB(1);
	set_file(f, content, 4096);
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &kernel, &gpa), 0);
	assert_int_equal(gpa, 0x6ff000);
	kernel.initrd_room.len--;
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &kernel, &gpa), 0);
	assert_int_equal(gpa, 0x6fe000);

	/* No room above the kernel, but below it. */
	kernel.initrd_room.len = kernel.end + 100 - MIB(1);
	set_file(f, content, MIB(1));
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &kernel, &gpa), 0);
	assert_int_equal(gpa, MIB(1));

	kernel.initrd_room.len = RAM_SIZE - MIB(1);
	set_file(f, content, MIB(4));
	gpa = 12345;
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &kernel, &gpa), -E2BIG);
	assert_int_equal(gpa, 12345);
	free(content);
}

static void an_initrd_that_shrinks_is_refused(void **state)
{
	const struct boot_kernel kernel = {
		.base = MIB(1), .end = MIB(2), .initrd_room = { MIB(1), MIB(4) },
	};
	struct fixture *f = *state;
	uint64_t gpa = 12345;

	set_file(f, "an initrd", 9);
	assert_int_equal(ftruncate(f->file.fd, 8), 0);
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &kernel, &gpa), -EBADMSG);
	assert_int_equal(gpa, 12345);
}

/* What claims to be room is not always RAM. */
static void an_initrd_lies_in_ram(void **state)
{
	const struct boot_kernel beyond = {
		.base = MIB(1), .end = MIB(2), .initrd_room = { MIB(1), RAM_SIZE },
	};
	struct fixture *f = *state;
	uint64_t gpa = 12345;

	set_file(f, "an initrd", 9);
	assert_int_equal(boot_load_initrd(&f->file, &f->mem, &beyond, &gpa), -E2BIG);
	assert_int_equal(gpa, 12345);
}

static void command_line_grows_by_words(void **state)
{
	struct boot_cmdline cmdline = { 0 };
	char word[2048];

	(void)state;
	assert_int_equal(boot_cmdline_add(&cmdline, "%s", ""), 0);
	assert_int_equal(boot_cmdline_add(&cmdline, "console=%s", "hvc0"), 0);
	assert_int_equal(boot_cmdline_add(&cmdline, "%s", ""), 0);
	assert_int_equal(boot_cmdline_add(&cmdline, "panic=%d quiet", -1), 0);
	assert_string_equal(cmdline.text, "console=hvc0 panic=-1 quiet");
	assert_int_equal(cmdline.len, strlen(cmdline.text));

	memset(word, 'w', sizeof(word));
	word[sizeof(cmdline.text) - cmdline.len - 1] = '\0';
	assert_int_equal(boot_cmdline_add(&cmdline, "%s", word), -E2BIG);
	assert_string_equal(cmdline.text, "console=hvc0 panic=-1 quiet");
	word[sizeof(cmdline.text) - cmdline.len - 2] = '\0';
	assert_int_equal(boot_cmdline_add(&cmdline, "%s", word), 0);
	assert_int_equal(cmdline.len, sizeof(cmdline.text) - 1);
	assert_int_equal(boot_cmdline_add(&cmdline, "x"), -E2BIG);
	assert_int_equal(strlen(cmdline.text), sizeof(cmdline.text) - 1);
}

static void every_error_has_its_hint(void **state)
{
	static const int kernel[] = { ENODATA, EISDIR, EINVAL, ENOEXEC, EBADMSG, ENOTSUP, E2BIG };
	static const int initrd[] = { ENODATA, EISDIR, EINVAL, EBADMSG, E2BIG };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel); i++)
		assert_string_not_equal(hint_find(arch_kernel_hints, kernel[i]),
					strerror(kernel[i]));
	for (size_t i = 0; i < ARRAY_SIZE(initrd); i++)
		assert_string_not_equal(hint_find(boot_initrd_hints, initrd[i]),
					strerror(initrd[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_are_opened_or_explained, setup, teardown),
		cmocka_unit_test_setup_teardown(a_read_is_whole_or_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(initrd_is_high_and_clear, setup, teardown),
		cmocka_unit_test_setup_teardown(an_initrd_that_shrinks_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_initrd_lies_in_ram, setup, teardown),
		cmocka_unit_test(command_line_grows_by_words),
		cmocka_unit_test(every_error_has_its_hint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
