// SPDX-License-Identifier: Apache-2.0
/* Units that cannot be made. */
#include "tests/lib/child.h"
#include <linux/fs.h>
#include <scsi/sg.h>
#include <sys/resource.h>
#include "tests/unit/driver.h"

extern const struct virtio_class scsi_class;

int __wrap_ioctl(int fd, unsigned long number, void *argument);

/* /dev/null is a disk that answers zeros. */
int __wrap_ioctl(int fd, unsigned long number, void *argument)
{
	const struct sg_io_hdr *header = argument;
	const struct iovec *iov = number == SG_IO ? header->dxferp : NULL;

	(void)fd;
	switch (number) {
	case SG_GET_VERSION_NUM:
		*(int *)argument = 30536;
		return 0;
	case BLKSECTGET:
		*(int *)argument = MIB(1);
		return 0;
	case SG_IO:
		memset(iov->iov_base, 0, iov->iov_len);
		return 0;
	default:
		errno = ENOTTY;
		return -1;
	}
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_too_few_fds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
