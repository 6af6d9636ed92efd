// SPDX-License-Identifier: Apache-2.0
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/block/image.h"
#include "devices/block/qcow2_run.h"

#define BACKING_DEPTH_MAX 8 /* images of a chain, each of which has a file to keep open */
#define CACHE_DEFAULT MIB(4)
#define LIMIT_MAX (UINT64_C(1) << 56)

static int load_table(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **ret_table)
{
	_cleanup_free_ uint64_t *table = calloc(util_max(entries, 1), sizeof(*table));
	int r;

	if (!table)
		return -ENOMEM;
	r = qcow2_pread(q, table, entries * sizeof(*table), offset);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < entries; i++)
		table[i] = be64toh(table[i]);
	*ret_table = util_steal_ptr(&table);
	return 0;
}

static int load_tables(struct qcow2 *q)
{
	uint64_t blocks = qcow2_refcount_entries(&q->header);
	int r = load_table(q, q->header.l1_offset, q->header.l1_size, &q->l1);

	if (r == 0)
		r = load_table(q, q->header.refcount_table_offset, blocks, &q->refcount_table);
	if (r < 0)
		return r;
	while (blocks && !q->refcount_table[blocks - 1])
		blocks--;
	q->refcount_blocks = (uint32_t)blocks;
	return qcow2_tables_init(q);
}

/* What we do not keep up to date is no longer so from our first write on. */
static int clear_autoclear(struct qcow2 *q)
{
	const __be64 none = 0;

	if (!q->header.autoclear)
		return 0;
	return qcow2_pwrite(q, &none, sizeof(none),
			    offsetof(struct qcow2_disk_header, autoclear_features));
}

static int prepare_to_write(struct qcow2 *q)
{
	int r;

	if (q->header.incompatible & QCOW2_CORRUPT)
		return -EUCLEAN;
	r = clear_autoclear(q);
	/* From here on the file ends where a cluster does. */
	return r < 0 || q->fixed ? r : qcow2_extend(q, util_align_up(q->file_size,
						    qcow2_cluster_size(&q->header)));
}

/* What the errors of images mean where disks are opened. */
static int as_disk(int r)
{
	switch (r) {
	case -EMEDIUMTYPE:
		return -EILSEQ;
	case -EOPNOTSUPP:
		return -ENOPKG;
	case -EFBIG:
		return -EUCLEAN;
	default:
		return r;
	}
}

static int read_header(struct qcow2 *q)
{
	const char *reason;

	return as_disk(qcow2_header_read(q->fd, &q->header, &q->file_size, &reason));
}

/* Whoever had it open left with its counts to be made up: lazy refcounts. */
static int clean_up(struct qcow2 *q)
{
	struct qcow2_findings findings;
	const char *reason;
	int r = qcow2_check(q->fd, QCOW2_REPAIR_ALL, &findings, &reason);

	if (r < 0)
		return as_disk(r);
	if (qcow2_corruptions(&findings))
		return -EUCLEAN;
	return read_header(q);
}

static int allocate(struct qcow2 *q, uint64_t cache_size)
{
	uint64_t cluster = qcow2_cluster_size(&q->header);

	q->bounce = malloc(cluster);
	q->zeroes = calloc(1, cluster);
	if (!q->bounce || !q->zeroes)
		return -ENOMEM;
	return qcow2_cache_init(q, cache_size ?: CACHE_DEFAULT);
}

static void qcow2_close(struct qcow2 *q)
{
	while (q) {
		struct qcow2 *next = q->backing.qcow2;

		/* A backing file's fd is its image's. */
		if (next)
			next->fd = -1;
		block_image_close(&q->backing.image);
		qcow2_inflate_free(q->inflate);
		qcow2_cache_free(&q->cache);
		free((void *)q->zeroes);
		free(q->bounce);
		free(q->tables.places);
		free(q->refcount_table);
		free(q->l1);
		util_closep(&q->fd);
		free(q);
		q = next;
	}
}

static void qcow2_closep(struct qcow2 **q)
{
	qcow2_close(*q);
}

/* The same file once more: metadata is not aligned as O_DIRECT wants it. */
static int open_again(const struct block_image *image)
{
	int flags = fcntl(image->fd, F_GETFL), fd;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
	if (flags & O_DIRECT)
		fd = open(path, (image->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	else
		fd = fcntl(image->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* One image, without what it is based on. */
static int open_image(struct qcow2 **ret_qcow2, struct block_image *image, uint64_t cache_size)
{
	_cleanup_(qcow2_closep) struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->backing.image.fd = -1;
	q->image = image;
	q->read_only = image->read_only;
	q->fixed = image->device;
	q->fd = open_again(image);
	r = q->fd < 0 ? q->fd : read_header(q);
	if (r == 0 && q->header.incompatible & QCOW2_DIRTY && !q->read_only)
		r = clean_up(q);
	if (r == 0)
		r = allocate(q, cache_size);
	if (r == 0)
		r = load_tables(q);
	if (r == 0 && !q->read_only)
		r = prepare_to_write(q);
	if (r < 0)
		return r;
	q->lazy = !q->read_only && q->header.compatible & QCOW2_LAZY_REFCOUNTS;
	q->limit = q->fixed ? q->file_size & ~(qcow2_cluster_size(&q->header) - 1) : LIMIT_MAX;
	*ret_qcow2 = util_steal_ptr(&q);
	return 0;
}

/* What q is based on. Replaces *path, the image's, by the path of that. */
static int open_backing(struct qcow2 *q, char **path, uint64_t cache_size)
{
	bool raw = !strcmp(q->header.backing_format, "raw");
	char *name = qcow2_backing_path(*path, q->header.backing);

	if (!name)
		return -ENOMEM;
	free(*path);
	*path = name;
	if (!raw && strcmp(q->header.backing_format, "qcow2") != 0)
		return -ENOMSG;
	if (block_image_open(&q->backing.image, name, true, false) < 0)
		return -ELIBACC;
	q->backing.size = q->backing.image.size;
	q->image->base = &q->backing.image;
	q->backing.image.number = q->image->number + 1;
	if (raw)
		return 0;
	if (open_image(&q->backing.qcow2, &q->backing.image, cache_size) < 0)
		return -ELIBACC;
	q->backing.size = q->backing.qcow2->header.size;
	/* One fd does for both; it keeps the lock, which belongs to what both are of. */
	util_closep(&q->backing.qcow2->fd);
	q->backing.qcow2->fd = q->backing.image.fd;
	return 0;
}

static int open_chain(struct qcow2 *q, const struct block_conf *conf)
{
	_cleanup_free_ char *path = strdup(conf->path);
	int r = path ? 0 : -ENOMEM;

	for (unsigned int depth = 1; r == 0 && q && *q->header.backing; depth++) {
		if (!conf->backing)
			return -EXDEV;
		if (depth == BACKING_DEPTH_MAX)
			return -ELOOP;
		r = open_backing(q, &path, conf->cache_size);
		q = q->backing.qcow2;
	}
	return r;
}

static int format_open(struct block_disk *disk)
{
	_cleanup_(qcow2_closep) struct qcow2 *opened = NULL;
	struct qcow2 *q;
	int r;

	if (disk->conf->scratch)
		return -EILSEQ;
	r = open_image(&opened, &disk->image, disk->conf->cache_size);
	if (r == 0)
		r = open_chain(opened, disk->conf);
	if (r < 0)
		return r;
	q = disk->own = util_steal_ptr(&opened);
	disk->image.size = q->header.size;
	/* Of what has a backing file not all can be given back. */
	disk->reads_zeroes = !*q->header.backing;
	/* Direct I/O that wants more than a cluster at once. */
	return disk->image.buffer_align && disk->image.block_size > qcow2_cluster_size(&q->header) ?
	       -EOPNOTSUPP : 0;
}

static void format_close(struct block_disk *disk)
{
	qcow2_close(disk->own);
}

static size_t format_fds(const struct block_disk *disk, int fds[BLOCK_FDS_MAX - 1])
{
	const struct qcow2 *q = disk->own;
	size_t n = 0;

	for (; q; q = q->backing.qcow2) {
		fds[n++] = q->fd;
		if (q->backing.image.fd >= 0 && !q->backing.qcow2)
			fds[n++] = q->backing.image.fd;
	}
	return n;
}

static int format_resize(struct block_disk *disk, uint64_t bytes, uint64_t *ret_size)
{
	struct qcow2 *q = disk->own;
	int r = 0;

	if (q->queue.engine)
		q->queue.ops->drain(q->queue.engine);
	/* Nobody else can have made it longer: it is locked. */
	if (bytes > q->header.size)
		r = qcow2_grow(q, bytes);
	if (r == 0)
		*ret_size = q->header.size;
	return r;
}

static_assert(BACKING_DEPTH_MAX + 1 <= BLOCK_FDS_MAX - 1, "a chain has an fd for each file");

const struct block_format block_qcow2 = {
	.open = format_open,
	.close = format_close,
	.fds = format_fds,
	.resize = format_resize,
	.queue_open = qcow2_queue_open,
};
