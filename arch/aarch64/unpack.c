// SPDX-License-Identifier: Apache-2.0
/*
 * A stream is read in small pieces and unpacked to where it belongs, so that it
 * takes no memory but the guest's, and of that no more than there is room.
 */
#include "arch/aarch64/unpack.h"

#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_d_stableOutBuffer */
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define GZIP_MAGIC 0x8b1f
#define GZIP_ONLY 16 /* zlib: to be added to the window's size */

struct stream {
	struct packed rest;
	uint8_t *to;
	size_t room;
	uint8_t piece[KIB(32)];
};

/* Reads the next piece. Returns its length, or -errno. */
static int next_piece(struct stream *stream)
{
	size_t len = util_min(stream->rest.len, sizeof(stream->piece));
	int err;

	if (!len)
		return -EBADMSG;
	err = boot_file_read(stream->rest.file, stream->rest.offset, stream->piece, len);
	stream->rest.offset += len;
	stream->rest.len -= len;
	return err ? err : (int)len;
}

static void inflate_endp(z_stream *inflater)
{
	inflateEnd(inflater);
}

static int64_t unpack_gzip(struct stream *stream)
{
	_cleanup_(inflate_endp) z_stream inflater = {
		.next_out = stream->to,
		.avail_out = (uInt)stream->room,
	};
	int rc = inflateInit2(&inflater, MAX_WBITS + GZIP_ONLY);

	while (rc == Z_OK && inflater.avail_out) {
		if (!inflater.avail_in) {
			int len = next_piece(stream);

			if (len < 0)
				return len;
			inflater.next_in = stream->piece;
			inflater.avail_in = (uInt)len;
		}
		rc = inflate(&inflater, Z_NO_FLUSH);
	}
	switch (rc) {
	case Z_STREAM_END:
		return (int64_t)inflater.total_out;
	case Z_OK:
		return -E2BIG;
	case Z_MEM_ERROR:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
}

static void zstd_freep(ZSTD_DCtx **context)
{
	ZSTD_freeDCtx(*context);
}

static int64_t unpack_zstd(struct stream *stream)
{
	_cleanup_(zstd_freep) ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_outBuffer out = { stream->to, stream->room, 0 };
	ZSTD_inBuffer in = { stream->piece, 0, 0 };
	size_t rc;

	if (!context)
		return -ENOMEM;
	/* It looks back at guest memory then, and not at a copy of its own of up to 128 MiB. */
	rc = ZSTD_DCtx_setParameter(context, ZSTD_d_stableOutBuffer, 1);
	while (!ZSTD_isError(rc)) {
		if (in.pos == in.size) {
			int len = next_piece(stream);

			if (len < 0)
				return len;
			in = (ZSTD_inBuffer){ stream->piece, (size_t)len, 0 };
		}
		rc = ZSTD_decompressStream(context, &out, &in);
		if (!rc)
			return (int64_t)out.pos;
	}
	switch (ZSTD_getErrorCode(rc)) {
	case ZSTD_error_dstSize_tooSmall:
		return -E2BIG;
	case ZSTD_error_memory_allocation:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
}

int64_t unpack(const struct packed *packed, void *to, uint64_t room)
{
	struct stream stream = { .rest = *packed, .to = to, .room = util_min(room, UINT32_MAX) };
	uint32_t magic;
	int err = boot_file_read(packed->file, packed->offset, &magic, sizeof(magic));

	if (err)
		return err;
	if ((uint16_t)magic == GZIP_MAGIC)
		return unpack_gzip(&stream);
	return magic == ZSTD_MAGICNUMBER ? unpack_zstd(&stream) : -ENOEXEC;
}
