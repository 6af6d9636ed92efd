// SPDX-License-Identifier: Apache-2.0
/*
 * Ten bugs that others shipped, each by a name that says which; docs/testing.md
 * tells what they were. tests/conform/mutate takes the guards away one by one
 * and shows that these notice.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "devices/classes.h"
#include "seccomp/jail.h"
#include "tests/conform/conform.h"

static const struct virtio_class *find_class(const char *name)
{
	for (unsigned int i = 0; virtio_classes[i]; i++)
		if (!strcmp(virtio_classes[i]->name, name))
			return virtio_classes[i];
	conform_skip("this build has no such class");
}

#define DATA_LEN 0x40000

/* Without threads; with all features that are offered, ready to go. Returns where DATA_LEN bytes for buffers are. */
static uint64_t open_device(struct vdrv *vdrv, const struct virtio_class *class, const char *options)
{
	const struct vdrv_setup setup = { .class = class, .options = options, .transport = VDRV_PCI };
	uint64_t data;

	CHECK(vdrv_open(vdrv, &setup) == 0);
	data = vdrv_alloc(vdrv, DATA_LEN);
	CHECK(data != 0);
	CHECK(vdrv_begin(vdrv, vdrv_offered(vdrv), 0) == 0);
	return data;
}

static uint8_t *byte(const struct vdrv *vdrv, uint64_t gpa)
{
	return vdrv_ptr(vdrv, gpa, 1);
}

/* One chain, and what the device does of it now. False: it was not used. */
static bool ask(struct vdrv *vdrv, unsigned int queue, const struct vdrv_buffer *buffers,
		unsigned int count)
{
	uint16_t id;

	CHECK(vdrv_post(&vdrv->queues[queue], buffers, count, 0) >= 0);
	vdrv_ring(&vdrv->queues[queue]);
	vdrv_turn(vdrv);
	return vdrv_take(&vdrv->queues[queue], &id, NULL);
}

/* Written while the queue runs, which it does as it began. */
static void size_changed(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		const uint16_t max = virtio_queue_max(c->vdrv.dev, i);
		const uint16_t sizes[] = { max, 2, 0, (uint16_t)(max - 1) };

		CHECK(vdrv_negotiate(&c->vdrv, c->features) == 0);
		CHECK(vdrv_start(&c->vdrv, 4) == 0);
		for (size_t n = 0; n < ARRAY_SIZE(sizes); n++) {
			vdrv_queue_set(&c->vdrv, i, VDRV_QUEUE_SIZE, sizes[n]);
			vdrv_set(&c->vdrv, VDRV_QUEUE_READY, 0);
			vdrv_set(&c->vdrv, VDRV_QUEUE_READY, 1);
			CHECK(virtio_queue(c->vdrv.dev, i).size == 4);
			CHECK(virtio_queue(c->vdrv.dev, i).ready);
			for (int round = 0; round < 5; round++)
				conform_probe_all(c);
		}
	}
}

/* A device that has every chain in flight for ever. */
static void holder_kick(struct virtio_dev *dev, struct virtq *queue)
{
	(void)dev;
	while (virtq_pop(queue))
		;
}

static int holder_init(struct virtio_dev *dev)
{
	(void)dev;
	return 0;
}

static const struct opt holder_opts[] = { VIRTIO_OPTS, { 0 } };

static const struct virtio_class holder_class = {
	.name = "holder",
	.id = 42,
	.queue_sizes = (const uint16_t[]){ 4 },
	.queue_count = 1,
	.dev_size = sizeof(struct virtio_dev),
	.opts = holder_opts,
	.conf_size = sizeof(struct virtio_conf),
	.init = holder_init,
	.kick = holder_kick,
};

static void head_posted_twice(struct conform *c, const void *arg)
{
	const uint64_t layouts[] = { 0, 1ULL << VIRTIO_F_RING_PACKED };
	struct vdrv vdrv;

	(void)c;
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		const struct vdrv_setup setup = { .class = &holder_class, .options = "packed=on" };
		const struct vring_desc desc = { VDRV_RAM, 16, VRING_DESC_F_WRITE, 0 };

		CHECK(vdrv_open(&vdrv, &setup) == 0);
		CHECK(vdrv_begin(&vdrv, layouts[i], 0) == 0);
		for (uint16_t n = 0; n < 2; n++) {
			CHECK(!vdrv_needs_reset(&vdrv));
			vdrv_put(&vdrv.queues[0], layouts[i] ? n : 0, &desc);
			vdrv_expose(&vdrv.queues[0], 0, 1);
			vdrv_ring(&vdrv.queues[0]);
			vdrv_turn(&vdrv);
		}
		CHECK(vdrv_needs_reset(&vdrv));
		CHECK(virtio_core_counter(vdrv.dev, VIRTQ_CHAINS) == 1);
		vdrv_close(&vdrv);
	}
}

struct short_header {
	const char *class;
	unsigned int queue;
	uint32_t header, in; /* bytes: one fewer than the header has, and what else belongs to it */
};

static void header_length(struct conform *c, const void *arg)
{
	const struct short_header *test = arg;
	struct vdrv vdrv;

	(void)c;
	for (uint32_t len = 1; len <= test->header; len++) {
		const uint64_t data = open_device(&vdrv, find_class(test->class), NULL);
		const struct vdrv_buffer buffers[] = { { data, len, false },
						       { data + 0x1000, test->in, true } };

		CHECK(ask(&vdrv, test->queue, buffers, 1 + !!test->in) == (len == test->header));
		CHECK(vdrv_needs_reset(&vdrv) == (len < test->header));
		vdrv_close(&vdrv);
	}
}

static void selectors_and_offsets(struct conform *c, const void *arg)
{
	const uint32_t beyond = c->vdrv.queue_count, all_ones = UINT32_MAX;
	const uint32_t queues[] = { beyond, beyond + 1, 1000, 0xffff };
	const uint32_t window = c->cell.transport == VDRV_PCI ? 0x1000 : 0x100;
	uint64_t value;

	(void)arg;
	conform_begin(c);
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++)
		for (enum vdrv_register reg = VDRV_QUEUE_MAX; reg < VDRV_REGISTERS; reg++) {
			CHECK(vdrv_queue_get(&c->vdrv, queues[i], reg) == 0);
			vdrv_queue_set(&c->vdrv, queues[i], reg, 1);
			CHECK(vdrv_get(&c->vdrv, reg) == 0);
		}
	for (unsigned int width = 1; width <= 8 && c->vdrv.config; width *= 2)
		for (uint32_t offset = 0; offset <= window - width; offset++) {
			if (util_within(offset, width, c->vdrv.config_len))
				continue;
			value = 0;
			bus_write(&c->vdrv.bus, c->vdrv.config + offset, &all_ones, width > 4 ? 4 : width);
			bus_read(&c->vdrv.bus, c->vdrv.config + offset, &value, width);
			CHECK(value == 0);
		}
	/* A register of 4 bytes is none of another width. */
	for (unsigned int width = 1; width <= 8; width *= 2) {
		value = 0;
		bus_write(&c->vdrv.bus, vdrv_register(&c->vdrv, VDRV_STATUS), &value, width);
		if (width == vdrv_register_width(&c->vdrv, VDRV_STATUS))
			conform_begin(c);
		CHECK(vdrv_get(&c->vdrv, VDRV_STATUS) == 0xf);
	}
	conform_probe_all(c);
}

/* What it had been given before a reset a network interface does not write to afterwards, whatever arrives. */
static void num_buffers(struct conform *c, const void *arg)
{
	struct vdrv vdrv;
	const uint64_t data = open_device(&vdrv, find_class("net"), NULL);
	const struct vdrv_buffer frame = { data, 64, false }, room = { data + 0x1000, 0x10100, true },
				 other = { data + 0x20000, 0x10100, true };
	const struct virtio_net_hdr_v1 *header;

	(void)c;
	(void)arg;
	for (int i = 0; i < 4; i++)
		CHECK(!ask(&vdrv, 0, &room, 1));
	CHECK(ask(&vdrv, 1, &frame, 1));
	CHECK(vdrv_used(&vdrv.queues[0]));
	header = vdrv_ptr(&vdrv, room.gpa, sizeof(*header));
	CHECK(header->num_buffers == 1);

	CHECK(vdrv_begin(&vdrv, vdrv_offered(&vdrv), 0) == 0);
	memset(vdrv_ptr(&vdrv, room.gpa, room.len), 0x5a, room.len);
	CHECK(ask(&vdrv, 1, &frame, 1));
	vdrv_turn(&vdrv);
	CHECK(!vdrv_used(&vdrv.queues[0]));
	for (uint32_t i = 0; i < room.len; i++)
		CHECK(*byte(&vdrv, room.gpa + i) == 0x5a);
	/* Into the chain that is there now, and nowhere else. */
	CHECK(ask(&vdrv, 0, &other, 1));
	header = vdrv_ptr(&vdrv, other.gpa, sizeof(*header));
	CHECK(header->num_buffers == 1);
	CHECK(*byte(&vdrv, room.gpa) == 0x5a);
	vdrv_close(&vdrv);
}

/* A chain of 4 GiB and more out of little memory, all of it many times over. */
static void past_4_gib(struct conform *c, const void *arg)
{
	const uint32_t len = MIB(8), enough = (uint32_t)(GIB(4) / len), count = enough + 1;
	struct vring_desc table = { .len = count * (uint32_t)sizeof(table), .flags = VRING_DESC_F_INDIRECT };
	struct vdrv vdrv;

	(void)c;
	(void)arg;
	open_device(&vdrv, find_class("rng"), NULL);
	table.addr = vdrv_alloc(&vdrv, table.len);
	for (uint32_t i = 0; i < count; i++) {
		const struct vring_desc desc = { VDRV_RAM + MIB(4), len,
						 VRING_DESC_F_WRITE | (i + 1 < count ? VRING_DESC_F_NEXT : 0),
						 (uint16_t)(i + 1) };

		memcpy(vdrv_ptr(&vdrv, table.addr + i * sizeof(desc), sizeof(desc)), &desc, sizeof(desc));
	}
	vdrv_put(&vdrv.queues[0], 0, &table);
	vdrv_expose(&vdrv.queues[0], 0, 1);
	vdrv_ring(&vdrv.queues[0]);
	vdrv_turn(&vdrv);
	CHECK(!vdrv_used(&vdrv.queues[0]));
	CHECK(vdrv_needs_reset(&vdrv));
	vdrv_close(&vdrv);
}

/* Lists of addresses of any length, whatever they say about it. */
static void command_lengths(struct conform *c, const void *arg)
{
	static const uint32_t counts[] = { 0, 1, 64, 65, 1000, 10000, 0x10000000, UINT32_MAX };
	struct vdrv vdrv;
	const uint64_t data = open_device(&vdrv, find_class("net"), NULL);
	const struct vdrv_buffer buffers[] = { { data, 0x10000, false }, { data + 0x10000, 1, true } };
	uint8_t *command = vdrv_ptr(&vdrv, data, buffers[0].len);

	(void)c;
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		memset(command, 0x02, buffers[0].len);
		command[0] = VIRTIO_NET_CTRL_MAC;
		command[1] = VIRTIO_NET_CTRL_MAC_TABLE_SET;
		memcpy(command + 2, &counts[i], sizeof(counts[i]));
		CHECK(ask(&vdrv, vdrv.queue_count - 1, buffers, ARRAY_SIZE(buffers)));
	}
	vdrv_close(&vdrv);
}

/* Commands of each class, and of none, with all that may follow: each is answered, in one byte. */
static void command_shapes(struct conform *c, const void *arg)
{
	static const uint32_t lens[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24 };
	static const uint8_t fills[] = { 0, 1, 2, 0xff };
	struct vdrv vdrv;
	const uint64_t data = open_device(&vdrv, find_class("net"), "loop,queues=2"), result = data + 0x1000;

	(void)c;
	(void)arg;
	for (unsigned int i = 0; i < 8 * 8 * ARRAY_SIZE(lens) * ARRAY_SIZE(fills); i++) {
		const uint32_t len = lens[i / 64 % ARRAY_SIZE(lens)];
		/* The command itself in one buffer, or in two. */
		const struct vdrv_buffer buffers[] = { { data, 1 + i % 2, false },
						       { data + 1 + i % 2, 1 - i % 2 + len, false },
						       { result, 16, true } };

		memset(vdrv_ptr(&vdrv, data, 64), fills[i / 64 / ARRAY_SIZE(lens)], 64);
		*byte(&vdrv, data) = (uint8_t)(i % 8);
		*byte(&vdrv, data + 1) = (uint8_t)(i / 8 % 8);
		memset(vdrv_ptr(&vdrv, result, 16), 0x5a, 16);
		if (buffers[1].len)
			CHECK(ask(&vdrv, vdrv.queue_count - 1, buffers, 3));
		else
			CHECK(ask(&vdrv, vdrv.queue_count - 1,
				  (struct vdrv_buffer[]){ buffers[0], buffers[2] }, 2));
		CHECK(*byte(&vdrv, result) <= VIRTIO_NET_ERR && *byte(&vdrv, result + 1) == 0x5a);
	}
	/* Not even a whole command. */
	CHECK(ask(&vdrv, vdrv.queue_count - 1,
		  (struct vdrv_buffer[]){ { data, 1, false }, { result, 1, true } }, 2));
	CHECK(*byte(&vdrv, result) == VIRTIO_NET_ERR);
	CHECK(!vdrv_needs_reset(&vdrv));
	vdrv_close(&vdrv);
}

/* A serial number into buffers of any length, asked for with far more than a header. */
static void reply_lengths(struct conform *c, const void *arg)
{
	const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_GET_ID };
	struct vdrv vdrv;
	const uint64_t data = open_device(&vdrv, find_class("blk"), NULL);

	(void)c;
	(void)arg;
	for (uint32_t len = 1; len < 3 * VIRTIO_BLK_ID_BYTES; len++) {
		const struct vdrv_buffer buffers[] = { { data, 0x8000, false },
						       { data + 0x8000, len, true } };

		memset(vdrv_ptr(&vdrv, data, 0x10000), 0x5a, 0x10000);
		memcpy(vdrv_ptr(&vdrv, data, sizeof(header)), &header, sizeof(header));
		CHECK(ask(&vdrv, 0, buffers, ARRAY_SIZE(buffers)));
		CHECK(*byte(&vdrv, data + 0x8000 + len - 1) == VIRTIO_BLK_S_OK);
		CHECK(*byte(&vdrv, data + 0x8000 + len) == 0x5a);
	}
	vdrv_close(&vdrv);
}

/* A file that goes with this object. */
static int make_file(char *path, const void *data, size_t len, off_t size)
{
	int fd;

	strcpy(path, "/tmp/conform-XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len && ftruncate(fd, size) == 0);
	return fd;
}

static int open_error(const char *class, const char *options)
{
	const struct vdrv_setup setup = { .class = find_class(class), .options = options };
	struct vdrv vdrv;
	int err = vdrv_open(&vdrv, &setup);

	vdrv_close(&vdrv);
	return err;
}

/* A raw image whose owner wrote the header of another format into it: it is a raw image or none. */
static void no_probing(struct conform *c, const void *arg)
{
	/* Version 2, a backing file's name of 11 bytes at 64, clusters of 64 KiB, and a size of 1 GiB. */
	static const uint8_t header[] = "QFI\xfb\0\0\0\2\0\0\0\0\0\0\0\x40\0\0\0\x0b\0\0\0\x10"
					"\0\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\1";
	struct vdrv_buffer buffers[] = { { .len = 16 }, { .len = 513, .writable = true } };
	struct vdrv vdrv;
	char path[32], options[64];
	uint64_t capacity;

	(void)c;
	(void)arg;
	close(make_file(path, header, sizeof(header), MIB(1)));
	CHECK(open_error("blk", path) == -EMEDIUMTYPE);
	snprintf(options, sizeof(options), "%s,format=raw", path);
	buffers[0].gpa = open_device(&vdrv, find_class("blk"), options);
	buffers[1].gpa = buffers[0].gpa + 0x1000;
	unlink(path);
	vdrv_config_read(&vdrv, offsetof(struct virtio_blk_config, capacity), &capacity,
			 sizeof(capacity));
	CHECK(capacity == MIB(1) / 512);
	CHECK(vdrv_post(&vdrv.queues[0], buffers, ARRAY_SIZE(buffers), 0) >= 0);
	vdrv_ring(&vdrv.queues[0]);
	CHECK(vdrv_wait(&vdrv.queues[0], VDRV_TIMEOUT_MS) == 0);
	CHECK(!memcmp(vdrv_ptr(&vdrv, buffers[1].gpa, sizeof(header)), header, sizeof(header)));
	vdrv_close(&vdrv);
}

static void special_files(struct conform *c, const void *arg)
{
	struct rlimit before, none;
	char path[32], options[64];

	(void)c;
	(void)arg;
	close(make_file(path, "", 0, MIB(1)));
	snprintf(options, sizeof(options), "%s", path);
	CHECK(open_error("blk", options) == 0);
	snprintf(options, sizeof(options), "source=%s", path);
	CHECK(open_error("rng", options) == -EINVAL);
	unlink(path);
	CHECK(mkfifo(path, 0600) == 0);
	/* Nobody writes to it: whoever waits for that waits for ever. */
	snprintf(options, sizeof(options), "%s,ro", path);
	CHECK(open_error("blk", options) == -ENOTBLK);
	snprintf(options, sizeof(options), "source=%s", path);
	CHECK(open_error("rng", options) == -EINVAL);
	unlink(path);
	CHECK(open_error("blk", "/dev/zero,ro") == -ENOTBLK);
	CHECK(open_error("blk", "/dev,ro") == -ENOTBLK);

	/* No fd is left: an error like any other. */
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	none = (struct rlimit){ 0, before.rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	for (unsigned int i = 0; virtio_classes[i]; i++)
		CHECK(!virtio_classes[i]->sample || open_error(virtio_classes[i]->name, NULL) == -EMFILE);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

static void scsi_passthrough(struct conform *c, const void *arg)
{
	const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_SCSI_CMD };
	struct vdrv vdrv;
	const uint64_t data = open_device(&vdrv, find_class("blk"), NULL);
	const struct vdrv_buffer buffers[] = { { data, 64, false }, { data + 0x1000, 513, true } };

	(void)c;
	(void)arg;
	memcpy(vdrv_ptr(&vdrv, data, sizeof(header)), &header, sizeof(header));
	CHECK(ask(&vdrv, 0, buffers, ARRAY_SIZE(buffers)));
	CHECK(*byte(&vdrv, buffers[1].gpa + 512) == VIRTIO_BLK_S_UNSUPP);
	vdrv_close(&vdrv);
}

/*
 * Root enters the jail in a directory that is somebody else's. Where nothing is
 * made, no link leads it astray: each call that makes or changes a name ends the process.
 */
__attribute__((noreturn)) static void jail_makes_nothing(struct conform *c, const void *arg)
{
	static const int calls[] = {
		SCMP_SYS(mkdir),    SCMP_SYS(mkdirat),	SCMP_SYS(mknod),    SCMP_SYS(mknodat),
		SCMP_SYS(symlink),  SCMP_SYS(symlinkat), SCMP_SYS(link),    SCMP_SYS(linkat),
		SCMP_SYS(rename),   SCMP_SYS(renameat),	SCMP_SYS(renameat2), SCMP_SYS(creat),
		SCMP_SYS(chown),    SCMP_SYS(fchownat),	SCMP_SYS(chmod),    SCMP_SYS(fchmodat),
		SCMP_SYS(unlink),   SCMP_SYS(unlinkat),	SCMP_SYS(truncate),
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct jail_report report;
	const char *step = "none";

	(void)arg;
	if (!c->confine)
		conform_skip("needs filters of system calls");
	CHECK(filter != NULL);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		CHECK(seccomp_rule_add(filter, SCMP_ACT_TRAP, calls[i], 0) == 0);
	CHECK(seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(openat), 1,
			       SCMP_A2_64(SCMP_CMP_MASKED_EQ, O_CREAT, O_CREAT)) == 0);
	CHECK(seccomp_load(filter) == 0);
	seccomp_release(filter);
	CHECK(jail_enter(&(struct jail_exceptions){ .cwd = -1 }, &report, &step) == 0);
	CHECK(report.no_caps);
	/* A leak checker could not look at this process any more. */
	_exit(CONFORM_PASSED);
}

static const struct short_header short_blk = { "blk", 0, 16, 513 };
static const struct short_header short_net = { "net", 1, 12, 0 };
static const struct short_header short_vsock = { "vsock", 1, 44, 0 };

const struct conform_case conform_bugs[] = {
	{ "bug_01_size_changed_after_activation", size_changed, NULL, false },
	{ "bug_02_head_posted_twice_in_flight", head_posted_twice, NULL, true },
	{ "bug_03_blk_header_length", header_length, &short_blk, true },
	{ "bug_03_net_header_length", header_length, &short_net, true },
	{ "bug_03_vsock_header_length", header_length, &short_vsock, true },
	{ "bug_04_selector_offset_and_width_unchecked", selectors_and_offsets, NULL, false },
	{ "bug_05_num_buffers_after_unmap", num_buffers, NULL, true },
	{ "bug_06_chain_past_4_gib", past_4_gib, NULL, true },
	{ "bug_07_net_guest_length_into_stack_buffer", command_lengths, NULL, true },
	{ "bug_07_net_commands_of_any_shape", command_shapes, NULL, true },
	{ "bug_07_blk_guest_length_into_stack_buffer", reply_lengths, NULL, true },
	{ "bug_08_image_format_probed", no_probing, NULL, true },
	{ "bug_09_special_files_and_no_fds", special_files, NULL, true },
	{ "bug_10_scsi_passthrough", scsi_passthrough, NULL, true },
	{ "bug_10_jail_makes_no_path", jail_makes_nothing, NULL, true },
	{ 0 },
};
