// SPDX-License-Identifier: Apache-2.0
/*
 * A scan goes over the file window by window, so that memory stays bounded: it
 * reads what the refcount blocks say of a window's clusters, follows all tables
 * and counts the references to them, and compares. What is wrong with an entry
 * itself is counted in the first window only, as every window meets it.
 *
 * Repair is scans that write. Blocks that are missing come first, empty and behind
 * all that is in use, until those are counted by a block themselves. Then counts,
 * then the flags, which tell whether a count is one and can be made to agree.
 */
#include <errno.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2.h"

#define ENTRY sizeof(__be64)
#define WINDOW (UINT64_C(1) << 22) /* clusters */
#define WINDOWS_MAX 4096
/* In scan.found: what nothing else may be in the same place as. */
#define EXCLUSIVE (UINT32_C(1) << 31)

enum write { WRITE_NOTHING, WRITE_BLOCKS, WRITE_COUNTS, WRITE_FLAGS };

struct scan {
	int fd;
	enum write write;
	struct qcow2_header header;
	uint64_t file_size;
	uint64_t clusters;     /* of the file, and one more: the last may be there in part only */
	uint64_t first, count; /* of the window */
	uint64_t unused;       /* bytes: where a block that is missing can be */
	uint64_t beyond;       /* the nearest cluster behind the window that has references */
	uint32_t *counted, *found; /* in the window: by the blocks, and by following the tables */
	__be64 *refcount_table, *l2;
	void *block;
	struct qcow2_findings findings;
};

static void scan_free(struct scan *scan)
{
	free(scan->counted);
	free(scan->found);
	free(scan->refcount_table);
	free(scan->l2);
	free(scan->block);
}

static void broken(struct scan *scan)
{
	if (scan->first == 0)
		scan->findings.broken++;
}

static void refer(struct scan *scan, uint64_t offset, uint64_t len, uint32_t exclusive)
{
	uint32_t bits = scan->header.cluster_bits;
	uint64_t at = offset >> bits, end = ((offset + len - 1) >> bits) + 1;

	if (end > scan->clusters) {
		broken(scan);
		return;
	}
	scan->findings.end = util_max(scan->findings.end, end << bits);
	for (at = util_max(at, scan->first); at < end; at++) {
		if (at >= scan->first + scan->count) {
			scan->beyond = util_min(scan->beyond, at);
			return;
		}
		if ((scan->found[at - scan->first] & ~EXCLUSIVE) < EXCLUSIVE - 1)
			scan->found[at - scan->first]++;
		scan->found[at - scan->first] |= exclusive;
	}
}

/* Some of a table's end may be missing. */
static bool table_there(const struct scan *scan, uint64_t offset)
{
	return offset && qcow2_is_aligned(&scan->header, offset) && offset < scan->file_size;
}

/* ---- what the refcount blocks say ---- */

/* Where a block is; 0 where there is none. */
static uint64_t block_offset(const struct scan *scan, uint64_t index)
{
	uint64_t entries = qcow2_refcount_entries(&scan->header);
	uint64_t entry = index < entries ? be64toh(scan->refcount_table[index]) : 0;

	return table_there(scan, entry) ? entry : 0;
}

static void load_counts(struct scan *scan, uint64_t first, uint64_t n)
{
	uint64_t mask = (UINT64_C(1) << qcow2_refcount_block_bits(&scan->header)) - 1, count;

	for (uint64_t i = first; i < first + n; i++) {
		count = qcow2_refcount_get(scan->block, scan->header.refcount_order, i & mask);
		scan->counted[i - scan->first] = (uint32_t)util_min(count, UINT32_MAX);
	}
}

static void correct_counts(struct scan *scan, uint64_t first, uint64_t n)
{
	uint64_t mask = (UINT64_C(1) << qcow2_refcount_block_bits(&scan->header)) - 1, max;
	uint32_t order = scan->header.refcount_order;

	max = UINT64_MAX >> (64 - (1u << order));
	for (uint64_t i = first; i < first + n; i++)
		qcow2_refcount_set(scan->block, order, i & mask,
				   util_min(scan->found[i - scan->first] & ~EXCLUSIVE, max));
}

/* Visits the blocks that count the window's clusters, each with its part of them. */
static int visit_blocks(struct scan *scan, void (*visit)(struct scan *, uint64_t, uint64_t),
			bool write)
{
	uint32_t bits = qcow2_refcount_block_bits(&scan->header);
	uint64_t end = scan->first + scan->count, size = qcow2_cluster_size(&scan->header), next;
	int r = 0;

	for (uint64_t at = scan->first; r == 0 && at < end; at = next) {
		uint64_t offset = block_offset(scan, at >> bits);

		next = util_min(((at >> bits) + 1) << bits, end);
		if (!offset)
			continue;
		r = image_read(scan->fd, scan->block, size, offset);
		if (r < 0)
			return r;
		visit(scan, at, next - at);
		if (write)
			r = image_write(scan->fd, scan->block, size, offset);
	}
	return r;
}

static int create_block(struct scan *scan, uint64_t index)
{
	uint64_t size = qcow2_cluster_size(&scan->header);
	__be64 entry = htobe64(scan->unused);
	int r;

	memset(scan->block, 0, size);
	r = image_write(scan->fd, scan->block, size, scan->unused);
	if (r == 0 && fdatasync(scan->fd) < 0)
		r = -errno;
	if (r == 0)
		r = image_write(scan->fd, &entry, sizeof(entry),
				scan->header.refcount_table_offset + index * ENTRY);
	if (r < 0)
		return r;
	scan->refcount_table[index] = entry;
	scan->unused += size;
	return 0;
}

static bool is_used(const struct scan *scan, uint64_t at, uint64_t end)
{
	while (at < end && !scan->found[at - scan->first])
		at++;
	return at < end;
}

/* For what is in use in the window, where the table has room for them. */
static int create_blocks(struct scan *scan)
{
	uint32_t bits = qcow2_refcount_block_bits(&scan->header);
	uint64_t end = scan->first + scan->count, next;
	int r = 0;

	for (uint64_t at = scan->first; r == 0 && at < end; at = next) {
		next = util_min(((at >> bits) + 1) << bits, end);
		if (at >> bits < qcow2_refcount_entries(&scan->header) &&
		    !scan->refcount_table[at >> bits] && is_used(scan, at, next))
			r = create_block(scan, at >> bits);
	}
	return r;
}

/* The first cluster behind the window that a block counts, or that has a reference. */
static uint64_t next_window(const struct scan *scan)
{
	uint32_t bits = qcow2_refcount_block_bits(&scan->header);
	uint64_t end = scan->first + scan->count, index = end >> bits;

	while (index < qcow2_refcount_entries(&scan->header) && !block_offset(scan, index))
		index++;
	return util_min(scan->beyond, util_max(end, index << bits));
}

/* ---- what the tables say ---- */

static void walk_refcount_table(struct scan *scan)
{
	for (uint64_t i = 0; i < qcow2_refcount_entries(&scan->header); i++) {
		uint64_t entry = be64toh(scan->refcount_table[i]);

		if (entry && !table_there(scan, entry))
			broken(scan);
		else if (entry)
			refer(scan, entry, qcow2_cluster_size(&scan->header), EXCLUSIVE);
	}
}

/* Whether an entry's flag says the same as the count; where it is to be written, it does then. */
static bool correct_flag(struct scan *scan, __be64 *entry)
{
	uint64_t at = (be64toh(*entry) & QCOW2_OFFSET) >> scan->header.cluster_bits;
	bool copied = be64toh(*entry) & QCOW2_COPIED;

	if (at < scan->first || at >= scan->first + scan->count ||
	    (scan->counted[at - scan->first] == 1) == copied)
		return false;
	scan->findings.flags++;
	*entry ^= htobe64(QCOW2_COPIED);
	return scan->write == WRITE_FLAGS;
}

static void walk_compressed(struct scan *scan, uint64_t entry, bool active)
{
	uint64_t offset, len;

	qcow2_compressed(&scan->header, entry, &offset, &len);
	if (entry & QCOW2_COPIED)
		broken(scan);
	refer(scan, offset, len, 0);
	if (active && scan->first == 0)
		scan->findings.compressed++;
}

/* True when it was changed. */
static bool walk_l2_entry(struct scan *scan, __be64 *disk_entry, bool active)
{
	uint64_t entry = be64toh(*disk_entry), offset = entry & QCOW2_OFFSET;
	bool zero = entry & QCOW2_ZERO;

	if (active && scan->first == 0 && (entry & QCOW2_COMPRESSED || (offset && !zero)))
		scan->findings.allocated++;
	if (entry & QCOW2_COMPRESSED) {
		walk_compressed(scan, entry, active);
		return false;
	}
	if (entry & QCOW2_L2_RESERVED || (zero && scan->header.version < 3) ||
	    !qcow2_is_aligned(&scan->header, offset) || (!offset && entry & QCOW2_COPIED)) {
		broken(scan);
		return false;
	}
	if (!offset)
		return false;
	refer(scan, offset, qcow2_cluster_size(&scan->header), 0);
	return active && correct_flag(scan, disk_entry);
}

static int walk_l2(struct scan *scan, uint64_t offset, bool active)
{
	uint64_t size = qcow2_cluster_size(&scan->header);
	int r = image_read(scan->fd, scan->l2, size, offset);
	bool changed = false;

	if (r < 0)
		return r;
	for (uint64_t i = 0; i < size / ENTRY; i++)
		changed |= walk_l2_entry(scan, &scan->l2[i], active);
	return changed ? image_write(scan->fd, scan->l2, size, offset) : 0;
}

static int walk_l1(struct scan *scan, uint64_t offset, uint32_t entries, bool active)
{
	uint64_t size = qcow2_cluster_size(&scan->header);
	_cleanup_free_ __be64 *l1 = NULL;
	bool changed = false;
	int r;

	if (!entries)
		return 0;
	l1 = malloc(entries * ENTRY);
	if (!l1)
		return -ENOMEM;
	r = image_read(scan->fd, l1, entries * ENTRY, offset);
	refer(scan, offset, entries * ENTRY, EXCLUSIVE);
	for (uint32_t i = 0; r == 0 && i < entries; i++) {
		uint64_t entry = be64toh(l1[i]), table = entry & QCOW2_OFFSET;

		if (!entry)
			continue;
		if (entry & QCOW2_L1_RESERVED || !table_there(scan, table)) {
			broken(scan);
			continue;
		}
		refer(scan, table, size, 0);
		changed |= active && correct_flag(scan, &l1[i]);
		r = walk_l2(scan, table, active);
	}
	if (r < 0 || !changed)
		return r;
	return image_write(scan->fd, l1, entries * ENTRY, offset);
}

static int walk_snapshots(struct scan *scan)
{
	uint64_t start = scan->header.snapshots_offset, at = start, len, l1, l1_len;
	struct qcow2_disk_snapshot snapshot;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < scan->header.snapshots; i++, at += util_align_up(len, 8)) {
		r = image_read(scan->fd, &snapshot, sizeof(snapshot), at);
		if (r < 0)
			return r;
		len = sizeof(snapshot) + (uint64_t)be32toh(snapshot.extra_len) +
		      be16toh(snapshot.id_len) + be16toh(snapshot.name_len);
		l1 = be64toh(snapshot.l1_table_offset);
		l1_len = be32toh(snapshot.l1_size) * ENTRY;
		if (at + len - start > QCOW2_SNAPSHOT_TABLE_BYTES_MAX ||
		    !util_within(at, len, scan->file_size)) {
			broken(scan);
			return 0;
		}
		if (l1_len > QCOW2_L1_BYTES_MAX || !table_there(scan, l1) ||
		    !util_within(l1, l1_len, scan->file_size))
			broken(scan);
		else
			r = walk_l1(scan, l1, be32toh(snapshot.l1_size), false);
	}
	if (at > start)
		refer(scan, start, at - start, EXCLUSIVE);
	return r;
}

/* ---- a scan ---- */

static void compare(struct scan *scan)
{
	struct qcow2_findings *findings = &scan->findings;

	for (uint64_t i = 0; i < scan->count; i++) {
		uint32_t found = scan->found[i] & ~EXCLUSIVE;

		findings->broken += scan->found[i] & EXCLUSIVE && found > 1;
		findings->low += scan->counted[i] < found;
		findings->leaks += scan->counted[i] > found;
	}
}

static int scan_window(struct scan *scan)
{
	const struct qcow2_header *header = &scan->header;
	int r;

	memset(scan->counted, 0, scan->count * sizeof(*scan->counted));
	memset(scan->found, 0, scan->count * sizeof(*scan->found));
	scan->beyond = scan->clusters;
	r = visit_blocks(scan, load_counts, false);
	if (r < 0)
		return r;
	refer(scan, 0, qcow2_cluster_size(header), EXCLUSIVE);
	refer(scan, header->refcount_table_offset, qcow2_refcount_entries(header) * ENTRY,
	      EXCLUSIVE);
	walk_refcount_table(scan);
	r = walk_l1(scan, header->l1_offset, header->l1_size, true);
	if (r == 0)
		r = walk_snapshots(scan);
	if (r < 0)
		return r;
	compare(scan);
	if (scan->write == WRITE_BLOCKS)
		return create_blocks(scan);
	return scan->write == WRITE_COUNTS ? visit_blocks(scan, correct_counts, true) : 0;
}

static int scan_run(struct scan *scan, enum write write)
{
	unsigned int windows = 0;
	int r = 0;

	scan->write = write;
	scan->findings = (struct qcow2_findings){ 0 };
	for (scan->first = 0; r == 0 && scan->first < scan->clusters;
	     scan->first = next_window(scan)) {
		if (windows++ == WINDOWS_MAX)
			return -EFBIG;
		scan->count = util_min(WINDOW, scan->clusters - scan->first);
		r = scan_window(scan);
	}
	if (r == 0 && write != WRITE_NOTHING && fsync(scan->fd) < 0)
		r = -errno;
	return r;
}

static void scan_measure(struct scan *scan)
{
	scan->clusters = (scan->file_size - 1) / qcow2_cluster_size(&scan->header) + 2;
}

static int scan_open(struct scan *scan, const char **ret_reason)
{
	struct qcow2_header *header = &scan->header;
	uint64_t size, window;
	int r;

	r = qcow2_header_read(scan->fd, header, &scan->file_size, ret_reason);
	if (r < 0)
		return r;
	/* Their clusters would pass for leaks. */
	if (header->autoclear) {
		*ret_reason = "it has persistent bitmaps or another extra that is not supported here";
		return -EOPNOTSUPP;
	}
	size = qcow2_cluster_size(header);
	scan_measure(scan);
	/* With blocks that are missing. */
	window = util_min(WINDOW, scan->clusters + qcow2_refcount_entries(header) + 1);
	scan->counted = malloc(window * sizeof(*scan->counted));
	scan->found = malloc(window * sizeof(*scan->found));
	scan->refcount_table = malloc(qcow2_refcount_entries(header) * ENTRY);
	scan->l2 = malloc(size);
	scan->block = malloc(size);
	if (!scan->counted || !scan->found || !scan->refcount_table || !scan->l2 || !scan->block)
		return -ENOMEM;
	return image_read(scan->fd, scan->refcount_table, qcow2_refcount_entries(header) * ENTRY,
			  header->refcount_table_offset);
}

static bool can_repair(const struct qcow2_findings *findings, enum qcow2_repair repair)
{
	if (repair == QCOW2_REPAIR_LEAKS)
		return findings->leaks && !qcow2_corruptions(findings);
	return repair == QCOW2_REPAIR_ALL && !findings->broken;
}

/* An image without a fault needs no mark of one. */
static int clear_marks(struct scan *scan)
{
	uint64_t marks = QCOW2_DIRTY | QCOW2_CORRUPT;
	__be64 features = htobe64(scan->header.incompatible & ~marks);

	if (!(scan->header.incompatible & marks))
		return 0;
	return image_write(scan->fd, &features, sizeof(features),
			   offsetof(struct qcow2_disk_header, incompatible_features));
}

static int repair_blocks(struct scan *scan)
{
	uint64_t end;
	int r;

	do {
		end = scan->unused = util_max(scan->unused, scan->findings.end);
		r = scan_run(scan, WRITE_BLOCKS);
		scan->file_size = util_max(scan->file_size, scan->unused);
		scan_measure(scan);
	} while (r == 0 && scan->unused > end);
	return r;
}

static int repair_all(struct scan *scan, enum qcow2_repair repair)
{
	int r = repair == QCOW2_REPAIR_ALL ? repair_blocks(scan) : 0;

	r = r ?: scan_run(scan, WRITE_COUNTS);
	r = r ?: scan_run(scan, WRITE_FLAGS);
	r = r ?: scan_run(scan, WRITE_NOTHING);
	if (r == 0 && repair == QCOW2_REPAIR_ALL && !qcow2_corruptions(&scan->findings))
		r = clear_marks(scan);
	if (r == 0 && fsync(scan->fd) < 0)
		r = -errno;
	return r;
}

int qcow2_check(int fd, enum qcow2_repair repair, struct qcow2_findings *ret_findings,
		const char **ret_reason)
{
	_cleanup_(scan_free) struct scan scan = { .fd = fd };
	const char *reason = NULL;
	int r = scan_open(&scan, &reason);

	r = r ?: scan_run(&scan, WRITE_NOTHING);
	if (r == 0 && can_repair(&scan.findings, repair))
		r = repair_all(&scan, repair);
	if (r == 0)
		*ret_findings = scan.findings;
	else
		*ret_reason = reason ?: r == -EFBIG ? "it is scattered too far" : strerror(-r);
	return r;
}
