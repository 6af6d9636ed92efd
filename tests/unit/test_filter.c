// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <termios.h>
#include "seccomp/filter.h"
#include "tests/lib/child.h"

#define VIOLATION 103

/* What a confined child does; as who runs the tests and, where that is root, as nobody. */
struct attempt {
	const struct sandbox *sandbox;
	void (*before_exit)(void);
	int (*act)(void);
};

static int confined(void *arg)
{
	const struct attempt *attempt = arg;
	int rc;

	child_needs_filters();
	filter_name_thread("blk0");
	CHILD_CHECK(filter_report_violations(attempt->before_exit) == 0);
	rc = filter_enter(attempt->sandbox);
	errno = -rc;
	CHILD_CHECK(rc == 0);
	return attempt->act();
}

static void permitted(struct attempt attempt)
{
	child_succeeds(geteuid(), confined, &attempt);
	child_succeeds(CHILD_NOBODY, confined, &attempt);
}

/* call: "openat (257)" without the number. */
static void refused(struct attempt attempt, const char *call, long number)
{
	const uid_t uids[] = { geteuid(), CHILD_NOBODY };
	char expected[256];

	snprintf(expected, sizeof(expected),
		 "microvm: thread blk0 was stopped at system call %s (%ld): ", call, number);
	for (size_t i = 0; i < ARRAY_SIZE(uids); i++) {
		struct child child = child_run(uids[i], confined, &attempt);

		child_ended(&child, VIOLATION);
		assert_memory_equal(child.text, expected, strlen(expected));
		assert_ptr_equal(strchr(child.text, '\n'), child.text + strlen(child.text) - 1);
	}
}

static int open_file(void)
{
	return open("/dev/null", O_RDONLY) >= 0 ? 0 : 1;
}

static void what_is_not_listed_is_refused_and_reported(void **state)
{
	(void)state;
	refused((struct attempt){ .act = open_file }, "openat", SYS_openat);
}

/* What chardev_restore() does. */
static void restore_terminal(void)
{
	struct termios settings = { 0 };

	tcsetattr(STDERR_FILENO, TCSANOW, &settings);
	(void)!write(STDERR_FILENO, "restored. ", 10);
}

static void before_exit_runs_first(void **state)
{
	struct attempt attempt = { .act = open_file, .before_exit = restore_terminal };
	struct child child = child_run(geteuid(), confined, &attempt);

	(void)state;
	child_ended(&child, VIOLATION);
	assert_memory_equal(child.text, "restored. microvm: thread blk0", 30);
}

static int make_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}

static int unknown_call(void)
{
	return syscall(100000) == 0 ? 0 : 1;
}

/* Not fork(): around that a sanitizer takes locks that it wants again at exit. */
static int clone_child(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0 ? 0 : 1;
}

static void other_refusals(void **state)
{
	(void)state;
	refused((struct attempt){ .act = make_socket }, "socket", SYS_socket);
	refused((struct attempt){ .act = unknown_call }, "unknown", 100000);
	refused((struct attempt){ .act = clone_child }, "clone", SYS_clone);
}

static int map_executable(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	       MAP_FAILED ? 0 : 1;
}

static int make_executable(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHILD_CHECK(page != MAP_FAILED);
	CHILD_CHECK(mprotect(page, 4096, PROT_READ) == 0);
	return mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void memory_never_becomes_executable(void **state)
{
	(void)state;
	refused((struct attempt){ .act = map_executable }, "mmap", SYS_mmap);
	refused((struct attempt){ .act = make_executable }, "mprotect", SYS_mprotect);
}

static int signal_init(void)
{
	return (int)syscall(SYS_tgkill, 1, 1, 0);
}

static int kill_init(void)
{
	return kill(1, 0);
}

static void other_processes_get_no_signals(void **state)
{
	(void)state;
	refused((struct attempt){ .act = signal_init }, "tgkill", SYS_tgkill);
	refused((struct attempt){ .act = kill_init }, "kill", SYS_kill);
}

/* As a program does that has a filter for each of its processes. */
static int parents_get_none(void *arg)
{
	const pid_t parent = getpid();
	int status;
	pid_t pid;

	(void)arg;
	child_needs_filters();
	filter_name_thread("parent");
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	pid = fork();
	CHILD_CHECK(pid >= 0);
	if (pid == 0) {
		filter_name_thread("child");
		CHILD_CHECK(filter_enter(NULL) == 0);
		_exit(syscall(SYS_tgkill, parent, parent, 0) == 0 ? 0 : 1);
	}
	CHILD_CHECK(waitpid(pid, &status, 0) == pid);
	return WEXITSTATUS(status);
}

static void a_parent_gets_no_signals(void **state)
{
	struct child child = child_run(geteuid(), parents_get_none, NULL);

	(void)state;
	child_ended(&child, VIOLATION);
	assert_non_null(strstr(child.text, "thread child was stopped at system call tgkill"));
}

static int ordinary_life(void)
{
	struct timespec moment = { .tv_nsec = 1000 };
	struct itimerspec soon = { .it_value.tv_nsec = 1 };
	char *small = malloc(100), *large = malloc(MIB(4));

	CHILD_CHECK(small && large);
	small = realloc(small, MIB(2));
	large = realloc(large, MIB(64));
	CHILD_CHECK(small && large);
	memset(large, 1, MIB(64));
	free(small);
	free(large);
	CHILD_CHECK(nanosleep(&moment, NULL) == 0);
	CHILD_CHECK(util_now_ns() > 0);
	CHILD_CHECK(timerfd_settime(-1, 0, &soon, NULL) < 0 && errno == EBADF);
	CHILD_CHECK(write(STDERR_FILENO, "", 0) == 0);
	CHILD_CHECK(pthread_kill(pthread_self(), 0) == 0);
	return 0;
}

static void the_base_set_carries_the_c_library(void **state)
{
	(void)state;
	permitted((struct attempt){ .act = ordinary_life });
}

static int abort_self(void)
{
	abort();
}

static void abort_ends_by_its_own_signal(void **state)
{
	struct attempt attempt = { .act = abort_self };
	struct child child = child_run(geteuid(), confined, &attempt);

	(void)state;
	child_ended(&child, -SIGABRT);
}

static const struct sandbox wide = SANDBOX(SC(openat), SC(getppid), SC(write));

static int use_wide(void)
{
	CHILD_CHECK(getppid() > 0);
	return open_file();
}

static void a_rule_permits_its_call(void **state)
{
	(void)state;
	permitted((struct attempt){ .sandbox = &wide, .act = use_wide });
}

/* An argument as it is, two values of one argument, and bits of one. */
static const struct sandbox picky = SANDBOX(SC_ARG(fcntl, 1, F_GETFL), SC_ARG(fcntl, 1, F_GETFD),
					    SC_MASK(lseek, 1, 0xff, 0), SC_ARG(read, 0, 99));

static int fcntl_listed(void)
{
	char byte;

	CHILD_CHECK(fcntl(STDERR_FILENO, F_GETFL) >= 0);
	CHILD_CHECK(fcntl(STDERR_FILENO, F_GETFD) >= 0);
	CHILD_CHECK(lseek(STDERR_FILENO, 0x4200, SEEK_SET) < 0 && errno == ESPIPE);
	/* A rule for a call of the base set takes nothing away. */
	CHILD_CHECK(read(-1, &byte, 1) < 0 && errno == EBADF);
	return 0;
}

static int fcntl_other(void)
{
	return fcntl(STDERR_FILENO, F_SETFD, FD_CLOEXEC);
}

static int lseek_other(void)
{
	return lseek(STDERR_FILENO, 0x4201, SEEK_SET) < 0;
}

static void argument_rules_hold(void **state)
{
	(void)state;
	permitted((struct attempt){ .sandbox = &picky, .act = fcntl_listed });
	refused((struct attempt){ .sandbox = &picky, .act = fcntl_other }, "fcntl", SYS_fcntl);
	refused((struct attempt){ .sandbox = &picky, .act = lseek_other }, "lseek", SYS_lseek);
}

static void *confined_thread(void *arg)
{
	filter_name_thread("net0");
	CHILD_CHECK(filter_enter(NULL) == 0);
	if (arg)
		open_file();
	return NULL;
}

static int thread_only(void *misbehave)
{
	pthread_t thread;

	child_needs_filters();
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, confined_thread, misbehave) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
	/* Main has no filter. */
	return open_file();
}

static void a_filter_holds_for_its_thread(void **state)
{
	struct child child;
	int yes = 1;

	(void)state;
	child_succeeds(geteuid(), thread_only, NULL);
	child = child_run(geteuid(), thread_only, &yes);
	child_ended(&child, VIOLATION);
	assert_non_null(strstr(child.text, "thread net0 was stopped at system call openat"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_listed_is_refused_and_reported),
		cmocka_unit_test(before_exit_runs_first),
		cmocka_unit_test(other_refusals),
		cmocka_unit_test(memory_never_becomes_executable),
		cmocka_unit_test(other_processes_get_no_signals),
		cmocka_unit_test(a_parent_gets_no_signals),
		cmocka_unit_test(the_base_set_carries_the_c_library),
		cmocka_unit_test(abort_ends_by_its_own_signal),
		cmocka_unit_test(a_rule_permits_its_call),
		cmocka_unit_test(argument_rules_hold),
		cmocka_unit_test(a_filter_holds_for_its_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
