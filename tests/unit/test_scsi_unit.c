// SPDX-License-Identifier: Apache-2.0
/* Units as the confined main thread makes them, and those that cannot be made. */
#include "tests/lib/child.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <scsi/sg.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "devices/block/block.h"
#include "devices/scsi.h"
#include "tests/unit/driver.h"
#include "vmm/vm.h"

extern const struct virtio_class scsi_class;

int __wrap_ioctl(int fd, unsigned long number, void *argument);

/* /dev/null is a disk that answers zeros. */
int __wrap_ioctl(int fd, unsigned long number, void *argument)
{
	const struct iovec *iov;

	(void)fd;
	switch (number) {
	case SG_GET_VERSION_NUM:
		*(int *)argument = 30536;
		return 0;
	case BLKSECTGET:
		*(int *)argument = MIB(1);
		return 0;
	case SG_IO:
		iov = ((const struct sg_io_hdr *)argument)->dxferp;
		memset(iov->iov_base, 0, iov->iov_len);
		return 0;
	default:
		errno = ENOTTY;
		return -1;
	}
}

static int new_file(void)
{
	char path[] = "/tmp/microvm-unit-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, MIB(1)), 0);
	return fd;
}

static struct virtio_conf *configure(const char *text)
{
	struct virtio_conf *conf = calloc(1, scsi_class.conf_size);
	struct opt_error error;

	assert_non_null(conf);
	assert_int_equal(opt_parse(scsi_class.opts, text, conf, &error), 0);
	return conf;
}

static void discard(struct virtio_conf *conf)
{
	opt_free(scsi_class.opts, conf);
	free(conf);
}

static int plug(struct vq_guest *guest, unsigned int unit, const char *text, int fd)
{
	struct virtio_conf *conf = configure(text);
	int r = scsi_unit_plug(guest->dev, unit, conf, fd);

	discard(conf);
	return r;
}

/* A device that could be opened, but not for all queues: its threads go after the queues' own. */
static void test_too_few_fds(void **state)
{
	const struct mem mem = { 0 };
	const struct virtio_host host = { .mem = &mem, .vm_name = "" };
	struct virtio_conf *conf = configure("/dev/null,passthrough,queues=2");
	const int first = dup(STDERR_FILENO);
	struct virtio_dev *dev = NULL;
	struct rlimit limit, few;
	unsigned int tries = 0;

	(void)state;
	assert_true(first >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){ (rlim_t)first + 1, limit.rlim_max };
	for (int r = -EMFILE; r; few.rlim_cur++, tries++) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = virtio_dev_new(&scsi_class, 0, conf, &host, &dev);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_true(r == 0 || r == -EMFILE);
	}
	/* Two queues with helpers each. */
	assert_in_range(tries, 20, 1000);
	virtio_dev_free(dev);
	discard(conf);
	close(first);
}

/* One open file is one unit's: the other one would undo its lock, and change its flags. */
static void test_one_file_twice(void **state)
{
	const struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct vq_guest guest;
	int fd = new_file(), other;
	char path[32];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDWR | O_CLOEXEC);
	assert_true(other >= 0);
	assert_int_equal(vq_guest_make(&guest, &scsi_class, "controller"), 0);
	assert_int_equal(plug(&guest, 0, "x", dup(fd)), 0);
	assert_int_equal(plug(&guest, 1, "x,direct", dup(fd)), -EAGAIN);
	assert_int_equal(scsi_unit_unplug(guest.dev, 1), -ENOENT);
	assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0);
	assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), -1);
	assert_int_equal(scsi_unit_unplug(guest.dev, 0), 0);
	assert_int_equal(plug(&guest, 1, "x", fd), 0);
	vq_guest_free(&guest);
	close(other);
}

static const struct sandbox orders_sandbox = SANDBOX(MAIN_CALLS, SCSI_UNIT_CALLS);

static int plug_confined(void *arg)
{
	const int raw = new_file(), direct = new_file();
	struct vq_guest guest;

	(void)arg;
	child_needs_filters();
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(vq_guest_make(&guest, &scsi_class, "controller,queues=2") == 0);
	CHILD_CHECK(vq_run(&guest, true) == 0);
	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(filter_enter(&orders_sandbox) == 0);
	CHILD_CHECK(plug(&guest, 0, "x,engine=uring", fcntl(raw, F_DUPFD_CLOEXEC, 0)) == -EOPNOTSUPP);
	CHILD_CHECK(plug(&guest, 0, "x,sqpoll", fcntl(raw, F_DUPFD_CLOEXEC, 0)) == -EOPNOTSUPP);
	CHILD_CHECK(plug(&guest, 0, "x", raw) == 0);
	/* Where its file system has none, this must not be fatal either. */
	(void)plug(&guest, 1, "x,direct", direct);
	CHILD_CHECK(scsi_unit_resize(guest.dev, 0, MIB(2)) == 0);
	CHILD_CHECK(scsi_unit_unplug(guest.dev, 0) == 0);
	vq_guest_free(&guest);
	return 0;
}

/* By default a unit that comes has an engine that its thread may make. */
static void test_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), plug_confined, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_too_few_fds),
		cmocka_unit_test(test_one_file_twice),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
