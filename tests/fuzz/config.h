/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration through its JSON form and back. */
#ifndef TESTS_FUZZ_CONFIG_H
#define TESTS_FUZZ_CONFIG_H

#include <assert.h>
#include <stdio.h>
#include <sys/mman.h>
#include "core/util.h"
#include "devices/classes.h"
#include "vmm/config.h"

/* Parses len bytes as --config FILE does. */
static inline int fuzz_read_config(const void *json, size_t len, struct config *config,
				   struct opt_error *error)
{
	_cleanup_close_ int fd = memfd_create("config", MFD_CLOEXEC);
	char path[32];
	char *argv[] = { (char *)"microvm", (char *)"--print-config", (char *)"--config", path, NULL };
	bool written = write(fd, json, len) == (ssize_t)len;

	assert(written);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return config_parse(config, virtio_classes, ARRAY_SIZE(argv) - 1, argv, error);
}

/* NULL when it holds text that is not UTF-8, which JSON cannot tell. */
static inline char *fuzz_print_config(const struct config *config, size_t *ret_len)
{
	_cleanup_free_ char *json = NULL;
	FILE *out = open_memstream(&json, ret_len);
	int err;

	assert(out);
	err = config_print(config, out);
	fclose(out);
	assert(!err || err == -EILSEQ);
	return err ? NULL : util_steal_ptr(&json);
}

/* What --print-config prints means the same to --config. */
static inline void fuzz_config_survives(const struct config *config)
{
	_cleanup_free_ char *first = NULL, *second = NULL;
	struct opt_error error = { "" };
	struct config again;
	size_t len;
	int err;

	first = fuzz_print_config(config, &len);
	if (!first)
		return;
	err = fuzz_read_config(first, len, &again, &error);
	if (err)
		fprintf(stderr, "%s\n%s\n", first, error.text);
	assert(!err);
	second = fuzz_print_config(&again, &len);
	assert(second && !strcmp(first, second));
	config_free(&again);
}

#endif
