// SPDX-License-Identifier: Apache-2.0
/*
 * The length of a term comes before its body and has one to four bytes, which
 * is known only when the body is complete. So a body is written first and then
 * moved up to make room: tables are small, and no term needs a length beforehand.
 */
#include "arch/x86_64/aml.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	OP_ONE = 0x01, /* like OP_ZERO it is its value */
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	PREFIX_DUAL_NAME = 0x2e,
	PREFIX_MULTI_NAME = 0x2f,
	PREFIX_EXTENDED = 0x5b,
	OP_DEVICE = 0x82, /* extended */
	OP_NOTIFY = 0x86,
};

enum {
	RES_PORTS = 0x47,
	RES_END = 0x79,
	RES_MEMORY32_FIXED = 0x86,
	RES_WORD_SPACE = 0x88,
	RES_INTERRUPT = 0x89,
	RES_QWORD_SPACE = 0x8a,
};

#define AML_MAX 0xfffffff /* of a term's length */

#define SPACE_MEMORY 0
#define SPACE_PORTS 1
#define PORTS_ENTIRE 3 /* ISA's aliases are no others' */
#define SPACE_BUS 2
#define SPACE_FIXED 0x0c /* minimum and maximum are fixed; a producer */

static void insert(struct aml *aml, size_t at, const void *bytes, size_t len)
{
	if (aml->full || len > aml->size - aml->len) {
		aml->full = true;
		return;
	}
	memmove(aml->data + at + len, aml->data + at, aml->len - at);
	memcpy(aml->data + at, bytes, len);
	aml->len += len;
}

static void put(struct aml *aml, const void *bytes, size_t len)
{
	insert(aml, aml->len, bytes, len);
}

static void put_byte(struct aml *aml, uint8_t byte)
{
	put(aml, &byte, 1);
}

static void insert_int(struct aml *aml, size_t at, uint64_t value)
{
	static const uint8_t ops[] = {
		[1] = OP_BYTE, [2] = OP_WORD, [4] = OP_DWORD, [8] = OP_QWORD,
	};
	uint8_t bytes[1 + sizeof(value)];
	size_t len = 0;

	if (value > OP_ONE)
		len = value <= UINT8_MAX  ? 1 :
		      value <= UINT16_MAX ? 2 :
		      value <= UINT32_MAX ? 4 : 8;
	bytes[0] = len ? ops[len] : (uint8_t)value;
	memcpy(bytes + 1, &value, len);
	insert(aml, at, bytes, 1 + len);
}

static void put_int(struct aml *aml, uint64_t value)
{
	insert_int(aml, aml->len, value);
}

static void put_name(struct aml *aml, const char *name)
{
	uint8_t segments = 1;

	if (*name == '\\')
		put_byte(aml, (uint8_t)*name++);
	for (const char *c = name; *c; c++)
		segments += *c == '.';
	if (segments == 2) {
		put_byte(aml, PREFIX_DUAL_NAME);
	} else if (segments > 2) {
		put_byte(aml, PREFIX_MULTI_NAME);
		put_byte(aml, segments);
	}
	while (segments--) {
		size_t len = strcspn(name, ".");

		assert(len >= 1 && len <= 4);
		put(aml, name, len);
		put(aml, "____", 4 - len);
		name += len + 1;
	}
}

/* PkgLength (20.2.4) counts itself; the bytes after the first leave it four bits. */
static void insert_length(struct aml *aml, size_t at)
{
	static const size_t limits[] = { 0x3f, 0xfff, 0xfffff, AML_MAX };
	size_t total = aml->len - at + 1;
	unsigned int more = 0;
	uint8_t bytes[4];

	for (; total > limits[more]; more++)
		total++;
	bytes[0] = (uint8_t)(more ? more << 6 | (total & 0xf) : total);
	for (unsigned int i = 0; i < more; i++)
		bytes[1 + i] = (uint8_t)(total >> (4 + 8 * i));
	insert(aml, at, bytes, 1 + more);
}

static void begin(struct aml *aml)
{
	assert(aml->depth < AML_DEPTH);
	aml->open[aml->depth].start = aml->len;
	aml->open[aml->depth].resources = false;
	aml->depth++;
}

void aml_init(struct aml *aml, void *buffer, size_t size)
{
	assert(size < AML_MAX - 4);
	*aml = (struct aml){ .data = buffer, .size = size };
}

int aml_finish(const struct aml *aml, size_t *ret_len)
{
	assert(!aml->depth);
	if (aml->full)
		return -ENOSPC;
	*ret_len = aml->len;
	return 0;
}

void aml_scope(struct aml *aml, const char *name)
{
	put_byte(aml, OP_SCOPE);
	begin(aml);
	put_name(aml, name);
}

void aml_device(struct aml *aml, const char *name)
{
	put_byte(aml, PREFIX_EXTENDED);
	put_byte(aml, OP_DEVICE);
	begin(aml);
	put_name(aml, name);
}

void aml_method(struct aml *aml, const char *name, unsigned int args)
{
	assert(args <= 7);
	put_byte(aml, OP_METHOD);
	begin(aml);
	put_name(aml, name);
	put_byte(aml, (uint8_t)args);
}

void aml_resources(struct aml *aml)
{
	put_byte(aml, OP_NAME);
	put_name(aml, "_CRS");
	put_byte(aml, OP_BUFFER);
	begin(aml);
	aml->open[aml->depth - 1].resources = true;
}

void aml_end(struct aml *aml)
{
	size_t start;

	assert(aml->depth);
	aml->depth--;
	start = aml->open[aml->depth].start;
	if (aml->open[aml->depth].resources) {
		/* A zero checksum counts as right (6.4.2.9). */
		put(aml, (const uint8_t[]){ RES_END, 0 }, 2);
		insert_int(aml, start, aml->len - start);
	}
	insert_length(aml, start);
}

void aml_name_int(struct aml *aml, const char *name, uint64_t value)
{
	put_byte(aml, OP_NAME);
	put_name(aml, name);
	put_int(aml, value);
}

void aml_name_id(struct aml *aml, const char *name, const char *id)
{
	uint32_t eisa;

	put_byte(aml, OP_NAME);
	put_name(aml, name);
	if (strlen(id) != 7) {
		put_byte(aml, OP_STRING);
		put(aml, id, strlen(id) + 1);
		return;
	}
	/* Three letters of five bits and four hex digits, big-endian (19.3.4). */
	eisa = (uint32_t)strtoul(id + 3, NULL, 16);
	for (unsigned int i = 0; i < 3; i++)
		eisa |= (uint32_t)(id[i] - '@') << (26 - 5 * i);
	put_int(aml, __builtin_bswap32(eisa));
}

void aml_name_package(struct aml *aml, const char *name, const uint64_t *values, uint8_t count)
{
	put_byte(aml, OP_NAME);
	put_name(aml, name);
	put_byte(aml, OP_PACKAGE);
	begin(aml);
	put_byte(aml, count);
	for (uint8_t i = 0; i < count; i++)
		put_int(aml, values[i]);
	aml_end(aml);
}

void aml_notify(struct aml *aml, const char *name, uint64_t value)
{
	put_byte(aml, OP_NOTIFY);
	put_name(aml, name);
	put_int(aml, value);
}

void aml_res_memory(struct aml *aml, uint32_t base, uint32_t len)
{
	struct __attribute__((packed)) {
		uint8_t type;
		uint16_t size;
		uint8_t writable;
		uint32_t base, len;
	} memory = { RES_MEMORY32_FIXED, 9, 1, base, len };

	put(aml, &memory, sizeof(memory));
}

void aml_res_ports(struct aml *aml, uint16_t base, uint8_t len)
{
	struct __attribute__((packed)) {
		uint8_t type, decodes_16_bits;
		uint16_t min, max;
		uint8_t align, len;
	} ports = { RES_PORTS, 1, base, base, 1, len };

	put(aml, &ports, sizeof(ports));
}

void aml_res_interrupt(struct aml *aml, uint32_t gsi)
{
	struct __attribute__((packed)) {
		uint8_t type;
		uint16_t size;
		uint8_t flags, count;
		uint32_t gsi;
	} interrupt = { RES_INTERRUPT, 6, 1 /* a consumer */ | 1 << 1 /* edge */, 1, gsi };

	put(aml, &interrupt, sizeof(interrupt));
}

void aml_res_window(struct aml *aml, uint64_t base, uint64_t len)
{
	struct __attribute__((packed)) {
		uint8_t type;
		uint16_t size;
		uint8_t space, flags, writable;
		uint64_t granularity, min, max, translation, len;
	} window = { RES_QWORD_SPACE, 43, SPACE_MEMORY, SPACE_FIXED, 1,
		     0, base, base + len - 1, 0, len };

	put(aml, &window, sizeof(window));
}

/* Numbers of 16 bits: buses or ports. */
static void put_words(struct aml *aml, uint8_t space, uint8_t type_flags, uint16_t first,
		      uint16_t last)
{
	struct __attribute__((packed)) {
		uint8_t type;
		uint16_t size;
		uint8_t space, flags, type_flags;
		uint16_t granularity, min, max, translation, len;
	} words = { RES_WORD_SPACE, 13, space, SPACE_FIXED, type_flags,
		    0, first, last, 0, (uint16_t)(last - first + 1) };

	put(aml, &words, sizeof(words));
}

void aml_res_buses(struct aml *aml, uint8_t first, uint8_t last)
{
	put_words(aml, SPACE_BUS, 0, first, last);
}

void aml_res_port_window(struct aml *aml, uint16_t base, uint16_t len)
{
	put_words(aml, SPACE_PORTS, PORTS_ENTIRE, base, (uint16_t)(base + len - 1));
}
