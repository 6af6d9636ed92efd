// SPDX-License-Identifier: Apache-2.0
#include "vmm/image_command.h"

#include <inttypes.h>
#include "core/util.h"
#include "devices/block/image.h"

/* Exit statuses, as of qemu-img's check. */
#define STATUS_CORRUPT 2
#define STATUS_LEAKS 3

static void print_findings(const char *path, const struct qcow2_findings *findings)
{
	const struct {
		uint64_t count;
		const char *what;
	} rows[] = {
		{ findings->broken, "broken entries of tables" },
		{ findings->low, "clusters whose reference count is too low" },
		{ findings->flags, "entries with a wrong flag of their reference count" },
		{ findings->leaks, "clusters lost to nobody (leaks)" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].count)
			printf("%s: %" PRIu64 " %s\n", path, rows[i].count, rows[i].what);
	printf("%s: %" PRIu64 " clusters allocated, %" PRIu64 " of them compressed; %s\n", path,
	       findings->allocated, findings->compressed,
	       qcow2_corruptions(findings) ? "it is damaged" : findings->leaks ? "it is sound but "
	       "for leaks, --repair leaks gives them back" : "it is sound");
}

int image_check(const struct image_conf *conf)
{
	_cleanup_(block_image_close) struct block_image image = { .fd = -1 };
	struct qcow2_findings findings;
	const char *reason;

	if (conf->format == BLOCK_FORMAT_RAW)
		return image_fail(conf->path, "there is nothing to check in a raw image");
	if (image_open(&image, conf->path, conf->repair == QCOW2_REPAIR_NOTHING))
		return EXIT_FAILURE;
	if (qcow2_check(image.fd, (enum qcow2_repair)conf->repair, &findings, &reason) < 0)
		return image_fail(conf->path, "%s", reason);
	print_findings(conf->path, &findings);
	if (qcow2_corruptions(&findings))
		return STATUS_CORRUPT;
	return findings.leaks ? STATUS_LEAKS : EXIT_SUCCESS;
}
