// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that does as it likes with a device. The first two bytes choose the
 * class, and how the device is attached and configured; the rest is a list of
 * operations, an opcode and its operands each. Operands that the input has no
 * bytes for are zero. Some operations are what a driver does right (start,
 * post), or nothing would come far enough to go wrong. No line here is about
 * any class, and the workers are not started, so each run is the same again.
 */
#include <assert.h>
#include <stdio.h>
#include <sys/socket.h>
#include "core/log.h"
#include "core/state.h"
#include "devices/classes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/held.h"
#include "tests/lib/vdrv.h"

#define RAM KIB(128)
#define REGION KIB(4)
#define BUFFERS KIB(64) /* the end of RAM, where posted buffers are in turn */
#define BUFFERS_MAX 8
#define QUEUE_SIZE_MAX 32
#define SPOILED_MAX 3
#define LOADS_MAX 4

struct run {
	const uint8_t *input;
	size_t left;
	struct vdrv vdrv;
	uint64_t buffer; /* the offset of the next within BUFFERS */
	unsigned int loads;
};

static void take(struct run *run, void *to, size_t len)
{
	size_t n = util_min(len, run->left);

	memset(to, 0, len);
	memcpy(to, run->input, n);
	run->input += n;
	run->left -= n;
}

static uint8_t take8(struct run *run)
{
	uint8_t value;

	take(run, &value, sizeof(value));
	return value;
}

static uint16_t take16(struct run *run)
{
	uint16_t value;

	take(run, &value, sizeof(value));
	return value;
}

static uint64_t take64(struct run *run)
{
	uint64_t value;

	take(run, &value, sizeof(value));
	return value;
}

/* Anywhere in RAM. */
static uint64_t take_gpa(struct run *run)
{
	return VDRV_RAM + take16(run) * (RAM / (UINT16_MAX + 1));
}

/* Fills guest memory, if it is that, with what there is. */
static void take_memory(struct run *run, uint64_t gpa, size_t len)
{
	void *to = vdrv_ptr(&run->vdrv, gpa, util_min(len, run->left));

	if (to)
		take(run, to, util_min(len, run->left));
}

static unsigned int take_queue(struct run *run)
{
	return take8(run) % run->vdrv.queue_count;
}

/* ---- operations ---- */

/* The address of a register, or of what is near the device's registers. */
static uint64_t take_register(struct run *run, unsigned int *ret_len)
{
	uint8_t how = take8(run);
	uint16_t offset = take16(run);

	*ret_len = 1u << (how & 3);
	if (how & 0x80 && run->vdrv.pci)
		return run->vdrv.function + offset;
	return run->vdrv.registers + offset;
}

static void do_read(struct run *run)
{
	unsigned int len;
	uint64_t addr = take_register(run, &len), value;

	bus_read(&run->vdrv.bus, addr, &value, len);
}

static void do_write(struct run *run)
{
	unsigned int len;
	uint64_t addr = take_register(run, &len), value = 0;

	take(run, &value, len);
	bus_write(&run->vdrv.bus, addr, &value, len);
}

static void do_memory(struct run *run)
{
	uint64_t gpa = take_gpa(run);

	take_memory(run, gpa, take8(run));
}

static void do_kick(struct run *run)
{
	util_signal(run->vdrv.dev->queues[take_queue(run)].kick.fd);
}

static void do_turn(struct run *run)
{
	vdrv_turn(&run->vdrv);
}

static void do_reset(struct run *run)
{
	vdrv_set(&run->vdrv, VDRV_STATUS, 0);
}

static void do_reset_queue(struct run *run)
{
	vdrv_queue_set(&run->vdrv, take_queue(run), VDRV_QUEUE_RESET, 1);
}

/* All features that are offered but some. */
static void do_start(struct run *run)
{
	uint16_t size = QUEUE_SIZE_MAX >> take8(run) % 5;
	uint64_t without = take64(run);

	if (!vdrv_negotiate(&run->vdrv, vdrv_offered(&run->vdrv) & ~without))
		vdrv_start(&run->vdrv, size);
}

static uint64_t take_area(struct run *run)
{
	return take_gpa(run) & ~(uint64_t)(VRING_DESC_ALIGN_SIZE - 1);
}

/* The same with queues that lie anywhere in RAM, and are of any size. */
static void do_place(struct run *run)
{
	struct vdrv *vdrv = &run->vdrv;

	if (vdrv_negotiate(vdrv, vdrv_offered(vdrv) & ~take64(run)))
		return;
	for (unsigned int i = 0; i < vdrv->queue_count; i++) {
		const struct virtq_layout layout = {
			.size = 1 + take8(run) % (2 * QUEUE_SIZE_MAX), .ready = true,
			.desc = take_area(run), .driver = take_area(run), .device = take_area(run),
		};

		vdrv_place_queue(vdrv, i, &layout);
	}
	vdrv_set(vdrv, VDRV_STATUS, vdrv_get(vdrv, VDRV_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* One buffer: a byte of what it is like, its length, and its address unless that does not matter. */
static struct vdrv_buffer take_buffer(struct run *run)
{
	uint8_t how = take8(run);
	struct vdrv_buffer buffer = { .writable = how & 1, .len = take16(run) };

	if (how & 2)
		buffer.len &= ~511u;
	if (how & 4)
		buffer.len <<= 16;
	if (how & 8) {
		buffer.gpa = take64(run);
	} else if (how & 0x10) {
		buffer.gpa = take_gpa(run);
	} else {
		if (run->buffer + buffer.len > BUFFERS)
			run->buffer = 0;
		buffer.gpa = VDRV_RAM + RAM - BUFFERS + run->buffer;
		run->buffer += buffer.len;
	}
	if (!buffer.writable)
		take_memory(run, buffer.gpa, buffer.len);
	return buffer;
}

/* A chain, in an indirect table or not, and the doorbell. */
static void do_post(struct run *run)
{
	struct vdrv_queue *queue = &run->vdrv.queues[take_queue(run)];
	uint8_t how = take8(run);
	struct vdrv_buffer buffers[BUFFERS_MAX];
	unsigned int count = how % BUFFERS_MAX + 1, taken = 0;
	uint16_t id;

	for (unsigned int i = 0; i < count; i++)
		buffers[i] = take_buffer(run);
	/* Not set up yet. */
	if (!queue->desc)
		return;
	/* Not without end: a ring that was overwritten may look as if everything were used. */
	while (taken < QUEUE_SIZE_MAX && vdrv_take(queue, &id, NULL))
		taken++;
	vdrv_post(queue, buffers, count, how & 8 ? VDRV_RAM + RAM - BUFFERS : 0);
	vdrv_kick(queue);
	if (how & 0x80)
		vdrv_turn(&run->vdrv);
}

/* Writes to one of a queue's areas: descriptors, indices, events. */
static void do_area(struct run *run)
{
	const struct virtq_layout *layout = &run->vdrv.queues[take_queue(run)].layout;
	const uint64_t areas[] = { layout->desc, layout->driver, layout->device };
	uint64_t gpa = areas[take8(run) % ARRAY_SIZE(areas)];

	gpa += take16(run) % (QUEUE_SIZE_MAX * sizeof(struct vring_desc));
	take_memory(run, gpa, take8(run));
}

/* Makes available what may have been so already. */
static void do_expose(struct run *run)
{
	struct vdrv_queue *queue = &run->vdrv.queues[take_queue(run)];
	uint16_t head = take16(run);

	if (queue->desc)
		vdrv_expose(queue, head, take8(run) % QUEUE_SIZE_MAX);
}

static void do_pause(struct run *run)
{
	virtio_dev_pause(run->vdrv.dev);
	virtio_dev_resume(run->vdrv.dev);
}

/* What the display's program says to a device, which it has listened to before. */
static void say(struct run *run)
{
	int fd = run->vdrv.display.ends[take8(run) % DISPLAY_ROLES];
	struct display_message message = { 0 };

	if (fd < 0)
		return;
	while (display_receive(fd, &message) == 0)
		;
	message.type = take8(run);
	message.head = take8(run);
	take(run, &message.rect, sizeof(message.rect));
	send(fd, &message, sizeof(message), MSG_NOSIGNAL);
}

static void do_requests(struct run *run)
{
	uint8_t which = take8(run);

	if (which & 1)
		virtio_dev_drain(run->vdrv.dev);
	else if (which & 2)
		virtio_dev_set_link(run->vdrv.dev, which & 4);
	else if (which & 8)
		say(run);
	else
		virtio_dev_resize(run->vdrv.dev);
}

/* The same again, or a save does not hold all that there is to say. */
static void check_loaded(struct run *run, const struct state *state)
{
	_cleanup_(state_free) struct state again = { 0 };
	int err = vdrv_save(&run->vdrv, &again);

	assert(!err && again.len == state->len && !memcmp(again.data, state->data, state->len));
}

/* Saves, spoils some bytes, and goes on with a device that was loaded from that. */
static void do_load(struct run *run)
{
	unsigned int spoiled = take8(run) % (SPOILED_MAX + 1);
	_cleanup_(state_free) struct state state = { 0 };
	int err;

	/* They take their time. */
	if (++run->loads > LOADS_MAX)
		return;
	err = vdrv_save(&run->vdrv, &state);
	assert(!err);
	for (unsigned int i = 0; i < spoiled; i++) {
		uint16_t at = take16(run);

		state.data[at % state.len] ^= take8(run);
	}
	err = vdrv_load(&run->vdrv, &state);
	if (!spoiled) {
		assert(!err);
		check_loaded(run, &state);
	}
	if (!err)
		virtio_dev_resume(run->vdrv.dev);
	else
		run->left = 0; /* It is of no use any more. */
}

typedef void operation(struct run *run);

static operation *const operations[] = {
	do_read, do_write, do_memory, do_kick, do_turn, do_reset, do_start, do_post, do_pause,
	do_requests, do_load, do_reset_queue, do_area, do_expose, do_place,
};

/* ---- a run ---- */

/* Those of the registry and one more. */
static const struct virtio_class *nth_class(unsigned int n)
{
	unsigned int count = 0;

	while (virtio_classes[count])
		count++;
	n %= count + 1;
	return n < count ? virtio_classes[n] : &held_class;
}

static bool has_key(const struct virtio_class *class, const char *key)
{
	for (const struct opt *opt = class->opts; opt->key; opt++)
		if (!strcmp(opt->key, key))
			return true;
	return false;
}

/* False: its rings are too small for the class; a balloon's reports take 32 entries. */
static bool open_device(struct run *run)
{
	const struct virtio_class *class = nth_class(take8(run));
	uint8_t how = take8(run);
	int queue_size = QUEUE_SIZE_MAX >> (how >> 6);
	char options[256];
	const struct vdrv_setup setup = {
		.class = class,
		.options = options,
		.transport = how & 1 ? VDRV_PCI : VDRV_MMIO,
		.ram = RAM,
		.region = how & 2 ? REGION : 0,
	};
	int err;

	snprintf(options, sizeof(options), "%s%squeue-size=%d%s%s%s", class->sample,
		 *class->sample ? "," : "", queue_size,
		 how & 4 ? ",packed" : "", how & 8 ? ",in-order" : "",
		 how & 0x10 && has_key(class, "queues") ? ",queues=2" : "");
	err = vdrv_open(&run->vdrv, &setup);
	assert(!err || (err == -ENOSPC && !strcmp(class->name, "balloon") && queue_size < 32));
	return !err;
}

/* The number that the next one gets. */
static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .input = data, .left = size };
	int fd = next_fd();
	bool opened;

	log_set_level(LOG_ERROR);
	if (size < 3)
		return -1;
	opened = open_device(&run);
	if (opened) {
		while (run.left)
			operations[take8(&run) % ARRAY_SIZE(operations)](&run);
		vdrv_close(&run.vdrv);
	}
	assert(next_fd() == fd);
	return opened ? 0 : -1;
}
