// SPDX-License-Identifier: Apache-2.0
/* Every thread's own filter, as it is: what an intruder would want is refused, and told with the thread's name. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include "tests/lib/child.h"
#include "devices/classes.h"
#include "devices/virtio/virtio.h"
#include "seccomp/filter.h"
#include "vmm/machine.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define VIOLATION 103

struct attempt {
	const char *thread;
	const struct sandbox *sandbox;
	const char *call;
	long (*act)(void);
};

static long open_file(void)
{
	return open("/etc/passwd", O_RDONLY);
}

static long execute(void)
{
	return execl("/bin/true", "true", NULL);
}

static long make_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long trace(void)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static long make_process(void)
{
	return syscall(SYS_clone, 0, 0, 0, 0, 0);
}

static long open_by_ring(void)
{
	return syscall(SYS_io_uring_setup, 8, NULL);
}

static long other_ioctl(void)
{
	return ioctl(STDERR_FILENO, FIONBIO, NULL);
}

static long map_code(void)
{
	return mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

struct way {
	const char *call;
	long (*act)(void);
};

static const struct way ways_out[] = {
	{ "openat", open_file },       { "execve", execute },
	{ "socket", make_socket },     { "ptrace", trace },
	{ "clone", make_process },     { "io_uring_setup", open_by_ring },
	{ "ioctl", other_ioctl },      { "mmap", map_code },
};

static int confined(void *arg)
{
	const struct attempt *attempt = arg;

	child_needs_filters();
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	filter_name_thread(attempt->thread);
	CHILD_CHECK(filter_enter(attempt->sandbox) == 0);
	(void)attempt->act();
	return 0;
}

static void refused(const char *thread, const struct sandbox *sandbox, const struct way *way)
{
	struct attempt attempt = { thread, sandbox, way->call, way->act };
	struct child child = child_run(geteuid(), confined, &attempt);
	char expected[128];

	snprintf(expected, sizeof(expected), "thread %s was stopped at system call %s (", thread,
		 way->call);
	child_ended(&child, VIOLATION);
	if (!strstr(child.text, expected))
		fail_msg("%s: %s gave: %s", thread, way->call, child.text);
}

static void all_refused(const char *thread, const struct sandbox *sandbox)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways_out); i++)
		refused(thread, sandbox, &ways_out[i]);
}

static void each_device_is_confined(void **state)
{
	(void)state;
	for (const struct virtio_class *const *class = virtio_classes; *class; class++)
		all_refused((*class)->name, (*class)->sandbox);
}

static void vcpus_are_confined(void **state)
{
	(void)state;
	all_refused("vcpu0", &vcpu_sandbox);
}

static void the_serial_port_is_confined(void **state)
{
	(void)state;
	all_refused("serial", &serial_sandbox);
}

static long write_at(void)
{
	return pwrite(STDERR_FILENO, "", 0, 0);
}

static long truncate_file(void)
{
	return ftruncate(STDERR_FILENO, 0);
}

static long take_space(void)
{
	return fallocate(STDERR_FILENO, 0, 0, 1);
}

static long change_flags(void)
{
	return fcntl(STDERR_FILENO, F_SETFL, 0);
}

static long send_message(void)
{
	return sendmsg(STDERR_FILENO, &(struct msghdr){ 0 }, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Disks are their threads'. */
static void main_is_confined(void **state)
{
	static const struct way more[] = {
		{ "pwrite64", write_at },	{ "ftruncate", truncate_file },
		{ "fallocate", take_space },	{ "fcntl", change_flags },
		{ "sendmsg", send_message },
	};

	(void)state;
	all_refused("main", &main_sandbox);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		refused("main", &main_sandbox, &more[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_device_is_confined),
		cmocka_unit_test(vcpus_are_confined),
		cmocka_unit_test(the_serial_port_is_confined),
		cmocka_unit_test(main_is_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
