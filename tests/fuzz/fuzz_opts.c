// SPDX-License-Identifier: Apache-2.0
/*
 * What a person types. The first byte chooses an option table: a class's, whose
 * text is the rest, or all of them by the command line, whose words end in NULs.
 * What was understood must mean the same when it is written out and read again.
 */
#include <assert.h>
#include "devices/classes.h"
#include "devices/virtio/virtio.h"
#include "tests/fuzz/config.h"
#include "tests/fuzz/fuzz.h"

#define WORDS_MAX 64
#define VALUE_MAX 4096

/* Writes a value with its commas doubled. */
static void put_value(FILE *out, const char *value)
{
	for (; *value; value++)
		fprintf(out, "%s%c", *value == ',' ? "," : "", *value);
}

/* What conf holds, as opt_parse() takes it. */
static char *format_all(const struct opt *table, const void *conf)
{
	char value[VALUE_MAX], *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert(out);
	for (const struct opt *opt = table; opt->key; opt++) {
		if (!opt_format(opt, conf, value, sizeof(value)))
			continue;
		fprintf(out, "%s%s=", ftell(out) ? "," : "", opt->key);
		put_value(out, value);
	}
	fclose(out);
	return text;
}

static void parse_twice(const struct virtio_class *class, const char *text)
{
	_cleanup_free_ void *first = calloc(1, class->conf_size + 1);
	_cleanup_free_ void *second = calloc(1, class->conf_size + 1);
	_cleanup_free_ char *written = NULL, *again = NULL;
	struct opt_error error = { "" };
	int err = opt_parse(class->opts, text, first, &error);

	if (err) {
		assert(err == -EINVAL && *error.text);
	} else {
		written = format_all(class->opts, first);
		err = opt_parse(class->opts, written, second, &error);
		again = format_all(class->opts, second);
		assert(!err && !strcmp(written, again));
	}
	opt_free(class->opts, first);
	opt_free(class->opts, second);
}

/* The words of text, without those that name files to read. */
static void parse_words(char *text, size_t len)
{
	char *argv[WORDS_MAX + 1] = { (char *)"microvm" };
	struct opt_error error = { "" };
	struct config config;
	int argc = 1, err;

	for (size_t at = 0; at < len && argc < WORDS_MAX; at += strlen(text + at) + 1)
		if (strncmp(text + at, "--config", strlen("--config")))
			argv[argc++] = text + at;
	err = config_parse(&config, virtio_classes, argc, argv, &error);
	if (err) {
		assert(err == -EINVAL && *error.text);
		return;
	}
	if (!config.check)
		fuzz_config_survives(&config);
	config_free(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = NULL;
	size_t classes = 0;

	if (size < 1 || size > VALUE_MAX)
		return -1;
	while (virtio_classes[classes])
		classes++;
	text = calloc(1, size);
	assert(text);
	memcpy(text, data + 1, size - 1);
	if (data[0] % (classes + 1) == classes)
		parse_words(text, size - 1);
	else
		parse_twice(virtio_classes[data[0] % (classes + 1)], text);
	return 0;
}
