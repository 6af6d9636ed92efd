// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>
#include "core/util.h"
#include "vmm/config_source.h"

#define NUMBER_MAX 32

/* What opt_set() takes for a member; empty, which it refuses, for what no option's value can be. */
static const char *scalar_text(const json_t *json, char buffer[NUMBER_MAX])
{
	if (json_is_string(json))
		return json_string_value(json);
	if (json_is_boolean(json))
		return json_is_true(json) ? "on" : "off";
	if (!json_is_integer(json))
		return "";
	snprintf(buffer, NUMBER_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
	return buffer;
}

int config_set_object(const struct opt *opts, json_t *object, void *conf, struct opt_error *error)
{
	char buffer[NUMBER_MAX];
	json_t *member;
	const char *key;
	int err;

	json_object_foreach(object, key, member) {
		err = opt_set(opts, key, scalar_text(member, buffer), conf, error);
		if (err)
			return config_blame(error, key, err);
	}
	return opt_complete(opts, conf, error);
}

/* One value of an option; index is its place in a list, or -1. */
static int read_value(struct config_source *source, const struct config_target *target,
		      json_t *json, long index)
{
	char where[CONFIG_WHERE_MAX], buffer[NUMBER_MAX];
	struct config_value value = { 0 };
	int len;

	len = snprintf(where, sizeof(where), "%.*s: %s", OPT_SHOWN, source->file, target->name);
	if (index >= 0)
		snprintf(where + len, sizeof(where) - (size_t)len, "[%ld]", index);
	if (target->row || json_is_string(json))
		value.text = scalar_text(json, buffer);
	else if (json_is_object(json))
		value.object = json;
	else
		return config_fail(source->error, where, "write a string or an object");
	return config_set(source, target, where, &value);
}

static int read_root(struct config_source *source, json_t *root)
{
	struct config_target target;
	json_t *json, *item;
	const char *name;
	size_t i;
	int err;

	json_object_foreach(root, name, json) {
		err = config_find(source, name, &target);
		if (err)
			return err;
		if (!json_is_array(json) || !target.class) {
			err = read_value(source, &target, json, -1);
			if (err)
				return err;
			continue;
		}
		json_array_foreach(json, i, item) {
			err = read_value(source, &target, item, (long)i);
			if (err)
				return err;
		}
	}
	return 0;
}

static void fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

int config_read_json(struct config_source *source, const char *path)
{
	_cleanup_(fclosep) FILE *file = fopen(path, "re");
	char where[CONFIG_WHERE_MAX];
	json_auto_t *root = NULL;
	json_error_t mistake;
	int err;

	snprintf(where, sizeof(where), "--config %s", path);
	if (!file)
		return config_fail(source->error, where, "the file cannot be opened: %s",
				   strerror(errno));
	root = json_loadf(file, JSON_REJECT_DUPLICATES, &mistake);
	if (!root)
		return config_fail(source->error, where, "line %d, column %d: %s", mistake.line,
				   mistake.column, mistake.text);
	if (!json_is_object(root))
		return config_fail(source->error, where,
				   "write an object such as {\"kernel\": \"vmlinux\"}");
	source->file = path;
	err = read_root(source, root);
	source->file = NULL;
	source->known = source->count;
	return err;
}
