// SPDX-License-Identifier: Apache-2.0
/*
 * A qcow2 image to check, to repair or to resize, which the last byte of the
 * input chooses; the bytes in front of it are the new size. What was repaired
 * or resized has to be sound.
 */
#include "devices/block/image.h"
#include "devices/block/qcow2.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX KIB(256)
#define CHOICE (sizeof(uint64_t) + 1)

static void check(int fd, enum qcow2_repair repair)
{
	struct qcow2_findings findings, after;
	const char *reason = NULL;
	int r = qcow2_check(fd, repair, &findings, &reason);

	assert(r == 0 || reason);
	if (r < 0 || repair == QCOW2_REPAIR_NOTHING)
		return;
	r = qcow2_check(fd, QCOW2_REPAIR_NOTHING, &after, &reason);
	assert(r == 0 && !memcmp(&findings, &after, sizeof(after)));
	assert(repair != QCOW2_REPAIR_LEAKS || qcow2_corruptions(&after) || !after.leaks);
}

static void resize(int fd, uint64_t size)
{
	struct qcow2_findings findings;
	struct qcow2_header header;
	const char *reason = NULL;
	uint64_t file_size;
	int r = qcow2_resize(fd, size, &reason);

	assert(r == 0 || reason);
	if (r < 0)
		return;
	r = qcow2_header_read(fd, &header, &file_size, &reason);
	assert(r == 0 && header.size == size);
	r = qcow2_check(fd, QCOW2_REPAIR_NOTHING, &findings, &reason);
	assert(r == 0 && !qcow2_corruptions(&findings) && !findings.leaks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct boot_file file;
	uint64_t wanted;

	if (!file.fd)
		fuzz_file_init(&file);
	if (size < CHOICE || size > INPUT_MAX)
		return -1;
	size -= CHOICE;
	memcpy(&wanted, data + size, sizeof(wanted));
	fuzz_file_set(&file, data, size, size);
	if (data[size + sizeof(wanted)] % 4 == 3)
		resize(file.fd, wanted % GIB(1) / 512 * 512);
	else
		check(file.fd, data[size + sizeof(wanted)] % 4);
	return 0;
}
