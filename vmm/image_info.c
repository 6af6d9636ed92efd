// SPDX-License-Identifier: Apache-2.0
#include "vmm/image_command.h"

#include <errno.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/util.h"
#include "devices/block/qcow2.h"

static void describe_file(json_t *facts, const char *path, const char *format, uint64_t size,
			  const struct stat *st)
{
	json_object_set_new(facts, "path", json_string(path));
	json_object_set_new(facts, "format", json_string(format));
	json_object_set_new(facts, "size", json_integer((json_int_t)size));
	json_object_set_new(facts, "used", json_integer((json_int_t)st->st_blocks * 512));
}

static void describe_qcow2(json_t *facts, const struct qcow2_header *header)
{
	static const char *const compressions[] = { [QCOW2_ZLIB] = "zlib", [QCOW2_ZSTD] = "zstd" };

	json_object_set_new(facts, "version", json_integer(header->version));
	json_object_set_new(facts, "cluster_size",
			    json_integer((json_int_t)qcow2_cluster_size(header)));
	json_object_set_new(facts, "refcount_bits", json_integer(1 << header->refcount_order));
	json_object_set_new(facts, "compression", json_string(compressions[header->compression]));
	json_object_set_new(facts, "snapshots", json_integer(header->snapshots));
	json_object_set_new(facts, "lazy_refcounts",
			    json_boolean(header->compatible & QCOW2_LAZY_REFCOUNTS));
	json_object_set_new(facts, "dirty", json_boolean(header->incompatible & QCOW2_DIRTY));
	json_object_set_new(facts, "corrupt", json_boolean(header->incompatible & QCOW2_CORRUPT));
	if (*header->backing)
		json_object_set_new(facts, "backing", json_string(header->backing));
	if (*header->backing_format)
		json_object_set_new(facts, "backing_format", json_string(header->backing_format));
}

static void print_facts(json_t *facts)
{
	const char *key;
	json_t *value;

	json_object_foreach(facts, key, value) {
		for (const char *c = key; *c; c++)
			putchar(*c == '_' ? ' ' : *c);
		if (json_is_integer(value))
			printf(": %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
		else if (json_is_boolean(value))
			printf(": %s\n", json_is_true(value) ? "yes" : "no");
		else
			printf(": %s\n", json_string_value(value));
	}
}

static int describe(json_t *facts, const struct image_conf *conf, int fd)
{
	struct qcow2_header header;
	const char *reason;
	uint64_t file_size;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return image_fail(conf->path, "%s", strerror(errno));
	if (conf->format != BLOCK_FORMAT_QCOW2) {
		if (image_is_disguised(fd, conf->format))
			return image_fail_disguised(conf->path);
		describe_file(facts, conf->path, "raw", (uint64_t)lseek(fd, 0, SEEK_END), &st);
		return 0;
	}
	if (qcow2_header_read(fd, &header, &file_size, &reason) < 0)
		return image_fail(conf->path, "%s", reason);
	describe_file(facts, conf->path, "qcow2", header.size, &st);
	describe_qcow2(facts, &header);
	return 0;
}

int image_info(const struct image_conf *conf)
{
	_cleanup_close_ int fd = -1;
	json_t *facts;
	int status;

	if (image_open_to_look(conf->path, &fd))
		return EXIT_FAILURE;
	facts = json_object();
	status = describe(facts, conf, fd);
	if (status == 0 && conf->json) {
		json_dumpf(facts, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (status == 0) {
		print_facts(facts);
	}
	json_decref(facts);
	return status;
}
