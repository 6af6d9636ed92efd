// SPDX-License-Identifier: Apache-2.0
/* A whole run, by a careless caller. The guest powers off with its first instructions. */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "devices/classes.h"
#include "tests/lib/child.h"
#include "vmm/config.h"
#include "vmm/vm.h"

#define CODE_GPA 0x200000
#define XEN_ELFNOTE_PHYS32_ENTRY 18

struct place {
	char dir[32], kernel[64], other[64];
};

static int set_up(void **state)
{
	static const struct {
		Elf64_Ehdr header;
		Elf64_Phdr segments[2];
		struct {
			Elf64_Nhdr header;
			char name[4];
			uint32_t entry;
		} note;
		uint8_t code[9];
	} kernel = {
		.header = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_phoff = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
		.segments = {
			{ .p_type = PT_LOAD, .p_paddr = CODE_GPA, .p_offset = offsetof(typeof(kernel), code),
			  .p_filesz = sizeof(kernel.code), .p_memsz = sizeof(kernel.code) },
			{ .p_type = PT_NOTE, .p_offset = offsetof(typeof(kernel), note),
			  .p_filesz = sizeof(kernel.note) },
		},
		.note = { { 4, 4, XEN_ELFNOTE_PHYS32_ENTRY }, "Xen", CODE_GPA },
		/* mov $0x600, %dx; mov $0x34, %al; out %al, %dx; jmp . */
		.code = { 0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xeb, 0xfe },
	};
	struct place *place = test_calloc(1, sizeof(*place));
	int fd;

	strcpy(place->dir, "/tmp/vm.XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->kernel, sizeof(place->kernel), "%s/kernel", place->dir);
	snprintf(place->other, sizeof(place->other), "%s/other", place->dir);
	fd = open(place->kernel, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, &kernel, sizeof(kernel)), sizeof(kernel));
	close(fd);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;

	unlink(place->kernel);
	unlink(place->other);
	rmdir(place->dir);
	test_free(place);
	return 0;
}

/* Without a console, which would see to some of it. */
static int run(const char *kernel, const char *option, const char *value)
{
	const char *const argv[] = { "microvm", "--kernel", kernel, "--memory", "16M", "--console",
				     "none", "--rng", "none", option, value };
	int argc = ARRAY_SIZE(argv) - (option ? 0 : 2);
	struct config config;
	struct opt_error error;

	CHILD_CHECK(config_parse(&config, virtio_classes, argc, (char *const *)argv, &error) == 0);
	return vm_run(&config);
}

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return;
	print_message("skipped: /dev/kvm cannot be opened\n");
	skip();
}

static int run_without_streams(void *arg)
{
	struct stat st;

	(void)arg;
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	/* Its files must have had other numbers: these are still open, on nothing. */
	CHILD_CHECK(run("/nowhere", NULL, NULL) == EXIT_FAILURE);
	for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
		CHILD_CHECK(fstat(fd, &st) == 0 && st.st_rdev == makedev(1, 3));
	return 0;
}

static void closed_streams_stay_nobodys(void **state)
{
	(void)state;
	child_succeeds(geteuid(), run_without_streams, NULL);
}

static int run_with_a_broken_pipe(void *arg)
{
	int pipes[2];

	(void)arg;
	CHILD_CHECK(pipe(pipes) == 0 && close(pipes[0]) == 0);
	dup2(pipes[1], STDERR_FILENO);
	return run("/nowhere", NULL, NULL);
}

static void nobody_reads_the_log(void **state)
{
	struct child child = child_run(geteuid(), run_with_a_broken_pipe, NULL);

	(void)state;
	assert_int_equal(child.status, EXIT_FAILURE);
}

static int run_with_a_summary(void *arg)
{
	const struct place *place = arg;

	return run(place->kernel, "--summary", place->other);
}

static void a_fifo_is_not_waited_for(void **state)
{
	struct place *place = *state;
	struct child child;

	need_kvm();
	assert_int_equal(mkfifo(place->other, 0600), 0);
	child = child_run(geteuid(), run_with_a_summary, place);
	assert_int_equal(child.status, EXIT_FAILURE);
	assert_non_null(strstr(child.text, "--summary"));
}

static int run_without_room(void *arg)
{
	const struct rlimit none = { 0 };

	CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
	return run_with_a_summary(arg);
}

/* The guest's status counts, whatever becomes of the summary. */
static void a_limit_on_files_is_told(void **state)
{
	struct child child;

	need_kvm();
	child = child_run(geteuid(), run_without_room, *state);
	assert_int_equal(child.status, EXIT_SUCCESS);
	assert_non_null(strstr(child.text, "--summary"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(closed_streams_stay_nobodys),
		cmocka_unit_test(nobody_reads_the_log),
		cmocka_unit_test_setup_teardown(a_fifo_is_not_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_limit_on_files_is_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
