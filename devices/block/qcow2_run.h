/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A qcow2 image in use: what its modules share.
 *
 *	qcow2.c		the engine: requests, and which of them wait for what
 *	qcow2_open.c	the format: opening, backing files
 *	qcow2_file.c	the file itself, and what is written back to it in which order
 *	qcow2_map.c	where a guest's bytes are: L1 and L2
 *	qcow2_alloc.c	which clusters are free: reference counts
 *	qcow2_tables.c	which clusters are tables
 *	qcow2_cache.c	slices of L2 tables and refcount blocks in memory
 *	qcow2_copy.c	reads and writes that are more than a transfer
 *	qcow2_inflate.c	compressed clusters
 *	qcow2_grow.c	a longer disk
 *
 * The order of writes is what keeps an image whole when the process is killed
 * or the power fails. Nothing leads to a cluster before its count is in the
 * file, and no count goes down before nothing leads there any more:
 *
 *	counts that go up, data; fdatasync; L2 entries; fdatasync; L1 entries;
 *	fdatasync; counts that go down
 *
 * so that what is lost on the way is room, never data. Changes of counts and of
 * entries stay in memory until a flush or until the cache is full; what is to
 * be freed waits in a list until what led there is gone from the file. Until
 * then it is not given away again either, as requests may still be reading it.
 *
 * The first fdatasync is saved where nothing has to be in front of the entries:
 * counts were written before, with the reserve, and data that comes to where the
 * disk and the file both had zeroes may as well be lost as its entry. With lazy
 * refcounts counts are of no account until the image is closed, as it is marked
 * dirty before: whoever finds the mark counts anew.
 *
 * One thread uses an image at a time.
 */
#ifndef DEVICES_BLOCK_QCOW2_RUN_H
#define DEVICES_BLOCK_QCOW2_RUN_H

#include <sys/uio.h>
#include "devices/block/block.h"
#include "devices/block/qcow2.h"

/* The clusters that one step changes at most, and the list that takes what they free. */
#define QCOW2_RUN_MAX 256
#define QCOW2_FREES 1024

struct qcow2_inflate;

struct qcow2_backing {
	struct block_image image; /* its fd is -1 where there is none */
	struct qcow2 *qcow2;      /* NULL: raw */
	uint64_t size;            /* bytes, behind which it reads as zeroes */
};

enum qcow2_kind { QCOW2_REFCOUNTS, QCOW2_L2, QCOW2_KINDS };

struct qcow2_slice {
	uint64_t offset; /* in the file; 0: free */
	uint64_t used;   /* when, for eviction */
	enum qcow2_kind kind;
	bool dirty;
	struct qcow2_slice *next_dirty;
};

struct qcow2_cache {
	struct qcow2_slice *slices;
	uint8_t *data;
	uint32_t slice_size;
	unsigned int sets;
	uint64_t clock;
	struct qcow2_slice *dirty[QCOW2_KINDS];
};

struct qcow2_clusters {
	uint64_t first, count;
};

/* L2 tables and refcount blocks, by their offsets. */
struct qcow2_tables {
	uint64_t *places;
	size_t count, room;
};

struct qcow2 {
	struct qcow2_header header;
	struct block_image *image; /* the same file, for its data */
	int fd;              /* without O_DIRECT */
	bool read_only;
	bool corrupt;        /* found so: nothing is written any more */
	bool lazy;           /* counts are written when the disk comes to rest */
	/* Numbers of writes, by us: so many; up to which they are durable; up to which L2 waits for that. */
	uint64_t written, synced, barrier;
	unsigned int moving; /* transfers in flight, whose places are yet to settle: L2 waits */
	struct block_queue queue; /* the one there can be, */
	const struct block_queue *child; /* and what moves its data */
	bool fixed;          /* a block device: it does not grow */
	uint64_t file_size;  /* bytes that are there */
	uint64_t limit;      /* where the last cluster ends that the tables may lead to */
	uint64_t *l1;
	uint32_t l1_dirty, l1_dirty_end; /* the entries that the file lacks */
	uint64_t *refcount_table;
	uint32_t refcount_blocks; /* what of it is in use: no entry behind */
	struct qcow2_tables tables;
	struct qcow2_cache cache;
	uint64_t free_hint; /* no cluster in front of it is free */
	struct qcow2_clusters reserve; /* counted, and nothing leads there yet */
	bool reserve_clean; /* it reads as zeroes, and so did what was just taken from it */
	struct qcow2_clusters frees[QCOW2_FREES];
	unsigned int free_count;
	struct qcow2_backing backing;
	struct qcow2_inflate *inflate; /* made by the first compressed cluster */
	uint8_t *bounce;       /* a cluster */
	const uint8_t *zeroes; /* a cluster */
};

static inline uint32_t qcow2_in_cluster(const struct qcow2 *q, uint64_t offset)
{
	return (uint32_t)(offset & (qcow2_cluster_size(&q->header) - 1));
}

/* ---- qcow2_file.c ---- */

/* All of it or -errno; a read beyond the end of the file gives zeroes. */
int qcow2_pread(const struct qcow2 *q, void *buffer, size_t len, uint64_t offset);
int qcow2_pwrite(struct qcow2 *q, const void *buffer, size_t len, uint64_t offset);
/* A table of 64-bit entries, which the caller has in host order. */
int qcow2_write_table(struct qcow2 *q, const uint64_t *table, uint64_t entries, uint64_t offset);
/* Zeroes up to there where the file ends before. */
int qcow2_extend(struct qcow2 *q, uint64_t size);
/* What was written so far, and one thing more, has to be durable before L2 is written. */
void qcow2_order(struct qcow2 *q);
bool qcow2_is_unsynced(const struct qcow2 *q);
/* A sync that somebody else began when so many were written is over. */
void qcow2_synced(struct qcow2 *q, uint64_t written);
int qcow2_sync(struct qcow2 *q);
/* Lazy refcounts: before the first count changes. */
int qcow2_mark_dirty(struct qcow2 *q);
/* The tables lie: marks the image so, and it will not be written again. Returns -EIO. */
int qcow2_lies(struct qcow2 *q);
int qcow2_write_counts(struct qcow2 *q);
/* Of all tables what can go to the file before the next sync. 1: there is more. */
int qcow2_write_some(struct qcow2 *q);
/* All tables, in order. After a sync nothing leads to what is on the list of frees. */
int qcow2_write_back(struct qcow2 *q);
bool qcow2_is_dirty(const struct qcow2 *q);
/* Nothing is in flight, and nothing may follow: the file is made whole, without leaks. */
int qcow2_rest(struct qcow2 *q);

/* ---- qcow2_cache.c ---- */

int qcow2_cache_init(struct qcow2 *q, uint64_t size);
void qcow2_cache_free(struct qcow2_cache *cache);
/* The slice of a table in which offset lies; valid until the next call of any module. */
int qcow2_cache_get(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset, void **ret_data);
void qcow2_cache_dirty(struct qcow2 *q, const void *data);
/* Forgets a cluster that becomes a table. */
void qcow2_cache_drop(struct qcow2 *q, uint64_t offset);
int qcow2_cache_write(struct qcow2 *q, enum qcow2_kind kind);
bool qcow2_cache_is_dirty(const struct qcow2 *q, enum qcow2_kind kind);

/* ---- qcow2_alloc.c ---- */

/*
 * Up to count clusters in a row, at least one: -ENOSPC, -EIO. Their count is
 * one from now on, and q->reserve_clean tells whether they read as zeroes.
 */
int qcow2_alloc(struct qcow2 *q, uint64_t count, struct qcow2_clusters *ret_clusters);
/* Once nothing leads there any more. There has to be room: see qcow2_frees_room(). */
void qcow2_free_later(struct qcow2 *q, uint64_t first, uint64_t count);
bool qcow2_frees_room(const struct qcow2 *q);
/* Nothing may be in flight, and what led there must be gone from the file. */
int qcow2_free_now(struct qcow2 *q);
/* What is left of the reserve. */
int qcow2_give_back(struct qcow2 *q);

/* ---- qcow2_tables.c ---- */

/* Once what leads to them was read. -EUCLEAN: it lies. */
int qcow2_tables_init(struct qcow2 *q);
/* Before there can be more: room for count of them. */
int qcow2_tables_room(struct qcow2 *q, uint64_t count);
void qcow2_tables_add(struct qcow2 *q, uint64_t place);
void qcow2_tables_remove(struct qcow2 *q, uint64_t place);
/* The header or a table in use, for certain. */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset, uint64_t len);

/* ---- qcow2_map.c ---- */

enum qcow2_content { QCOW2_HOLE, QCOW2_ZEROES, QCOW2_DATA, QCOW2_PACKED };

/* Neighbouring guest clusters that are alike. */
struct qcow2_extent {
	enum qcow2_content content;
	bool own;       /* data, or zeroes that have a place: written to in place */
	bool placed;    /* just now */
	bool ordered;   /* what is written has to be there before the entries are */
	uint64_t entry; /* the first one's, as the L2 table has it, or had it before it was placed */
	uint64_t host;  /* of the byte that was asked for, where there is one */
	/* By qcow2_find(): whose it is, and the file, if that is not the disk's own. */
	struct qcow2 *owner;
	const struct block_image *base;
	uint64_t len;   /* bytes from the one that was asked for, no more than were asked for */
};

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret_extent);
/*
 * Lets count guest clusters from offset's on, which lie in one slice, have
 * entry, and the next ones those of the clusters behind.
 */
int qcow2_map_set(struct qcow2 *q, uint64_t offset, uint64_t count, uint64_t entry);
/* Frees later what so many entries lead to, the first of which is entry. */
void qcow2_map_free(struct qcow2 *q, uint64_t entry, uint64_t count);

/* ---- qcow2_copy.c ---- */

/* For reading: in the first image of the chain that has it. */
int qcow2_find(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret_extent);
int qcow2_read(struct qcow2 *q, void *buffer, size_t len, uint64_t offset);
/*
 * Gives what is about to be written, and so far has nowhere to be written to, a
 * place of its own, with what was around it: as much of extent as one go can,
 * which it says then. If that is ordered, qcow2_settle() has to follow.
 */
int qcow2_place(struct qcow2 *q, uint64_t offset, struct qcow2_extent *extent);
/*
 * What was written to the place is there, or, by result, is not: what was there
 * before is freed, or comes back. L2 must not have been written in between.
 */
void qcow2_settle(struct qcow2 *q, uint64_t offset, const struct qcow2_extent *extent, int result);
/* The beginning of a range: how much of it was done. Nothing may be in flight. */
ssize_t qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t len, bool unmap);
ssize_t qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t len);
/* Whether it reads as zeroes without a look at any data. */
bool qcow2_is_zero(const struct qcow2 *q, const struct qcow2_extent *extent, uint64_t offset);

/* ---- qcow2_inflate.c ---- */

/* The cluster's bytes, valid until the next call. */
int qcow2_inflate(struct qcow2 *q, uint64_t entry, const uint8_t **ret_data);
/* What is compressed where may change. */
void qcow2_inflate_forget(struct qcow2 *q);
void qcow2_inflate_free(struct qcow2_inflate *state);

/* ---- qcow2_grow.c ---- */

/* -EFBIG: with its clusters it cannot be that long; -ENOTEMPTY: its backing file is longer. */
int qcow2_grow(struct qcow2 *q, uint64_t size);

/* ---- qcow2.c ---- */

int qcow2_queue_open(struct block_disk *disk, unsigned int depth, struct block_queue *ret_queue);

#endif
