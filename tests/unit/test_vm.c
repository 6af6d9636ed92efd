// SPDX-License-Identifier: Apache-2.0
/* A whole run, by a careless caller. The guest powers off with its first instructions. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "devices/classes.h"
#include "tests/lib/child.h"
#include "tests/unit/power_off.h"
#include "vmm/config.h"
#include "vmm/vm.h"

struct place {
	char dir[32], kernel[64], other[64];
};

static int set_up(void **state)
{
	struct place *place = test_calloc(1, sizeof(*place));
	int fd;

	strcpy(place->dir, "/tmp/vm.XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->kernel, sizeof(place->kernel), "%s/kernel", place->dir);
	snprintf(place->other, sizeof(place->other), "%s/other", place->dir);
	fd = open(place->kernel, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, power_off_kernel, power_off_kernel_len), power_off_kernel_len);
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
	_cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
		return;
	print_message("skipped: there is no KVM\n");
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

static int run_with_a_pidfile(void *arg)
{
	const struct place *place = arg;

	return run(place->kernel, "--pidfile", place->other);
}

static void a_device_is_not_removed(void **state)
{
	struct place *place = *state;

	need_kvm();
	if (mknod(place->other, S_IFCHR | 0600, makedev(1, 3)) < 0) {
		print_message("skipped: mknod: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(child_run(geteuid(), run_with_a_pidfile, place).status, EXIT_SUCCESS);
	assert_int_equal(access(place->other, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(closed_streams_stay_nobodys),
		cmocka_unit_test(nobody_reads_the_log),
		cmocka_unit_test_setup_teardown(a_fifo_is_not_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_device_is_not_removed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_limit_on_files_is_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
