// SPDX-License-Identifier: Apache-2.0
/*
 * Kernels in every form that they come in, made and packed here. The memory in
 * front of LAYOUT_KERNEL and behind the end of RAM is without access, so that a
 * stray write ends the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>
#include "arch/aarch64/layout.h"
#include "arch/arch.h"

#define RAM_SIZE MIB(8)
#define ROOM (RAM_SIZE - MIB(2))
#define GUARD KIB(64)

#define IMAGE_LEN KIB(40)
#define IMAGE_SIZE KIB(64) /* with what is not in the file */
#define BOMB MIB(64)
#define TAIL KIB(64) /* what comes behind the payload of an EFI image */

struct header {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags, reserved[3];
	uint32_t magic, pe_offset;
};

struct image {
	struct header header;
	uint8_t code[IMAGE_LEN - sizeof(struct header)];
};

struct zboot {
	char mz[4], type[4];
	uint32_t offset, size, reserved[2];
	char compression[32];
	uint8_t rest[8];
};

/* A file's content. */
struct blob {
	uint8_t *data;
	size_t len;
};

struct fixture {
	struct mem mem;
	uint8_t *mapping, *room; /* the room is RAM from LAYOUT_KERNEL on */
	struct boot_file file;
	struct boot_kernel kernel;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	f->file.fd = memfd_create("image", MFD_CLOEXEC);
	f->mapping = mmap(NULL, RAM_SIZE + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->file.fd < 0 || f->mapping == MAP_FAILED)
		return -1;
	f->room = f->mapping + RAM_SIZE - ROOM;
	if (mprotect(f->room, ROOM, PROT_READ | PROT_WRITE) < 0)
		return -1;
	return mem_add_at(&f->mem, LAYOUT_RAM, RAM_SIZE, f->mapping);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	munmap(f->mapping, RAM_SIZE + GUARD);
	mem_free(&f->mem);
	close(f->file.fd);
	free(f);
	return 0;
}

static int load(struct fixture *f, const void *data, size_t len)
{
	assert_int_equal(ftruncate(f->file.fd, 0), 0);
	assert_int_equal(pwrite(f->file.fd, data, len, 0), len);
	f->file.size = len;
	return arch_load_kernel(&f->file, &f->mem, &f->kernel);
}

/* Loads it and lets it go. */
static int load_blob(struct fixture *f, struct blob blob)
{
	int err = load(f, blob.data, blob.len);

	free(blob.data);
	return err;
}

/* Code of which little can be packed away, so that streams are read in several pieces. */
static struct image *make_image(void)
{
	struct image *image = calloc(1, sizeof(*image));
	uint32_t seed = 1;

	assert_non_null(image);
	image->header = (struct header){
		.code = { 0xfa405a4d, 0x14000000 }, /* begins with "MZ", as an EFI program */
		.image_size = IMAGE_SIZE, .flags = 10, .magic = 0x644d5241, .pe_offset = 64,
	};
	for (size_t i = 0; i < sizeof(image->code); i++) {
		seed = seed * 1103515245 + 12345;
		image->code[i] = (uint8_t)(seed >> 24 & 0x7f);
	}
	return image;
}

static struct blob pack_gzip(const void *data, size_t len)
{
	struct blob blob = { .len = compressBound(len) + 32 };
	z_stream deflater = { .next_in = (void *)data, .avail_in = (uInt)len };

	blob.data = malloc(blob.len);
	assert_non_null(blob.data);
	deflater.next_out = blob.data;
	deflater.avail_out = (uInt)blob.len;
	assert_int_equal(deflateInit2(&deflater, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
	assert_int_equal(deflate(&deflater, Z_FINISH), Z_STREAM_END);
	blob.len = deflater.total_out;
	deflateEnd(&deflater);
	return blob;
}

/* known: the frame tells its content's size, as where the packer was given a file and no pipe. */
static struct blob pack_zstd_as(const void *data, size_t len, bool known, int window)
{
	ZSTD_CCtx *context = ZSTD_createCCtx();
	struct blob blob = { .len = ZSTD_compressBound(len) };
	ZSTD_outBuffer out;
	ZSTD_inBuffer in = { data, len, 0 };

	blob.data = malloc(blob.len);
	assert_non_null(blob.data);
	assert_non_null(context);
	out = (ZSTD_outBuffer){ blob.data, blob.len, 0 };
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)));
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window)));
	if (known)
		assert_false(ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context, len)));
	else /* or the end in the first call would tell */
		assert_false(ZSTD_isError(
			ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue)));
	assert_int_equal(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0);
	blob.len = out.pos;
	ZSTD_freeCCtx(context);
	return blob;
}

static struct blob pack_zstd(const void *data, size_t len)
{
	return pack_zstd_as(data, len, true, 0);
}

/* Consumes the payload. */
static struct blob wrap_zboot(struct blob payload, const char *compression)
{
	struct zboot header = {
		.mz = "MZ", .type = "zimg", .offset = sizeof(header),
		.size = (uint32_t)payload.len,
	};
	struct blob blob = { .len = sizeof(header) + payload.len + TAIL };

	strcpy(header.compression, compression);
	blob.data = calloc(1, blob.len);
	assert_non_null(blob.data);
	memcpy(blob.data, &header, sizeof(header));
	memcpy(blob.data + sizeof(header), payload.data, payload.len);
	free(payload.data);
	return blob;
}

static void assert_loaded(struct fixture *f, const struct image *image, uint64_t offset)
{
	assert_int_equal(f->kernel.entry, LAYOUT_KERNEL + offset);
	assert_int_equal(f->kernel.base, LAYOUT_KERNEL + offset);
	assert_int_equal(f->kernel.end, LAYOUT_KERNEL + offset + IMAGE_SIZE);
	assert_int_equal(f->kernel.initrd_room.gpa, LAYOUT_KERNEL);
	assert_int_equal(f->kernel.initrd_room.len, ROOM);
	assert_int_equal(f->kernel.cmdline_max, 2047);
	assert_memory_equal(f->room + offset, image, sizeof(*image));
	assert_int_equal(f->room[offset + sizeof(*image)], 0);
}

static void an_image_is_loaded(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();

	assert_int_equal(load(f, image, sizeof(*image)), 0);
	assert_loaded(f, image, 0);
	free(image);
}

static void every_form_gives_the_same(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	const struct blob forms[] = {
		pack_gzip(image, sizeof(*image)),
		pack_zstd(image, sizeof(*image)),
		pack_zstd_as(image, sizeof(*image), false, 0),
		/* As zstd -22 does it; a window that is none of the reader's business. */
		pack_zstd_as(image, sizeof(*image), false, 27),
		wrap_zboot(pack_gzip(image, sizeof(*image)), "gzip"),
		wrap_zboot(pack_zstd(image, sizeof(*image)), "zstd22"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		memset(f->room, 0, ROOM);
		f->kernel = (struct boot_kernel){ 0 };
		assert_int_equal(load_blob(f, forms[i]), 0);
		assert_loaded(f, image, 0);
	}
	free(image);
}

static void text_offset_is_kept(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();

	image->header.text_offset = 0x80000;
	assert_int_equal(load(f, image, sizeof(*image)), 0);
	assert_loaded(f, image, 0x80000);
	/* The least that an image can be moved by, and the most. */
	image->header.text_offset = 0x1000;
	assert_int_equal(load_blob(f, pack_gzip(image, sizeof(*image))), 0);
	assert_loaded(f, image, 0x1000);
	image->header.text_offset = ROOM - IMAGE_SIZE;
	assert_int_equal(load_blob(f, pack_zstd(image, sizeof(*image))), 0);
	assert_loaded(f, image, ROOM - IMAGE_SIZE);
	free(image);
}

static void old_kernels_tell_no_size(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();

	image->header.image_size = 0;
	image->header.text_offset = 12345;
	assert_int_equal(load(f, image, sizeof(*image)), 0);
	assert_int_equal(f->kernel.entry, LAYOUT_KERNEL + 0x80000);
	assert_int_equal(f->kernel.end, LAYOUT_KERNEL + 0x80000 + sizeof(*image));
	assert_memory_equal(f->room + 0x80000, image, sizeof(*image));
	free(image);
}

static void image_headers_must_make_sense(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	const struct header good = image->header;

	f->kernel.end = 12345;
#define EXPECT(err, change) \
	do { \
		struct header *h = &image->header; \
		change; \
		assert_int_equal(load(f, image, sizeof(*image)), -(err)); \
		assert_int_equal(load_blob(f, pack_gzip(image, sizeof(*image))), -(err)); \
		assert_int_equal(load_blob(f, pack_zstd(image, sizeof(*image))), -(err)); \
		*h = good; \
	} while (0)

	EXPECT(ENOEXEC, h->magic++);
	EXPECT(ENOTSUP, h->flags |= 1);
	EXPECT(E2BIG, h->image_size = ROOM + 1);
	EXPECT(E2BIG, h->image_size = UINT64_MAX);
	EXPECT(E2BIG, h->text_offset = ROOM - IMAGE_SIZE + 1);
	EXPECT(E2BIG, h->text_offset = UINT64_MAX);
	EXPECT(E2BIG, h->text_offset = h->image_size = 1ULL << 63);
#undef EXPECT
	assert_int_equal(f->kernel.end, 12345);
	free(image);
}

/* A size that is less than what is there hides nothing: the initrd would come over it. */
static void all_of_the_file_counts(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();

	image->header.image_size = 100;
	assert_int_equal(load(f, image, sizeof(*image)), 0);
	assert_int_equal(f->kernel.end, LAYOUT_KERNEL + sizeof(*image));
	image->header.text_offset = ROOM - 100;
	assert_int_equal(load(f, image, sizeof(*image)), -E2BIG);
	free(image);
}

static void zboot_headers_must_make_sense(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	struct blob good = wrap_zboot(pack_gzip(image, sizeof(*image)), "gzip");
	struct zboot *h = (struct zboot *)good.data;
	const struct zboot before = *h;

#define EXPECT(err, change) \
	do { \
		change; \
		assert_int_equal(load(f, good.data, good.len), -(err)); \
		*h = before; \
	} while (0)

	EXPECT(0, h->reserved[0] = 1);
	EXPECT(0, h->size += TAIL);
	EXPECT(EBADMSG, h->size += TAIL + 1);
	EXPECT(EBADMSG, h->size = UINT32_MAX);
	EXPECT(EBADMSG, h->size--);
	EXPECT(EBADMSG, h->size = 3);
	EXPECT(EBADMSG, h->size = 0);
	EXPECT(EBADMSG, h->offset = UINT32_MAX);
	EXPECT(EBADMSG, h->offset = (uint32_t)good.len);
	EXPECT(ENOPKG, h->offset++);
	EXPECT(ENOPKG, h->offset = 0);
	EXPECT(ENOEXEC, h->type[0]++);
	EXPECT(ENOEXEC, h->mz[2] = 1);
#undef EXPECT
	free(good.data);
	free(image);
}

static void what_is_inside_must_be_an_image(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	struct blob inner = pack_gzip(image, sizeof(*image));
	static const uint8_t xz[64] = { 0xfd, '7', 'z', 'X', 'Z' };
	struct blob payload = { calloc(1, sizeof(xz)), sizeof(xz) };

	assert_int_equal(load_blob(f, pack_gzip(inner.data, inner.len)), -ENOEXEC);
	assert_int_equal(load_blob(f, pack_zstd(inner.data, inner.len)), -ENOEXEC);
	assert_int_equal(load_blob(f, wrap_zboot(pack_gzip(inner.data, inner.len), "gzip")),
			 -ENOEXEC);
	/* Too short for a header. */
	assert_int_equal(load_blob(f, wrap_zboot(pack_gzip(image, 63), "gzip")), -ENOEXEC);
	assert_int_equal(load_blob(f, wrap_zboot(pack_zstd(image, 0), "zstd")), -ENOEXEC);

	assert_int_equal(load(f, xz, sizeof(xz)), -ENOEXEC);
	assert_non_null(payload.data);
	memcpy(payload.data, xz, sizeof(xz));
	assert_int_equal(load_blob(f, wrap_zboot(payload, "xzkern")), -ENOPKG);
	free(inner.data);
	free(image);
}

/* At every length below len; an image that is not packed cannot tell once its header is there. */
static void cut(struct fixture *f, struct blob blob)
{
	for (size_t len = 1; len < blob.len; len += len < 256 ? 1 : 61) {
		int err = load(f, blob.data, len);

		assert_true(err == -EBADMSG || (err == -ENOEXEC && len < 64));
	}
	assert_int_equal(load(f, blob.data, blob.len - 1), -EBADMSG);
	assert_int_equal(load(f, blob.data, blob.len), 0);
	/* And a file that became shorter after it was opened. */
	assert_int_equal(ftruncate(f->file.fd, (off_t)blob.len - 1), 0);
	assert_int_equal(arch_load_kernel(&f->file, &f->mem, &f->kernel), -EBADMSG);
	free(blob.data);
}

static void truncated_files_are_refused(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	struct blob zboot = wrap_zboot(pack_zstd(image, sizeof(*image)), "zstd22");

	cut(f, pack_gzip(image, sizeof(*image)));
	cut(f, pack_zstd(image, sizeof(*image)));
	zboot.len -= TAIL;
	cut(f, zboot);
	for (size_t len = 1; len < sizeof(struct header); len++)
		assert_int_equal(load(f, image, len), -ENOEXEC);
	assert_int_equal(load(f, image, sizeof(struct header)), 0);
	free(image);
}

/* One byte at a time. Both formats have checksums, but not over their own headers. */
static void damage(struct fixture *f, struct blob blob, size_t step)
{
	unsigned int refused = 0, tried = 0;

	for (size_t at = 0; at < blob.len; at += step, tried++) {
		int err;

		blob.data[at] ^= (uint8_t)(1 << at % 8);
		err = load(f, blob.data, blob.len);
		blob.data[at] ^= (uint8_t)(1 << at % 8);
		assert_true(!err || err == -EBADMSG || err == -E2BIG || err == -ENOEXEC);
		refused += err != 0;
	}
	assert_in_range(refused, tried - 10, tried);
	free(blob.data);
}

static void damaged_streams_are_refused(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();

	damage(f, pack_gzip(image, sizeof(*image)), 37);
	damage(f, pack_zstd(image, sizeof(*image)), 37);
	damage(f, pack_gzip(image, 1000), 1);
	damage(f, pack_zstd(image, 1000), 1);
	free(image);
}

/* Of what unpacks to more than there is room for, nothing comes behind the end of RAM. */
static void bombs_end_at_the_end_of_ram(void **state)
{
	struct fixture *f = *state;
	uint8_t *zeros = calloc(1, BOMB);
	struct image *image = make_image();

	assert_non_null(zeros);
	memcpy(zeros, image, sizeof(*image));
	f->kernel.end = 12345;
	assert_int_equal(load(f, zeros, ROOM + 1), -E2BIG);
	assert_int_equal(load_blob(f, pack_gzip(zeros, BOMB)), -E2BIG);
	assert_int_equal(load_blob(f, pack_zstd(zeros, BOMB)), -E2BIG);
	assert_int_equal(load_blob(f, pack_zstd_as(zeros, BOMB, false, 0)), -E2BIG);
	assert_int_equal(load_blob(f, pack_gzip(zeros, ROOM + 1)), -E2BIG);
	assert_int_equal(load_blob(f, pack_zstd_as(zeros, ROOM + 1, false, 0)), -E2BIG);
	assert_int_equal(f->kernel.end, 12345);
	assert_int_equal(load(f, zeros, ROOM), 0);
	assert_int_equal(load_blob(f, pack_zstd_as(zeros, ROOM, false, 0)), 0);
	assert_int_equal(load_blob(f, pack_gzip(zeros, ROOM - 1)), 0);
	assert_int_equal(f->kernel.end, LAYOUT_RAM + RAM_SIZE - 1);
	free(image);
	free(zeros);
}

static void memory_must_be_where_kernels_go(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	struct mem elsewhere = { 0 }, small = { 0 }, *const memories[] = { &elsewhere, &small };

	assert_int_equal(mem_add_at(&elsewhere, GIB(8), ROOM, f->room), 0);
	assert_int_equal(mem_add_at(&small, LAYOUT_RAM, MIB(2), f->mapping), 0);
	assert_int_equal(load(f, image, sizeof(*image)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(memories); i++) {
		assert_int_equal(arch_load_kernel(&f->file, memories[i], &f->kernel), -E2BIG);
		mem_free(memories[i]);
	}
	free(image);
}

static void an_initrd_is_where_linux_maps_it(void **state)
{
	struct fixture *f = *state;
	struct image *image = make_image();
	struct mem large = { 0 };

	assert_int_equal(mem_add(&large, LAYOUT_RAM, GIB(40), &(struct mem_backing){ 0 }), 0);
	assert_int_equal(load(f, image, sizeof(*image)), 0);
	assert_int_equal(arch_load_kernel(&f->file, &large, &f->kernel), 0);
	assert_int_equal(f->kernel.initrd_room.gpa, LAYOUT_KERNEL);
	assert_int_equal(f->kernel.initrd_room.gpa + f->kernel.initrd_room.len,
			 LAYOUT_RAM + GIB(32));
	mem_free(&large);
	free(image);
}

static void every_error_has_its_hint(void **state)
{
	static const int errors[] = { ENODATA, EISDIR, EINVAL, ENOEXEC, EBADMSG, ENOTSUP, ENOPKG,
				      E2BIG };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		assert_string_not_equal(hint_find(arch_kernel_hints, errors[i]),
					strerror(errors[i]));
}

/* A kernel's file of images/, or a skip. */
static struct boot_file open_kernel(const char *name)
{
	struct boot_file file = { .fd = -1 };
	char path[256];

	snprintf(path, sizeof(path), "%s/images/guest/%s", getenv("BUILD") ?: "build/aarch64",
		 name);
	if (boot_file_open(&file, path) < 0) {
		print_message("%s is not there: make ARCH=aarch64 guest-kernel\n", path);
		skip();
	}
	return file;
}

static void debians_kernel_is_loaded(void **state)
{
	struct boot_file plain = open_kernel("Image"), packed = open_kernel("Image.gz");
	struct boot_kernel first, second;
	struct mem memories[2] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(memories); i++)
		assert_int_equal(mem_add(&memories[i], LAYOUT_RAM, MIB(128),
					 &(struct mem_backing){ 0 }), 0);
	assert_int_equal(arch_load_kernel(&plain, &memories[0], &first), 0);
	assert_int_equal(arch_load_kernel(&packed, &memories[1], &second), 0);
	assert_int_equal(first.entry, LAYOUT_KERNEL);
	assert_in_range(first.end - first.base, plain.size, MIB(64));
	assert_memory_equal(&first, &second, sizeof(first));
	assert_memory_equal(mem_ptr(&memories[0], first.base, plain.size),
			    mem_ptr(&memories[1], first.base, plain.size), plain.size);
	for (size_t i = 0; i < ARRAY_SIZE(memories); i++)
		mem_free(&memories[i]);
	boot_file_close(&plain);
	boot_file_close(&packed);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(an_image_is_loaded),
		TEST(every_form_gives_the_same),
		TEST(text_offset_is_kept),
		TEST(old_kernels_tell_no_size),
		TEST(image_headers_must_make_sense),
		TEST(all_of_the_file_counts),
		TEST(zboot_headers_must_make_sense),
		TEST(what_is_inside_must_be_an_image),
		TEST(truncated_files_are_refused),
		TEST(damaged_streams_are_refused),
		TEST(bombs_end_at_the_end_of_ram),
		TEST(memory_must_be_where_kernels_go),
		TEST(an_initrd_is_where_linux_maps_it),
		cmocka_unit_test(every_error_has_its_hint),
		cmocka_unit_test(debians_kernel_is_loaded),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
