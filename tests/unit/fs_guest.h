/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that speaks FUSE itself, by the device's own thread in its sandbox. Beside the directory
 * lies a file that it must never reach: at the end it is what it was, and there is nothing new around it.
 */
#ifndef TESTS_UNIT_FS_GUEST_H
#define TESTS_UNIT_FS_GUEST_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "tests/lib/child.h"
#include "tests/lib/vdrv.h"

#define ROOT FUSE_ROOT_ID
#define ROOM KIB(68)
#define REQUESTS 1 /* the queue behind that for FORGET */
#define CANARY "not for the guest"
#ifdef __SANITIZE_THREAD__
/* It takes fds of one number for the same, whosever table they are in, and looks for words to say so. */
#define CONFINE false
#else
#define CONFINE (!child_emulator())
#endif

extern const struct virtio_class fs_class;

struct guest {
	char path[32];    /* the canary lies there, */
	char shared[64];  /* and this is for the guest */
	struct statx canary;
	struct vdrv vdrv;
	uint64_t out, in; /* guest memory for a request, and for its reply */
	uint32_t uid;
};

#define NAME(name) (const void *)(name), strlen(name) + 1
#define IN(in) (const void *)&(in), sizeof(in)

/* ---- the guest ---- */

static inline const void *reply(const struct guest *guest)
{
	return (uint8_t *)vdrv_ptr(&guest->vdrv, guest->in, ROOM) + sizeof(struct fuse_out_header);
}

/* How many bytes of the buffers were used. */
static inline uint32_t exchange_buffers(struct vdrv_queue *queue, const struct vdrv_buffer *buffers,
					unsigned int count)
{
	uint32_t used;
	uint16_t id;

	assert_true(vdrv_post(queue, buffers, count, 0) >= 0);
	vdrv_kick(queue);
	assert_int_equal(vdrv_wait(queue, VDRV_TIMEOUT_MS), 0);
	assert_true(vdrv_take(queue, &id, &used));
	return used;
}

/* The request in guest memory, of len bytes. Its error, or the length of its reply. */
static inline ssize_t exchange(struct guest *guest, size_t len)
{
	const struct vdrv_buffer buffers[] = {
		{ guest->out, (uint32_t)len, false }, { guest->in, ROOM, true },
	};
	const uint32_t used = exchange_buffers(&guest->vdrv.queues[REQUESTS], buffers,
					       ARRAY_SIZE(buffers));
	const struct fuse_out_header *header = vdrv_ptr(&guest->vdrv, guest->in, ROOM);

	assert_true(used >= sizeof(*header) && header->len == used);
	assert_true(header->error <= 0 && (!header->error || used == sizeof(*header)));
	return header->error ?: (ssize_t)(used - sizeof(*header));
}

/* A request whose arguments are parts in a row, ended by NULL: pointers and lengths. */
static inline ssize_t ask(struct guest *guest, uint32_t opcode, uint64_t node, ...)
{
	struct fuse_in_header *header = vdrv_ptr(&guest->vdrv, guest->out, ROOM);
	size_t len = sizeof(*header);
	const void *part;
	va_list parts;

	va_start(parts, node);
	while ((part = va_arg(parts, const void *))) {
		size_t size = va_arg(parts, size_t);

		memcpy((uint8_t *)header + len, part, size);
		len += size;
	}
	va_end(parts);
	*header = (struct fuse_in_header){
		.len = (uint32_t)len, .opcode = opcode, .unique = 1, .nodeid = node,
		.uid = guest->uid, .gid = guest->uid,
	};
	return exchange(guest, len);
}

static inline uint64_t lookup(struct guest *guest, uint64_t dir, const char *name)
{
	ssize_t n = ask(guest, FUSE_LOOKUP, dir, NAME(name), NULL);

	return n < 0 ? 0 : ((const struct fuse_entry_out *)reply(guest))->nodeid;
}

static inline ssize_t open_node(struct guest *guest, uint32_t opcode, uint64_t node,
				uint32_t flags, uint64_t *ret_fh)
{
	const struct fuse_open_in in = { .flags = flags };
	ssize_t n = ask(guest, opcode, node, IN(in), NULL);

	*ret_fh = n < 0 ? 0 : ((const struct fuse_open_out *)reply(guest))->fh;
	return n;
}

static inline void release(struct guest *guest, uint64_t node, uint64_t fh)
{
	const struct fuse_release_in in = { .fh = fh };

	assert_int_equal(ask(guest, FUSE_RELEASE, node, IN(in), NULL), 0);
}

static inline ssize_t create(struct guest *guest, uint64_t dir, const char *name, uint32_t flags)
{
	const struct fuse_create_in in = { .flags = O_RDWR | O_CREAT | flags, .mode = S_IFREG | 0666 };

	return ask(guest, FUSE_CREATE, dir, IN(in), NAME(name), NULL);
}

/* What can be read there, which is never the canary. */
static inline void read_node(struct guest *guest, uint64_t node)
{
	struct fuse_read_in in = { .size = 4096 };
	ssize_t n;

	if (open_node(guest, FUSE_OPEN, node, O_RDONLY, &in.fh) < 0)
		return;
	n = ask(guest, FUSE_READ, node, IN(in), NULL);
	assert_true(n < 0 || !memmem(reply(guest), (size_t)n, CANARY, strlen(CANARY)));
	release(guest, node, in.fh);
}

static inline void init(struct guest *guest)
{
	const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .flags = ~0u,
	};

	assert_int_equal(ask(guest, FUSE_INIT, 0, IN(in), NULL), sizeof(struct fuse_init_out));
}

/* ---- the host ---- */

static inline const char *path_of(const struct guest *guest, const char *name)
{
	static _Thread_local char path[256];

	snprintf(path, sizeof(path), "%s/%s", guest->path, name);
	return path;
}

static inline void host_writes(const struct guest *guest, const char *name, const char *text)
{
	FILE *file = fopen(path_of(guest, name), "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static inline void host_links(const struct guest *guest, const char *name, const char *target)
{
	assert_int_equal(symlink(target, path_of(guest, name)), 0);
}

static inline struct statx canary(const struct guest *guest)
{
	struct statx st;

	assert_int_equal(statx(AT_FDCWD, path_of(guest, "canary"), 0, STATX_BASIC_STATS, &st), 0);
	return st;
}

static inline unsigned int entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Buffers of a device may lie there. */
static inline void add_window(struct vdrv *vdrv, const struct window *window)
{
	if (window->hva)
		assert_int_equal(mem_add_window(&vdrv->mem, VDRV_SHM, window->len, window->hva), 0);
}

static inline void share(struct guest *guest, const char *dir, const char *options)
{
	char text[128];
	struct vdrv_setup setup = {
		.class = &fs_class, .options = text, .transport = VDRV_PCI,
		.confine = CONFINE,
	};

	snprintf(text, sizeof(text), "%s,tag=test%s", dir, options);
	assert_int_equal(vdrv_open(&guest->vdrv, &setup), 0);
	add_window(&guest->vdrv, &guest->vdrv.dev->shm.window);
	assert_int_equal(vdrv_run(&guest->vdrv), 0);
	assert_int_equal(vdrv_begin(&guest->vdrv, 0, 0), 0);
	guest->out = vdrv_alloc(&guest->vdrv, ROOM);
	guest->in = vdrv_alloc(&guest->vdrv, ROOM);
	guest->uid = geteuid();
	init(guest);
}

static inline void furnish(struct guest *guest)
{
	*guest = (struct guest){ .path = "/tmp/escape.XXXXXX" };
	assert_non_null(mkdtemp(guest->path));
	snprintf(guest->shared, sizeof(guest->shared), "%s/shared", guest->path);
	host_writes(guest, "canary", CANARY);
	assert_int_equal(mkdir(guest->shared, 0755), 0);
	host_writes(guest, "shared/file", "in the directory");
	assert_int_equal(mkdir(path_of(guest, "shared/dir"), 0755), 0);
	host_writes(guest, "shared/dir/file", "below it");
	guest->canary = canary(guest);
}

static inline void open_guest(struct guest *guest, const char *options)
{
	furnish(guest);
	share(guest, guest->shared, options);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* The device works on, and nothing has left the directory. */
static inline void close_guest(struct guest *guest)
{
	struct statx now = canary(guest);

	init(guest);
	assert_true(!vdrv_needs_reset(&guest->vdrv));
	vdrv_close(&guest->vdrv);
	/* Its link count, owner, mode, size and all times are in there. */
	assert_memory_equal(&now, &guest->canary, sizeof(now));
	assert_int_equal(entries(guest->path), 4);
	assert_int_equal(nftw(guest->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
