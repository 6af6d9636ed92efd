// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include "devices/block/qcow2_run.h"

#define WINDOW_BITS 12
/* Larger than any cluster takes; zstd's own limit would let an image take 128 MiB. */
#define ZSTD_WINDOW_BITS 23

struct qcow2_inflate {
	z_stream zlib;
	ZSTD_DCtx *zstd;
	uint64_t entry; /* whose bytes data has; 0: nobody's */
	uint8_t *data;   /* a cluster */
	uint8_t *packed; /* as much as an entry can name: two clusters */
};

static int inflate_init(struct qcow2_inflate *state, const struct qcow2_header *header)
{
	state->data = malloc(qcow2_cluster_size(header));
	state->packed = malloc(2 * qcow2_cluster_size(header));
	if (!state->data || !state->packed)
		return -ENOMEM;
	if (header->compression == QCOW2_ZLIB)
		return inflateInit2(&state->zlib, -WINDOW_BITS) == Z_OK ? 0 : -ENOMEM;
	state->zstd = ZSTD_createDCtx();
	if (!state->zstd)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(state->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_BITS);
	return 0;
}

void qcow2_inflate_free(struct qcow2_inflate *state)
{
	if (!state)
		return;
	inflateEnd(&state->zlib);
	ZSTD_freeDCtx(state->zstd);
	free(state->packed);
	free(state->data);
	free(state);
}

static bool unpack_zlib(struct qcow2_inflate *state, size_t packed_len, size_t cluster)
{
	z_stream *zlib = &state->zlib;
	int r;

	if (inflateReset(zlib) != Z_OK)
		return false;
	zlib->next_in = state->packed;
	zlib->avail_in = (uInt)packed_len;
	zlib->next_out = state->data;
	zlib->avail_out = (uInt)cluster;
	r = inflate(zlib, Z_FINISH);
	/* What is behind in its last sector is not its own. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && zlib->avail_out == 0;
}

static bool unpack_zstd(struct qcow2_inflate *state, size_t packed_len, size_t cluster)
{
	ZSTD_inBuffer in = { state->packed, packed_len, 0 };
	ZSTD_outBuffer out = { state->data, cluster, 0 };
	size_t in_before, out_before;

	ZSTD_DCtx_reset(state->zstd, ZSTD_reset_session_only);
	do {
		in_before = in.pos;
		out_before = out.pos;
		if (ZSTD_isError(ZSTD_decompressStream(state->zstd, &out, &in)))
			return false;
	} while (out.pos < cluster && (in.pos > in_before || out.pos > out_before));
	return out.pos == cluster;
}

int qcow2_inflate(struct qcow2 *q, uint64_t entry, const uint8_t **ret_data)
{
	size_t cluster = qcow2_cluster_size(&q->header);
	uint64_t offset, len;
	bool whole;
	int r = 0;

	if (!q->inflate) {
		q->inflate = calloc(1, sizeof(*q->inflate));
		r = q->inflate ? inflate_init(q->inflate, &q->header) : -ENOMEM;
	}
	if (r < 0)
		return r;
	if (q->inflate->entry != entry) {
		q->inflate->entry = 0;
		qcow2_compressed(&q->header, entry, &offset, &len);
		r = qcow2_pread(q, q->inflate->packed, len, offset);
		if (r < 0)
			return r;
		whole = q->header.compression == QCOW2_ZLIB ?
			unpack_zlib(q->inflate, len, cluster) :
			unpack_zstd(q->inflate, len, cluster);
		/* The guest's data is damaged, but nothing that would lead to other data. */
		if (!whole)
			return -EIO;
		q->inflate->entry = entry;
	}
	*ret_data = q->inflate->data;
	return 0;
}

void qcow2_inflate_forget(struct qcow2 *q)
{
	if (q->inflate)
		q->inflate->entry = 0;
}
