// SPDX-License-Identifier: Apache-2.0
/* vhost=on, against a kernel of our own: whoever opens vhost-vsock gets an fd, and ioctl() is a fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include "core/state.h"
#include "devices/vsock.h"
#include "tests/unit/driver.h"

int __wrap_ioctl(int fd, unsigned long number, void *argument);
int __wrap_vhost_kernel_open(struct vhost *vhost, const char *path, const struct mem *mem);
int __real_vhost_kernel_open(struct vhost *vhost, const char *path, const struct mem *mem);

extern const struct virtio_class vsock_class;

#define CID 5
#define RINGS 2
/* What Linux 6.1's knows. */
#define KNOWN \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
	 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_VSOCK_F_SEQPACKET)
#define PACKED (1ULL << VIRTIO_F_RING_PACKED)

static struct {
	bool missing;
	uint64_t features;
	unsigned long refused; /* the request that fails, */
	int err;               /* and how */
	/* As it was told: */
	unsigned int owners;
	uint64_t cid, agreed;
	int running;
	struct {
		bool runs;
		uint32_t base;
		int kick, call, error;
	} rings[RINGS];
} kernel;

static int set_ring(unsigned long number, const struct vhost_vring_file *file)
{
	int *fd = number == VHOST_SET_VRING_KICK ? &kernel.rings[file->index].kick :
		  number == VHOST_SET_VRING_CALL ? &kernel.rings[file->index].call :
						   &kernel.rings[file->index].error;

	/* Its rings are left alone while it looks at them. */
	assert_int_equal(kernel.running, 0);
	*fd = file->fd;
	kernel.rings[file->index].runs = kernel.rings[file->index].kick >= 0;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long number, void *argument)
{
	struct vhost_vring_state *state = argument;

	(void)fd;
	if (number == kernel.refused) {
		errno = kernel.err;
		return -1;
	}
	switch (number) {
	case VHOST_GET_FEATURES:
		*(uint64_t *)argument = kernel.features;
		break;
	case VHOST_SET_FEATURES:
		kernel.agreed = *(uint64_t *)argument;
		break;
	case VHOST_SET_OWNER:
		kernel.owners++;
		break;
	case VHOST_VSOCK_SET_GUEST_CID:
		kernel.cid = *(uint64_t *)argument;
		break;
	case VHOST_VSOCK_SET_RUNNING:
		kernel.running = *(int *)argument;
		assert_true(!kernel.running || (kernel.rings[0].runs && kernel.rings[1].runs));
		break;
	case VHOST_SET_VRING_BASE:
		kernel.rings[state->index].base = state->num;
		break;
	case VHOST_GET_VRING_BASE:
		state->num = kernel.rings[state->index].base;
		break;
	case VHOST_SET_VRING_KICK:
	case VHOST_SET_VRING_CALL:
	case VHOST_SET_VRING_ERR:
		return set_ring(number, argument);
	default:
		assert_true(number == VHOST_SET_MEM_TABLE || number == VHOST_SET_VRING_NUM ||
			    number == VHOST_SET_VRING_ADDR);
	}
	return 0;
}

int __wrap_vhost_kernel_open(struct vhost *vhost, const char *path, const struct mem *mem)
{
	assert_string_equal(path, "/dev/vhost-vsock");
	return __real_vhost_kernel_open(vhost, kernel.missing ? "/dev/none-such" : "/dev/null", mem);
}

static int set_up(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	kernel.features = KNOWN;
	return 0;
}

static void make(struct vq_guest *guest, const char *options)
{
	assert_int_equal(vq_guest_make(guest, &vsock_class, options), 0);
}

static void expect_running(const struct vq_guest *guest, bool running)
{
	assert_int_equal(kernel.running, running);
	for (unsigned int i = 0; i < RINGS; i++) {
		const struct virtq *queue = &guest->dev->queues[i];

		assert_int_equal(!!queue->vhost, running);
		assert_int_equal(kernel.rings[i].kick, running ? queue->kick.fd : VHOST_FILE_UNBIND);
		assert_true(!running || kernel.rings[i].call == queue->call.fd);
	}
	assert_null(guest->dev->queues[VSOCK_EVENT].vhost);
}

/* Again and again; there is one owner, and each driver begins at the rings' beginning. */
static void starts_and_resets(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, "cid=5,vhost");
	assert_int_equal(kernel.cid, CID);
	assert_string_equal(guest.dev->served_by, "vhost-vsock");
	assert_false(guest.dev->offered & 1ULL << VIRTIO_VSOCK_F_STREAM);
	assert_int_equal(*(uint64_t *)guest.dev->config, CID);
	for (int i = 0; i < 3; i++) {
		vq_start(&guest, 1ULL << VIRTIO_VSOCK_F_SEQPACKET | 1ULL << VIRTIO_F_RING_RESET);
		vq_turn(&guest);
		assert_int_equal(kernel.owners, 1);
		assert_int_equal(kernel.agreed,
				 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_VSOCK_F_SEQPACKET);
		expect_running(&guest, true);
		assert_int_equal(kernel.rings[0].base + kernel.rings[1].base, 0);
		kernel.rings[0].base = kernel.rings[1].base = 9;
		vq_reset(&guest);
		expect_running(&guest, false);
	}
	vq_guest_free(&guest);
}

/* It goes on where it was, and a save knows where that is. */
static void pauses(void **state)
{
	_cleanup_(state_free) struct state saved = { 0 };
	struct state_reader reader;
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	make(&guest, "cid=5,vhost");
	vq_start(&guest, 0);
	kernel.rings[VSOCK_RX].base = 3;
	kernel.rings[VSOCK_TX].base = 0xfffe;
	virtio_dev_pause(guest.dev);
	expect_running(&guest, false);
	kernel.rings[VSOCK_RX].base = kernel.rings[VSOCK_TX].base = 0;
	assert_int_equal(virtio_dev_save(guest.dev, &saved), 0);
	virtio_dev_free(guest.dev);
	assert_int_equal(vq_plug(&guest, guest.conf), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(guest.dev, &reader), 0);
	vq_post(&guest, VSOCK_EVENT, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 4, true }, 1);
	virtio_dev_resume(guest.dev);
	vq_turn(&guest);
	expect_running(&guest, true);
	assert_int_equal(kernel.rings[VSOCK_RX].base, 3);
	assert_int_equal(kernel.rings[VSOCK_TX].base, 0xfffe);
	/* Its connections are gone, which the driver hears from us. */
	assert_true(vq_take(&guest, VSOCK_EVENT, &head, NULL));
	vq_guest_free(&guest);
}

static void packed_positions_have_wraps(void **state)
{
	const uint32_t base = 0x00050005;
	struct vq_guest guest;

	(void)state;
	kernel.features |= PACKED;
	make(&guest, "cid=5,vhost,packed");
	vq_start(&guest, PACKED);
	assert_int_equal(kernel.agreed, 1ULL << VIRTIO_F_VERSION_1 | PACKED);
	assert_int_equal(kernel.rings[VSOCK_TX].base, 0x80008000);
	kernel.rings[VSOCK_RX].base = kernel.rings[VSOCK_TX].base = base;
	virtio_dev_pause(guest.dev);
	kernel.rings[VSOCK_RX].base = kernel.rings[VSOCK_TX].base = 0;
	virtio_dev_resume(guest.dev);
	expect_running(&guest, true);
	assert_int_equal(kernel.rings[VSOCK_RX].base, base);
	assert_int_equal(kernel.rings[VSOCK_TX].base, base);
	vq_guest_free(&guest);
}

/* One queue alone does not run: the other one stops with it, and both go on. */
static void queues_reset_alone(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, "cid=5,vhost");
	vq_start(&guest, 1ULL << VIRTIO_F_RING_RESET);
	virtio_reset_queue(guest.dev, VSOCK_TX);
	assert_false(virtio_queue_resetting(guest.dev, VSOCK_TX));
	assert_int_equal(kernel.running, 0);
	assert_false(kernel.rings[VSOCK_TX].runs);
	vq_set_up_queue(&guest, VSOCK_TX);
	expect_running(&guest, true);
	vq_guest_free(&guest);
}

static void interrupts_and_faults_come_through(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, "cid=5,vhost");
	vq_start(&guest, 0);
	vq_turn(&guest);
	util_signal(kernel.rings[VSOCK_RX].call);
	vq_turn(&guest);
	assert_int_equal(guest.queue_interrupts[VSOCK_RX], 1);
	assert_int_equal(guest.queue_interrupts[VSOCK_TX], 0);
	util_signal(kernel.rings[VSOCK_TX].error);
	vq_turn(&guest);
	assert_true(vq_failed(&guest));
	vq_reset(&guest);
	expect_running(&guest, false);
	vq_guest_free(&guest);
}

static void what_it_refuses_is_told(void **state)
{
	static const struct {
		const char *options, *advice;
		unsigned long refused;
		int err;
		bool missing;
		int result;
	} cases[] = {
		{ "cid=5,vhost", "modprobe vhost_vsock", 0, 0, true, -ENOLINK },
		{ "cid=5,vhost", "modprobe vhost_vsock", VHOST_GET_FEATURES, EFAULT, false, -ENOLINK },
		{ "cid=5,vhost", "another VM this cid", VHOST_VSOCK_SET_GUEST_CID, EADDRINUSE, false,
		  -EADDRINUSE },
		{ "cid=5,vhost,packed", "leave them out", 0, 0, false, -EPROTONOSUPPORT },
		{ "cid=5,vhost,in-order", "leave them out", 0, 0, false, -EPROTONOSUPPORT },
		{ "cid=5,vhost,buffer=4096", "are for path=PATH", 0, 0, false, -ESOCKTNOSUPPORT },
		{ "cid=5,vhost,connections=4", "are for path=PATH", 0, 0, false, -ESOCKTNOSUPPORT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vq_guest guest;

		kernel.missing = cases[i].missing;
		kernel.refused = cases[i].refused;
		kernel.err = cases[i].err;
		assert_int_equal(vq_guest_make(&guest, &vsock_class, cases[i].options), cases[i].result);
		assert_non_null(strstr(hint_find(vsock_hints, cases[i].result), cases[i].advice));
		vq_guest_free(&guest);
	}
}

/* When the driver is ready: then it is told that the device needs a reset, and nothing stays lent. */
static void what_it_refuses_later_fails_the_device(void **state)
{
	static const unsigned long requests[] = {
		VHOST_SET_OWNER, VHOST_SET_MEM_TABLE, VHOST_SET_FEATURES, VHOST_SET_VRING_ADDR,
		VHOST_SET_VRING_KICK, VHOST_VSOCK_SET_RUNNING,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct vq_guest guest;

		make(&guest, "cid=5,vhost");
		kernel.err = EFAULT;
		kernel.refused = requests[i];
		vq_start(&guest, 0);
		assert_true(vq_failed(&guest));
		assert_true(!guest.dev->queues[VSOCK_TX].vhost);
		kernel.refused = 0;
		vq_reset(&guest);
		vq_start(&guest, 0);
		assert_false(vq_failed(&guest));
		expect_running(&guest, true);
		vq_guest_free(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(starts_and_resets, set_up),
		cmocka_unit_test_setup(pauses, set_up),
		cmocka_unit_test_setup(packed_positions_have_wraps, set_up),
		cmocka_unit_test_setup(queues_reset_alone, set_up),
		cmocka_unit_test_setup(interrupts_and_faults_come_through, set_up),
		cmocka_unit_test_setup(what_it_refuses_is_told, set_up),
		cmocka_unit_test_setup(what_it_refuses_later_fails_the_device, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
