// SPDX-License-Identifier: Apache-2.0
/*
 * Two sources give options: a JSON file, then the command line. What the
 * command line says replaces what the file says, except that devices of a
 * class which may occur more than once are added. Defaults come last, for what
 * neither source mentioned.
 */
#include "vmm/config.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include "core/util.h"
#include "devices/virtio/virtio.h"

#define PAGE KIB(4)
#define DEFAULT_CPUS 1
#define DEFAULT_MEMORY MIB(256)
/* How much of a user's text a message repeats. */
#define SHOWN 60
#define WHERE_MAX 256

/* What an option's name stands for. */
struct target {
	const char *name;
	const struct opt *opts;
	const struct opt *row; /* an option of its own; NULL: opts are its keys */
	void *conf;            /* with row, or of a keyed group */
	size_t conf_size;
	const struct virtio_class *class; /* each use of the option makes a device */
	bool action;
};

/* The source that is read now. */
struct source {
	struct config *config;
	struct opt_error *error;
	const char *file;   /* NULL: the command line */
	const char **given; /* names of options in this source, and before known those of the last */
	size_t count, known;
};

/* Begins the message with where the mistake is. */
__attribute__((format(printf, 3, 4)))
static int fail(struct opt_error *error, const char *where, const char *format, ...)
{
	va_list args;
	int len;

	len = snprintf(error->text, sizeof(error->text), "%s%s", where, *where ? ": " : "");
	va_start(args, format);
	if (len >= 0 && (size_t)len < sizeof(error->text))
		vsnprintf(error->text + len, sizeof(error->text) - (size_t)len, format, args);
	va_end(args);
	return -EINVAL;
}

/* The same for what core/opt.c found wrong. */
static int blame(struct opt_error *error, const char *where, int r)
{
	struct opt_error reason = *error;

	if (r == -EINVAL)
		return fail(error, where, "%s", reason.text);
	if (r)
		fail(error, where, "%s", strerror(-r));
	return r;
}

/* All options in turn: those of the groups, then one of each class. */
static bool nth_target(struct config *config, size_t n, struct target *ret)
{
	for (const struct config_group *group = config_groups; group->name; group++) {
		if (group->size && n-- == 0) {
			*ret = (struct target){ .name = group->name, .opts = group->opts,
						.conf = (char *)config + group->offset,
						.conf_size = group->size };
			return true;
		}
		for (const struct opt *row = group->opts; !group->size && row->key; row++) {
			if (n-- != 0)
				continue;
			*ret = (struct target){ .name = row->key, .opts = group->opts, .row = row,
						.conf = config, .action = group->action };
			return true;
		}
	}
	for (const struct virtio_class *const *class = config->classes; *class; class++) {
		if (n-- != 0)
			continue;
		*ret = (struct target){ .name = (*class)->option, .opts = (*class)->opts,
					.class = *class };
		return true;
	}
	return false;
}

static bool find_target(struct config *config, const char *name, struct target *ret)
{
	struct target target;

	for (size_t n = 0; nth_target(config, n, &target); n++) {
		if (strcmp(target.name, name))
			continue;
		*ret = target;
		return true;
	}
	return false;
}

static int fail_unknown(struct source *source, const char *name)
{
	_cleanup_free_ const char **names = NULL;
	struct target target;
	char where[WHERE_MAX];
	const char *nearest;
	size_t count = 0;

	while (nth_target(source->config, count, &target))
		count++;
	names = calloc(count + 1, sizeof(*names));
	if (!names)
		return blame(source->error, name, -ENOMEM);
	for (size_t n = 0; nth_target(source->config, n, &target); n++)
		names[n] = target.name;
	snprintf(where, sizeof(where), "%.*s%s%.*s", SHOWN, source->file ? source->file : "",
		 source->file ? ": " : "--", SHOWN, name);
	nearest = opt_nearest(name, names, count);
	if (nearest && strcmp(nearest, name))
		return fail(source->error, where, "there is no such option, did you mean %s%s?",
			    source->file ? "" : "--", nearest);
	return fail(source->error, where, "%s, microvm --help lists them",
		    nearest ? "this is for the command line only" : "there is no such option");
}

static bool was_given(const struct source *source, const char *name, size_t from)
{
	for (size_t i = from; i < source->count; i++)
		if (!strcmp(source->given[i], name))
			return true;
	return false;
}

/* *ret_first: this source did not give the option before. */
static int note_given(struct source *source, const char *name, bool *ret_first)
{
	bool first = !was_given(source, name, source->known);
	const char **more;

	if (first) {
		more = reallocarray(source->given, source->count + 1, sizeof(*more));
		if (!more)
			return -ENOMEM;
		source->given = more;
		source->given[source->count++] = name;
	}
	*ret_first = first;
	return 0;
}

static void device_free(struct config_device *device)
{
	if (device->conf)
		opt_free(device->class->opts, device->conf);
	free(device->conf);
	free(device->text);
}

static size_t class_count(const struct config *config, const struct virtio_class *class)
{
	size_t count = 0;

	for (size_t i = 0; i < config->device_count; i++)
		count += config->devices[i].class == class;
	return count;
}

static void remove_devices(struct config *config, const struct virtio_class *class)
{
	size_t kept = 0;

	for (size_t i = 0; i < config->device_count; i++) {
		if (config->devices[i].class == class)
			device_free(&config->devices[i]);
		else
			config->devices[kept++] = config->devices[i];
	}
	config->device_count = kept;
}

static size_t class_rank(const struct config *config, const struct virtio_class *class)
{
	size_t rank = 0;

	while (config->classes[rank] != class)
		rank++;
	return rank;
}

/* Puts the device behind the others of its class and takes it over. */
static int insert_device(struct config *config, const struct config_device *device)
{
	size_t rank = class_rank(config, device->class), at = config->device_count;
	struct config_device *more;

	more = reallocarray(config->devices, config->device_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	config->devices = more;
	while (at > 0 && class_rank(config, more[at - 1].class) > rank)
		at--;
	memmove(&more[at + 1], &more[at], (config->device_count - at) * sizeof(*more));
	more[at] = *device;
	config->device_count++;
	return 0;
}

/* "--disk root.img": the option with the value that tells this device from its sisters. */
static char *device_text(const struct source *source, const struct config_device *device)
{
	const struct opt *shown = NULL;
	char value[256] = "", *text;

	for (const struct opt *opt = device->class->opts; opt->key; opt++) {
		if (!opt_format(opt, device->conf, value, sizeof(value)))
			continue;
		if (!shown || opt->bare)
			shown = opt;
	}
	if (shown)
		opt_format(shown, device->conf, value, sizeof(value));
	if (asprintf(&text, "%s%s--%s%s%s%s%s", source->file ? source->file : "",
		     source->file ? ": " : "", device->class->option, shown ? " " : "",
		     shown && !shown->bare ? shown->key : "",
		     shown && !shown->bare && shown->type != OPT_BOOL ? "=" : "",
		     shown && shown->type != OPT_BOOL ? value : "") < 0)
		return NULL;
	return text;
}

/* An option's value: either text, or a JSON object of keys. */
struct value {
	const char *text;
	json_t *object;
};

/* The text of a JSON scalar, as opt_set() takes it; NULL for anything else. */
static const char *scalar_text(const json_t *json, char buffer[32])
{
	if (json_is_string(json))
		return json_string_value(json);
	if (json_is_boolean(json))
		return json_is_true(json) ? "on" : "off";
	if (!json_is_integer(json))
		return NULL;
	snprintf(buffer, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
	return buffer;
}

/* Fills conf from all keys of an option. */
static int set_keys(const struct opt *opts, const struct value *value, void *conf,
		    struct opt_error *error)
{
	char buffer[32], where[WHERE_MAX];
	const char *key, *text;
	json_t *member;
	int r;

	if (!value->object)
		return opt_parse(opts, value->text, conf, error);
	json_object_foreach(value->object, key, member) {
		snprintf(where, sizeof(where), "%.*s", SHOWN, key);
		text = scalar_text(member, buffer);
		if (!text)
			return fail(error, where, "write a string, a number, true or false");
		r = opt_set(opts, key, text, conf, error);
		if (r)
			return blame(error, where, r);
	}
	return opt_complete(opts, conf, error);
}

static int add_device(struct source *source, const struct virtio_class *class,
		      const struct value *value)
{
	struct config_device device = { .class = class, .conf = calloc(1, class->conf_size + 1) };
	int r;

	if (!device.conf)
		return -ENOMEM;
	r = set_keys(class->opts, value, device.conf, source->error);
	if (r)
		goto fail;
	r = -ENOMEM;
	device.text = device_text(source, &device);
	if (!device.text)
		goto fail;
	r = insert_device(source->config, &device);
	if (r == 0)
		return 0;
fail:
	device_free(&device);
	return r;
}

static int set_device(struct source *source, const struct virtio_class *class, bool first,
		      const struct value *value)
{
	if (class->by_default && value->text && !strcmp(value->text, "none")) {
		remove_devices(source->config, class);
		return 0;
	}
	/* The only one: the command line's replaces the file's. */
	if (first && class->max == 1)
		remove_devices(source->config, class);
	if (class->max && class_count(source->config, class) >= class->max)
		return fail(source->error, "", "there can be only %u of it", class->max);
	return add_device(source, class, value);
}

/* Gives one option its value. */
static int set_option(struct source *source, const struct target *target, const char *where,
		      const struct value *value)
{
	bool first;
	int r;

	r = note_given(source, target->name, &first);
	if (r)
		return blame(source->error, where, r);
	if (target->class)
		return blame(source->error, where,
			     set_device(source, target->class, first, value));
	if (!first)
		return fail(source->error, where, "it is given twice, keep one");
	if (target->row)
		return blame(source->error, where,
			     opt_set(target->opts, target->name, value->text, target->conf,
				     source->error));
	assert(target->conf);
	opt_free(target->opts, target->conf);
	memset(target->conf, 0, target->conf_size);
	return blame(source->error, where,
		     set_keys(target->opts, value, target->conf, source->error));
}

/* One JSON value of an option; index is its place in a list, or -1. */
static int set_json(struct source *source, const struct target *target, json_t *json, long index)
{
	struct value value = { 0 };
	char where[WHERE_MAX], buffer[32];
	int len;

	len = snprintf(where, sizeof(where), "%.*s: %s", SHOWN, source->file, target->name);
	if (index >= 0)
		snprintf(where + len, sizeof(where) - (size_t)len, "[%ld]", index);
	if (json_is_object(json) && !target->row)
		value.object = json;
	else if (target->row || json_is_string(json))
		value.text = scalar_text(json, buffer);
	if (!value.object && !value.text)
		return fail(source->error, where, "write %s",
			    target->row ? "a string, a number, true or false"
					: "a string or an object");
	return set_option(source, target, where, &value);
}

static int read_json(struct source *source, json_t *root)
{
	struct target target;
	json_t *json, *item;
	const char *name;
	size_t i;
	int r;

	json_object_foreach(root, name, json) {
		if (!find_target(source->config, name, &target) || target.action)
			return fail_unknown(source, name);
		if (!json_is_array(json) || !target.class) {
			r = set_json(source, &target, json, -1);
			if (r)
				return r;
			continue;
		}
		json_array_foreach(json, i, item) {
			r = set_json(source, &target, item, (long)i);
			if (r)
				return r;
		}
	}
	return 0;
}

static void json_freep(json_t **json)
{
	json_decref(*json);
}

static void fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

static int read_file(struct source *source, const char *path)
{
	_cleanup_(json_freep) json_t *root = NULL;
	_cleanup_(fclosep) FILE *file = NULL;
	char where[WHERE_MAX];
	json_error_t mistake;
	int r;

	snprintf(where, sizeof(where), "--config %.*s", SHOWN, path);
	file = fopen(path, "re");
	if (!file)
		return fail(source->error, where, "the file cannot be opened: %s", strerror(errno));
	root = json_loadf(file, JSON_REJECT_DUPLICATES, &mistake);
	if (!root)
		return fail(source->error, where, "line %d, column %d: %s", mistake.line,
			    mistake.column, mistake.text);
	if (!json_is_object(root))
		return fail(source->error, where, "write an object such as {\"kernel\": \"vmlinux\"}");
	source->file = path;
	r = read_json(source, root);
	source->file = NULL;
	source->known = source->count;
	return r;
}

/* The words of the command line that have not been read. */
struct words {
	int left;
	char *const *next;
};

/* Whether the word after an option may be its value: a value that begins with "--" needs "=". */
static bool is_value(const struct words *words)
{
	return words->left > 0 && strncmp(words->next[0], "--", 2);
}

/* Takes an option with its value, or without one where it has none. */
static int take_option(struct source *source, struct words *words, struct target *ret_target,
		       const char **ret_value)
{
	const char *word = words->next[0];
	_cleanup_free_ char *name = NULL;
	bool optional;

	if (strncmp(word, "--", 2) || !word[2])
		return fail(source->error, "", "%.*s: options begin with --, for example --kernel %.*s",
			    SHOWN, word, SHOWN, word);
	name = strndup(word + 2, strcspn(word + 2, "="));
	if (!name)
		return blame(source->error, word, -ENOMEM);
	if (!find_target(source->config, name, ret_target))
		return fail_unknown(source, name);
	words->next++;
	words->left--;
	*ret_value = NULL;
	if (strchr(word, '=')) {
		*ret_value = strchr(word, '=') + 1;
		return 0;
	}
	if (ret_target->row && ret_target->row->type == OPT_BOOL)
		return 0;
	optional = !ret_target->row || !strcmp(name, "help");
	if (is_value(words)) {
		*ret_value = *words->next++;
		words->left--;
	} else if (optional) {
		*ret_value = "";
	} else {
		return fail(source->error, word, "it needs a value%s%s",
			    ret_target->row->arg ? ": " : "",
			    ret_target->row->arg ? ret_target->row->arg : "");
	}
	return 0;
}

static int set_from_word(struct source *source, const struct target *target, const char *value)
{
	const struct value text = { .text = value };
	char where[WHERE_MAX];

	/* The one value that may be empty. */
	if (value && !strcmp(target->name, "help")) {
		free(source->config->help);
		source->config->help = strdup(value);
		return source->config->help ? 0 : blame(source->error, "--help", -ENOMEM);
	}
	snprintf(where, sizeof(where), "--%s%s%.*s", target->name, value && *value ? " " : "",
		 SHOWN, value ? value : "");
	return set_option(source, target, where, &text);
}

/* files: only what --config names, which comes first wherever it stands. */
static int read_words(struct source *source, struct words words, bool files)
{
	struct target target = { .name = "" };
	const char *value = "";
	int r;

	while (words.left > 0) {
		r = take_option(source, &words, &target, &value);
		if (r)
			return r;
		if (!files)
			r = set_from_word(source, &target, value);
		else if (!strcmp(target.name, "config"))
			r = read_file(source, value);
		if (r)
			return r;
	}
	return 0;
}

static int check_memory(struct config *config, struct opt_error *error)
{
	struct config_memory *memory = &config->memory;
	uint64_t unit = memory->backing.hugepage ? memory->backing.hugepage : PAGE;

	if (!memory->size)
		memory->size = DEFAULT_MEMORY;
	if (unit != PAGE && unit != MIB(2) && unit != GIB(1))
		return fail(error, "--memory", "hugepages: choose 2M or 1G");
	if (memory->size % unit)
		return fail(error, "--memory", "size=%" PRIu64 ": choose a multiple of %s",
			    memory->size, unit == PAGE ? "4K" : unit == MIB(2) ? "2M" : "1G");
	return 0;
}

/* Devices that are there unless they are turned off. */
static int add_defaults(struct source *source)
{
	const struct value nothing = { .text = "" };
	struct config *config = source->config;
	int r;

	for (const struct virtio_class *const *class = config->classes; *class; class++) {
		if (!(*class)->by_default || was_given(source, (*class)->option, 0))
			continue;
		/* There is one terminal, and the serial port was asked for. */
		if ((*class)->opts == chardev_opts && config->serial.stdio)
			continue;
		r = add_device(source, *class, &nothing);
		if (r)
			return blame(source->error, (*class)->option, r);
	}
	return 0;
}

/* Where a device keeps its address; NULL where it has none, or none was given. */
static const uint8_t *device_mac(const struct config_device *device)
{
	static const uint8_t none[6];
	const uint8_t *mac;

	for (const struct opt *opt = device->class->opts; opt->key; opt++) {
		mac = (const uint8_t *)device->conf + opt->offset;
		if (opt->type == OPT_MAC && memcmp(mac, none, sizeof(none)))
			return mac;
	}
	return NULL;
}

static int check_addresses(const struct config *config, struct opt_error *error)
{
	for (size_t i = 0; i < config->device_count; i++) {
		const struct config_device *device = &config->devices[i];
		const uint8_t *mac = device_mac(device);

		for (size_t j = 0; mac && j < i; j++) {
			const uint8_t *other = device_mac(&config->devices[j]);
			char where[WHERE_MAX];

			if (!other || memcmp(mac, other, 6))
				continue;
			snprintf(where, sizeof(where), "%.*s", 2 * SHOWN, device->text);
			return fail(error, where, "%.*s has the same MAC address, change one of them",
				    2 * SHOWN, config->devices[j].text);
		}
	}
	return 0;
}

/* Defaults, and what can only be judged when everything was read. */
static int complete(struct source *source)
{
	struct config *config = source->config;
	struct chardev_conf *serial = &config->serial;
	int r;

	if (!config->cpus)
		config->cpus = DEFAULT_CPUS;
	config->has_serial = was_given(source, "serial", 0) && !serial->none;
	if (config->has_serial && !serial->pty && !serial->file && !serial->socket)
		serial->stdio = true;
	r = check_memory(config, source->error);
	if (r)
		return r;
	r = add_defaults(source);
	if (r)
		return r;
	r = check_addresses(config, source->error);
	if (r)
		return r;
	if (!config->kernel && !config->help && !config->version && !config->print)
		return fail(source->error, "--kernel", "it is missing: name a kernel, for example "
			    "microvm --kernel vmlinux (microvm --help tells more)");
	return 0;
}

static int parse(struct source *source, const struct words *words)
{
	int r;

	if (words->left > 0 && !strcmp(words->next[0], "check")) {
		source->config->check = true;
		return words->left == 1 ? 0 : fail(source->error, "check", "it takes no options");
	}
	r = read_words(source, *words, true);
	if (r)
		return r;
	r = read_words(source, *words, false);
	if (r)
		return r;
	return complete(source);
}

int config_parse(struct config *config, const struct virtio_class *const *classes, int argc,
		 char *const *argv, struct opt_error *error)
{
	const struct words words = { argc > 0 ? argc - 1 : 0, argv + 1 };
	struct config result = { .classes = classes, .log_level = LOG_WARN };
	struct source source = { .config = &result, .error = error };
	int r;

	r = parse(&source, &words);
	free(source.given);
	if (r)
		config_free(&result);
	else
		*config = result;
	return r;
}

void config_free(struct config *config)
{
	for (const struct config_group *group = config_groups; group->name; group++)
		opt_free(group->opts, (char *)config + group->offset);
	for (size_t i = 0; i < config->device_count; i++)
		device_free(&config->devices[i]);
	free(config->devices);
	*config = (struct config){ 0 };
}
