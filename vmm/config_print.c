// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>
#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "vmm/config.h"

/* The field's value; NULL when it was not given. *ret_error when it cannot be written. */
static json_t *field_json(const struct opt *opt, const void *conf, int *ret_error)
{
	const void *field = (const char *)conf + opt->offset;
	char buffer[64];
	json_t *json;

	/* The first choice counts as not given, but tells what is in force. */
	if (opt->type == OPT_CHOICE)
		json = json_string(opt->choices[*(const int *)field]);
	else if (!opt_format(opt, conf, buffer, sizeof(buffer)))
		return NULL;
	else if (opt->type == OPT_STRING)
		json = json_string(*(char *const *)field);
	else if (opt->type == OPT_BOOL)
		json = json_true();
	else if (opt->type == OPT_UINT && *(const uint64_t *)field <= INT64_MAX)
		json = json_integer((json_int_t)*(const uint64_t *)field);
	else
		json = json_string(buffer);
	if (!json)
		*ret_error = opt->type == OPT_STRING ? -EILSEQ : -ENOMEM;
	return json;
}

/* Adds the fields of a table to object. */
static int fields_json(const struct opt *opts, const void *conf, json_t *object)
{
	json_t *json;
	int err = 0;

	for (const struct opt *opt = opts; opt->key; opt++) {
		json = field_json(opt, conf, &err);
		if (err)
			return err;
		if (json && json_object_set_new(object, opt->key, json))
			return -ENOMEM;
	}
	return 0;
}

static int group_json(const struct config *config, const struct config_group *group, json_t *root)
{
	json_auto_t *keys = NULL;
	int err;

	if (!group->size)
		return fields_json(group->opts, config, root);
	keys = json_object();
	err = fields_json(group->opts, (const char *)config + group->offset, keys);
	if (err)
		return err;
	if (json_object_size(keys) && json_object_set(root, group->name, keys))
		return -ENOMEM;
	return 0;
}

/* All devices of a class. */
static int class_json(const struct config *config, const struct virtio_class *class, json_t *root)
{
	json_auto_t *list = json_array();
	json_t *shown = list;
	int err;

	for (size_t i = 0; i < config->device_count; i++) {
		json_t *keys = json_object();

		if (config->devices[i].class != class) {
			json_decref(keys);
			continue;
		}
		if (json_array_append_new(list, keys))
			return -ENOMEM;
		err = fields_json(class->opts, config->devices[i].conf, keys);
		if (err)
			return err;
	}
	if (json_array_size(list) == 0 && !class->by_default)
		return 0;
	if (json_array_size(list) == 0)
		return json_object_set_new(root, class->option, json_string("none")) ? -ENOMEM : 0;
	if (class->max == 1)
		shown = json_array_get(list, 0);
	return json_object_set(root, class->option, shown) ? -ENOMEM : 0;
}

int config_print(const struct config *config, FILE *out)
{
	json_auto_t *root = json_object();
	int err;

	for (const struct config_group *group = config_groups; group->name; group++) {
		if (group->action)
			continue;
		err = group_json(config, group, root);
		if (err)
			return err;
	}
	for (const struct virtio_class *const *class = config->classes; *class; class++) {
		err = class_json(config, *class, root);
		if (err)
			return err;
	}
	if (json_dumpf(root, out, JSON_INDENT(2)) || fputc('\n', out) == EOF || fflush(out))
		return -EIO;
	return 0;
}
