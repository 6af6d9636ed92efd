// SPDX-License-Identifier: Apache-2.0
/*
 * Each test enters the jail in two children: as who runs the tests and, where
 * that is root, as nobody. They share a directory that both may write to.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "core/usock.h"
#include "seccomp/jail.h"
#include "tests/lib/child.h"

struct place {
	char path[32];
	int fd; /* of path */
	struct jail_report report;
};

static void make_file(const char *dir, const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	CHILD_CHECK(fd >= 0 && write(fd, "text", 4) == 4);
	close(fd);
}

static void remove_file(const char *dir, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

/* A file beside the directory. */
static void remove_outside(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s.outside", dir);
	unlink(path);
}

static void in_jails(int (*fn)(void *arg))
{
	const uid_t uids[] = { geteuid(), CHILD_NOBODY };
	int lacking = 0;

	for (size_t i = 0; i < ARRAY_SIZE(uids); i++) {
		struct place place = { .path = "/tmp/microvm-jail-XXXXXX" };
		struct child child;

		assert_non_null(mkdtemp(place.path));
		assert_int_equal(chmod(place.path, 0777), 0);
		child = child_run(uids[i], fn, &place);
		remove_file(place.path, "kept");
		remove_file(place.path, "made");
		remove_file(place.path, "gone");
		remove_outside(place.path);
		assert_int_equal(rmdir(place.path), 0);
		if (child.status != 0)
			print_message("uid %d: %s", (int)uids[i], child.text);
		if (child.status == CHILD_LACKS)
			lacking++;
		else
			assert_int_equal(child.status, 0);
	}
	if (lacking == ARRAY_SIZE(uids))
		skip();
}

/* The directory holds files "kept" and "gone"; in the jail it is open with that access. */
static void enter(struct place *place, enum landlock_access access)
{
	struct landlock_dir dir = { .access = access };
	const char *step = "none";
	int rc;

	make_file(place->path, "kept");
	make_file(place->path, "gone");
	dir.fd = place->fd = open(place->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHILD_CHECK(dir.fd >= 0);
	rc = jail_enter(&(struct jail_exceptions){ &dir, 1, -1, 0 }, &place->report, &step);
	if (rc < 0)
		dprintf(STDERR_FILENO, "%s: %s\n", step, strerror(-rc));
	CHILD_CHECK(rc == 0);
}

static int files_are_gone(void *arg)
{
	struct place *place = arg;

	enter(place, LANDLOCK_REMOVE);
	if (!place->report.empty_root && !place->report.landlock_abi)
		return child_lacks("namespaces and no Landlock");
	CHILD_CHECK(open("/etc/passwd", O_RDONLY) < 0);
	CHILD_CHECK(open("/proc/self/status", O_RDONLY) < 0);
	CHILD_CHECK(open(place->path, O_RDONLY | O_DIRECTORY) < 0);
	CHILD_CHECK(open("/new", O_WRONLY | O_CREAT, 0600) < 0);
	CHILD_CHECK(mkdir("/new", 0700) < 0);
	return 0;
}

static void no_path_leads_anywhere(void **state)
{
	(void)state;
	in_jails(files_are_gone);
}

/* One that stands for itself: what is not mapped looks like nobody. */
#define SOMEBODY 1234

static int owners_are_told(void *arg)
{
	const struct jail_exceptions exceptions = { NULL, 0, -1, 1ULL << CAP_FOWNER };
	int fd = open(arg, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	const uid_t uid = geteuid();
	struct jail_report report;
	const char *step;
	struct stat st;

	if (fd < 0 && errno == EOPNOTSUPP)
		return child_lacks("files without a name in this file system");
	CHILD_CHECK(fd >= 0);
	/* As after execve(): its /proc is its own. */
	CHILD_CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
	CHILD_CHECK(jail_enter(&exceptions, &report, &step) == 0);
	if (!report.namespaces)
		return child_lacks("namespaces for this user");
	CHILD_CHECK(geteuid() == uid && fstat(fd, &st) == 0);
	CHILD_CHECK(st.st_uid == uid && st.st_gid == getegid());
	CHILD_CHECK(setuid(uid + 1) < 0);
	return 0;
}

static void those_who_serve_files_know_their_owners(void **state)
{
	(void)state;
	child_succeeds(SOMEBODY, owners_are_told, (char[]){ "/tmp" });
}

static int root_is_empty(void *arg)
{
	struct place *place = arg;
	struct stat root, here;

	enter(place, LANDLOCK_REMOVE);
	if (!place->report.empty_root)
		return child_lacks("mount namespaces for this user");
	/* Landlock does not hide what is there: a stat() finds nothing. */
	CHILD_CHECK(access("/etc", F_OK) < 0 && errno == ENOENT);
	CHILD_CHECK(access("/dev", F_OK) < 0 && errno == ENOENT);
	CHILD_CHECK(stat("/", &root) == 0 && stat(".", &here) == 0);
	CHILD_CHECK(root.st_dev == here.st_dev && root.st_ino == here.st_ino);
	CHILD_CHECK(stat("/..", &here) == 0 && root.st_dev == here.st_dev);
	return 0;
}

static void the_root_is_empty(void **state)
{
	(void)state;
	in_jails(root_is_empty);
}

static int in_chroot(void *arg)
{
	struct place *place = arg;
	char dev[PATH_MAX];

	if (geteuid() != 0)
		return child_lacks("chroot() for this user");
	snprintf(dev, sizeof(dev), "%s/dev", place->path);
	CHILD_CHECK(mkdir(dev, 0700) == 0 && chroot(place->path) == 0 && chdir("/") == 0);
	strcpy(place->path, "/");
	enter(place, LANDLOCK_REMOVE);
	CHILD_CHECK(unlinkat(place->fd, "gone", 0) == 0);
	/* A directory that is no mount point cannot be kept from showing mounts to the host. */
	CHILD_CHECK(!place->report.empty_root);
	if (!place->report.landlock_abi)
		return child_lacks("Landlock");
	CHILD_CHECK(open("/kept", O_RDONLY) < 0 && errno == EACCES);
	return 0;
}

static void in_a_chroot_landlock_stays(void **state)
{
	struct place place = { .path = "/tmp/microvm-jail-XXXXXX" };
	char dev[PATH_MAX];
	struct child child;

	(void)state;
	assert_non_null(mkdtemp(place.path));
	child = child_run(geteuid(), in_chroot, &place);
	snprintf(dev, sizeof(dev), "%s/dev", place.path);
	rmdir(dev);
	remove_file(place.path, "kept");
	remove_file(place.path, "gone");
	assert_int_equal(rmdir(place.path), 0);
	child_ended(&child, 0);
}

static int removal_only(void *arg)
{
	struct place *place = arg;

	enter(place, LANDLOCK_REMOVE);
	CHILD_CHECK(unlinkat(place->fd, "gone", 0) == 0);
	CHILD_CHECK(unlinkat(place->fd, "gone", 0) < 0 && errno == ENOENT);
	if (!place->report.landlock_abi)
		return child_lacks("Landlock");
	CHILD_CHECK(openat(place->fd, "kept", O_RDONLY) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "kept", O_WRONLY) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "made", O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, ".", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "..", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "../../etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	CHILD_CHECK(mkdirat(place->fd, "made", 0700) < 0 && errno == EACCES);
	return 0;
}

static void files_can_be_removed_and_no_more(void **state)
{
	(void)state;
	in_jails(removal_only);
}

static int reading_only(void *arg)
{
	struct place *place = arg;
	char text[4];
	int fd;

	enter(place, LANDLOCK_READ);
	fd = openat(place->fd, "kept", O_RDONLY);
	CHILD_CHECK(fd >= 0 && read(fd, text, 4) == 4 && memcmp(text, "text", 4) == 0);
	CHILD_CHECK(openat(place->fd, ".", O_RDONLY | O_DIRECTORY) >= 0);
	if (!place->report.landlock_abi)
		return child_lacks("Landlock");
	CHILD_CHECK(unlinkat(place->fd, "gone", 0) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "kept", O_WRONLY) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "made", O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "..", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	CHILD_CHECK(openat(place->fd, "../../etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	return 0;
}

static void files_can_be_read_and_no_more(void **state)
{
	(void)state;
	in_jails(reading_only);
}

static int writing(void *arg)
{
	struct place *place = arg;
	int fd;

	enter(place, LANDLOCK_WRITE);
	fd = openat(place->fd, "made", O_RDWR | O_CREAT, 0600);
	CHILD_CHECK(fd >= 0 && write(fd, "text", 4) == 4 && ftruncate(fd, 0) == 0);
	CHILD_CHECK(openat(place->fd, "kept", O_RDWR | O_TRUNC) >= 0);
	CHILD_CHECK(renameat(place->fd, "made", place->fd, "gone") == 0);
	CHILD_CHECK(mkdirat(place->fd, "made", 0700) == 0);
	CHILD_CHECK(unlinkat(place->fd, "made", AT_REMOVEDIR) == 0);
	CHILD_CHECK(symlinkat("kept", place->fd, "made") == 0);
	CHILD_CHECK(mknodat(place->fd, "device", S_IFCHR | 0600, 0x103) < 0);
	if (!place->report.landlock_abi)
		return child_lacks("Landlock");
	CHILD_CHECK(openat(place->fd, "../../etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	return 0;
}

static void files_can_be_written(void **state)
{
	(void)state;
	in_jails(writing);
}

static int powerless(void *arg)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	struct place *place = arg;
	bool was_root = geteuid() == 0;
	struct rlimit core;

	enter(place, LANDLOCK_REMOVE);
	CHILD_CHECK(place->report.no_caps);
	CHILD_CHECK(syscall(SYS_capget, &header, data) == 0);
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		CHILD_CHECK((data[i].effective | data[i].permitted | data[i].inheritable) == 0);
	CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0) == 0);
	CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHILD_CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	CHILD_CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
	CHILD_CHECK(unshare(CLONE_NEWUTS) < 0 && errno == EPERM);
	if (was_root || place->report.namespaces)
		CHILD_CHECK(prctl(PR_GET_SECUREBITS) & SECBIT_NOROOT_LOCKED);
	return 0;
}

static void no_capability_is_left(void **state)
{
	(void)state;
	in_jails(powerless);
}

static int networkless(void *arg)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct place *place = arg;
	struct if_nameindex *interfaces;
	int fd;

	enter(place, LANDLOCK_REMOVE);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHILD_CHECK(fd >= 0);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHILD_CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0);
	if (place->report.landlock_abi >= 4)
		CHILD_CHECK(errno == EACCES);
	if (!place->report.namespaces)
		return child_lacks("network namespaces for this user");
	/* A namespace of its own begins with the loopback (and a kernel's default tunnels). */
	interfaces = if_nameindex();
	CHILD_CHECK(interfaces && strcmp(interfaces[0].if_name, "lo") == 0);
	for (size_t i = 0; interfaces[i].if_index; i++)
		CHILD_CHECK(!strstr(interfaces[i].if_name, "eth"));
	if_freenameindex(interfaces);
	return 0;
}

static void there_is_no_network(void **state)
{
	(void)state;
	in_jails(networkless);
}

static void *idle(void *arg)
{
	return arg;
}

static int carries_on(void *arg)
{
	struct place *place = arg;
	int event = eventfd(0, EFD_CLOEXEC), kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), file;
	const int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
	pthread_t thread;
	void *result;
	char text[4], path[PATH_MAX];

	make_file(place->path, "kept");
	snprintf(path, sizeof(path), "%s/kept", place->path);
	file = open(path, O_RDWR);
	CHILD_CHECK(file >= 0);
	enter(place, LANDLOCK_REMOVE);

	CHILD_CHECK(eventfd_write(event, 1) == 0);
	CHILD_CHECK(pread(file, text, 4, 0) == 4 && pwrite(file, "more", 4, 4) == 4);
	CHILD_CHECK(ftruncate(file, 4) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, idle, place) == 0);
	CHILD_CHECK(pthread_join(thread, &result) == 0 && result == place);
	CHILD_CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == version);
	return 0;
}

static void what_is_open_works_and_threads_start(void **state)
{
	(void)state;
	in_jails(carries_on);
}

static int bad_dir(void *arg)
{
	const struct landlock_dir dir = { .fd = -1, .access = LANDLOCK_REMOVE };
	struct jail_report report = { .landlock_abi = -7 };
	const char *step = NULL;
	int rc = jail_enter(&(struct jail_exceptions){ &dir, 1, -1, 0 }, &report, &step);

	(void)arg;
	if (rc == 0 && report.landlock_abi == 0)
		return child_lacks("Landlock");
	CHILD_CHECK(rc == -EBADF && step && strcmp(step, "Landlock") == 0);
	CHILD_CHECK(report.landlock_abi == -7);
	return 0;
}

static void a_failing_step_is_named(void **state)
{
	(void)state;
	in_jails(bad_dir);
}

static int connects(const char *path)
{
	int fd = -1, rc = usock_connect(path, SOCK_STREAM, &fd);

	util_closep(&fd);
	return rc;
}

/* From a working directory sockets beneath it can be reached by name, and none elsewhere. */
static int own_directory(void *arg)
{
	struct place *place = arg;
	char path[PATH_MAX], outside[PATH_MAX];
	const char *step;
	int inner, outer, cwd;

	snprintf(path, sizeof(path), "%s/made", place->path);
	snprintf(outside, sizeof(outside), "%s.outside", place->path);
	CHILD_CHECK(usock_listen(path, SOCK_STREAM, 8, &inner) == 0);
	CHILD_CHECK(usock_listen(outside, SOCK_STREAM, 8, &outer) == 0);
	cwd = open(place->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHILD_CHECK(jail_enter(&(struct jail_exceptions){ .cwd = cwd },
					       &place->report, &step) == 0);
	CHILD_CHECK(unshare(CLONE_FS) == 0 && fchdir(cwd) == 0);
	snprintf(path, sizeof(path), "..%s", strrchr(outside, '/'));
	CHILD_CHECK(connects("made") == 0);
	if (!place->report.own_cwd)
		return child_lacks("mount namespaces for this user");
	CHILD_CHECK(connects(path) == -ENOENT && connects(outside) == -ENOENT);
	/* The mount stays when the directory is closed. */
	close(cwd);
	CHILD_CHECK(connects("made") == 0 && connects(path) == -ENOENT);
	return 0;
}

static void a_working_directory_leads_nowhere_else(void **state)
{
	(void)state;
	in_jails(own_directory);
}

static int leaves_traces(void *arg)
{
	enter(arg, LANDLOCK_REMOVE);
	return 0;
}

static size_t mounts_here(char *text, size_t size)
{
	int fd = open("/proc/self/mounts", O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, text, size);

	close(fd);
	assert_true(len > 0);
	return (size_t)len;
}

static void the_host_keeps_its_mounts(void **state)
{
	static char before[65536], after[65536];
	size_t len = mounts_here(before, sizeof(before));

	(void)state;
	in_jails(leaves_traces);
	assert_int_equal(mounts_here(after, sizeof(after)), len);
	assert_memory_equal(before, after, len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_path_leads_anywhere),
		cmocka_unit_test(those_who_serve_files_know_their_owners),
		cmocka_unit_test(the_root_is_empty),
		cmocka_unit_test(in_a_chroot_landlock_stays),
		cmocka_unit_test(files_can_be_removed_and_no_more),
		cmocka_unit_test(files_can_be_read_and_no_more),
		cmocka_unit_test(files_can_be_written),
		cmocka_unit_test(no_capability_is_left),
		cmocka_unit_test(there_is_no_network),
		cmocka_unit_test(what_is_open_works_and_threads_start),
		cmocka_unit_test(a_failing_step_is_named),
		cmocka_unit_test(a_working_directory_leads_nowhere_else),
		cmocka_unit_test(the_host_keeps_its_mounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
