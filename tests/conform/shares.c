// SPDX-License-Identifier: Apache-2.0
/* A shared directory in the middle of something: what helpers and who waits for a lock leave behind. */
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include "tests/conform/conform.h"

#define REQUESTS 1
#define HALF (CONFORM_PAGE / 2)
#define ROUNDS 8

struct share {
	struct conform *c;
	char path[32];
	int fd; /* the host's */
	uint64_t node;
};

static struct vdrv_queue *queue(const struct share *share)
{
	return &share->c->vdrv.queues[REQUESTS];
}

/* A request has a page: its first half is read, the second one written. */
static void *half(const struct share *share, uint64_t page, uint64_t which)
{
	return vdrv_ptr(&share->c->vdrv, share->c->data + page * CONFORM_PAGE + which * HALF, HALF);
}

static void post(const struct share *share, uint64_t page, uint32_t opcode, const void *in, size_t len)
{
	const uint64_t at = share->c->data + page * CONFORM_PAGE;
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + len), .opcode = opcode, .nodeid = share->node,
	};
	const struct vdrv_buffer buffers[] = { { at, header.len, false }, { at + HALF, HALF, true } };
	uint8_t *out = half(share, page, 0);

	memcpy(out, &header, sizeof(header));
	memcpy(out + sizeof(header), in, len);
	CHECK(vdrv_post(queue(share), buffers, ARRAY_SIZE(buffers), 0) >= 0);
	vdrv_kick(queue(share));
}

/* Of a request that has to succeed. */
static const void *ask(const struct share *share, uint32_t opcode, const void *in, size_t len)
{
	const struct fuse_out_header *header = half(share, 0, 1);
	uint16_t id;

	post(share, 0, opcode, in, len);
	CHECK(vdrv_wait(queue(share), VDRV_TIMEOUT_MS) == 0);
	CHECK(vdrv_take(queue(share), &id, NULL));
	CHECK(header->error == 0);
	return header + 1;
}

static void look_up(struct share *share, const char *name)
{
	const struct fuse_entry_out *entry = ask(share, FUSE_LOOKUP, name, strlen(name) + 1);

	share->node = entry->nodeid;
}

static uint64_t open_file(const struct share *share)
{
	const struct fuse_open_in in = { .flags = O_RDONLY };
	const struct fuse_open_out *out = ask(share, FUSE_OPEN, &in, sizeof(in));

	return out->fh;
}

static void mount_share(struct share *share)
{
	const struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = 36, .flags = ~0u };

	share->node = FUSE_ROOT_ID;
	ask(share, FUSE_INIT, &in, sizeof(in));
	look_up(share, "tmp");
	look_up(share, share->path + strlen("/tmp/"));
}

/* One lock that is held, two that are waited for, and what helpers have to do. */
static void begin_much(const struct share *share)
{
	const uint64_t a = open_file(share), b = open_file(share);
	struct fuse_lk_in lock = { .fh = a, .lk.type = F_WRLCK, .lk_flags = FUSE_LK_FLOCK };
	const struct fuse_fsync_in sync = { .fh = a };
	uint64_t page = 0;

	ask(share, FUSE_SETLK, &lock, sizeof(lock));
	lock.fh = b;
	post(share, page++, FUSE_SETLKW, &lock, sizeof(lock));
	for (unsigned int i = 0; i < 3; i++)
		post(share, page++, FUSE_FSYNC, &sync, sizeof(sync));
	post(share, page++, FUSE_READ, &(struct fuse_read_in){ .fh = b, .size = 1024 },
	     sizeof(struct fuse_read_in));
	post(share, page++, FUSE_SETLKW, &lock, sizeof(lock));
	post(share, page++, FUSE_RELEASE, &(struct fuse_release_in){ .fh = b },
	     sizeof(struct fuse_release_in));
}

/* Nobody has a lock any more. */
static bool is_free(const struct share *share)
{
	return flock(share->fd, LOCK_EX | LOCK_NB) == 0 && flock(share->fd, LOCK_UN) == 0;
}

static void begin(struct share *share, struct conform *c)
{
	if (strcmp(c->class->name, "fs"))
		conform_not_here();
	*share = (struct share){ .c = c, .path = "/tmp/share.XXXXXX" };
	share->fd = mkostemp(share->path, O_CLOEXEC);
	CHECK(share->fd >= 0 && ftruncate(share->fd, HALF) == 0);
	conform_threads(c);
	conform_begin(c);
	mount_share(share);
}

static void end(struct share *share)
{
	CHECK(is_free(share));
	CHECK(close(share->fd) == 0 && unlink(share->path) == 0);
	conform_works(share->c);
}

static void resets(struct conform *c, const void *arg)
{
	struct share share;

	(void)arg;
	begin(&share, c);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		begin_much(&share);
		conform_begin(c);
		CHECK(is_free(&share));
		mount_share(&share);
	}
	conform_begin(c);
	end(&share);
}

/* Whoever pauses is told what became of all requests, before it can save anything. */
static void pauses(struct conform *c, const void *arg)
{
	unsigned int used = 0;
	struct share share;
	uint16_t id;

	(void)arg;
	begin(&share, c);
	begin_much(&share);
	vdrv_settle(&c->vdrv);
	virtio_dev_pause(c->vdrv.dev);
	while (vdrv_take(queue(&share), &id, NULL))
		used++;
	CHECK(used == 7);
	virtio_dev_resume(c->vdrv.dev);
	CHECK(!is_free(&share));
	conform_begin(c);
	end(&share);
}

const struct conform_case conform_shares[] = {
	{ "share: resets with locks and with requests in flight", resets, NULL, false },
	{ "share: pauses, too", pauses, NULL, false },
	{ 0 },
};
