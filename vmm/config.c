// SPDX-License-Identifier: Apache-2.0
/*
 * Two sources give options: a JSON file, then the command line. What the
 * command line says replaces what the file says, except that devices of a
 * class which may occur more than once are added. Defaults come last, for what
 * neither source mentioned.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "vmm/config_source.h"

#define PAGE KIB(4)
#define DEFAULT_CPUS 1
#define DEFAULT_MEMORY MIB(256)

int config_fail(struct opt_error *error, const char *where, const char *format, ...)
{
	va_list args;
	int len;

	len = snprintf(error->text, sizeof(error->text), "%.*s%s", CONFIG_WHERE_MAX, where,
		       *where ? ": " : "");
	va_start(args, format);
	vsnprintf(error->text + len, sizeof(error->text) - (size_t)len, format, args);
	va_end(args);
	return -EINVAL;
}

int config_blame(struct opt_error *error, const char *where, int err)
{
	struct opt_error reason = *error;

	if (err)
		config_fail(error, where, "%s", err == -EINVAL ? reason.text : strerror(-err));
	return err;
}

/* ---- options ---- */

/* All options in turn: those of the groups, then one of each class. */
static bool nth_target(struct config *config, size_t n, struct config_target *ret)
{
	for (const struct config_group *group = config_groups; group->name; group++) {
		if (group->size && n-- == 0) {
			*ret = (struct config_target){
				.name = group->name, .opts = group->opts,
				.conf = (char *)config + group->offset, .conf_size = group->size,
			};
			return true;
		}
		for (const struct opt *row = group->opts; !group->size && row->key; row++) {
			if (n-- != 0)
				continue;
			*ret = (struct config_target){
				.name = row->key, .opts = group->opts, .row = row,
				.conf = config, .action = group->action,
			};
			return true;
		}
	}
	for (const struct virtio_class *const *class = config->classes; *class; class++) {
		const char *flag = (*class)->flag_option;

		*ret = (struct config_target){
			.name = (*class)->option, .opts = (*class)->opts, .class = *class,
		};
		if (n-- == 0)
			return true;
		if (!flag || n-- != 0)
			continue;
		ret->name = ret->flag = flag;
		return true;
	}
	return false;
}

int config_find(struct config_source *source, const char *name, struct config_target *ret)
{
	struct opt_guess guess = { .word = name };
	struct config_target target;
	char where[CONFIG_WHERE_MAX];

	snprintf(where, sizeof(where), "%.*s%s%s", OPT_SHOWN, source->file ? source->file : "",
		 source->file ? ": " : "--", name);
	for (size_t n = 0; nth_target(source->config, n, &target); n++) {
		bool forbidden = source->file && target.action;

		if (!strcmp(target.name, name) && forbidden)
			return config_fail(source->error, where, "this is for the command line only");
		if (!strcmp(target.name, name)) {
			*ret = target;
			return 0;
		}
		if (!forbidden)
			opt_guess(&guess, target.name);
	}
	if (guess.name)
		return config_fail(source->error, where, "there is no such option, did you mean %s%s?",
				   source->file ? "" : "--", guess.name);
	return config_fail(source->error, where, "there is no such option, microvm --help lists them");
}

static bool was_given(const struct config_source *source, const char *name, size_t from)
{
	for (size_t i = from; i < source->count; i++)
		if (!strcmp(source->given[i], name))
			return true;
	return false;
}

/* *ret_first: this source did not give the option before. */
static int note_given(struct config_source *source, const char *name, bool *ret_first)
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

/* Fills conf from all keys of an option. */
static int set_keys(const struct opt *opts, const struct config_value *value, void *conf,
		    struct opt_error *error)
{
	return value->object ? config_set_object(opts, value->object, conf, error)
			     : opt_parse(opts, value->text, conf, error);
}

static int add_device(struct config_source *source, const struct virtio_class *class,
		      const char *flag, const struct config_value *value)
{
	struct config_device device = { .class = class, .conf = calloc(1, class->conf_size + 1) };
	int err = -ENOMEM;

	if (device.conf)
		err = set_keys(class->opts, value, device.conf, source->error);
	if (!err && flag)
		err = opt_set(class->opts, flag, "on", device.conf, source->error);
	if (!err) {
		device.text = config_device_text(&device, source->file);
		err = device.text ? config_devices_insert(source->config, &device) : -ENOMEM;
	}
	if (err)
		config_device_free(&device);
	return err;
}

static int set_device(struct config_source *source, const struct config_target *target, bool first,
		      const struct config_value *value)
{
	const struct virtio_class *class = target->class;

	if (class->by_default && value->text && !strcmp(value->text, "none")) {
		config_devices_remove(source->config, class);
		return 0;
	}
	/* The only one: the command line's replaces the file's. */
	if (first && class->max == 1)
		config_devices_remove(source->config, class);
	if (class->max && config_devices_count(source->config, class) >= class->max)
		return config_fail(source->error, "", "there can be only %u of it", class->max);
	return add_device(source, class, target->flag, value);
}

static int set_target(struct config_source *source, const struct config_target *target,
		      const struct config_value *value)
{
	bool first;
	int err = note_given(source, target->name, &first);

	if (err)
		return err;
	if (target->class)
		return set_device(source, target, first, value);
	if (!first)
		return config_fail(source->error, "", "it is given twice, keep one");
	if (target->row)
		return opt_set(target->opts, target->name, value->text, target->conf, source->error);
	assert(target->conf);
	opt_free(target->opts, target->conf);
	memset(target->conf, 0, target->conf_size);
	return set_keys(target->opts, value, target->conf, source->error);
}

int config_set(struct config_source *source, const struct config_target *target, const char *where,
	       const struct config_value *value)
{
	return config_blame(source->error, where, set_target(source, target, value));
}

/* ---- words ---- */

/* The words of the command line that have not been read. */
struct words {
	int left;
	char *const *next;
};

static const char *take_word(struct words *words)
{
	words->left--;
	return *words->next++;
}

/* Whether the next word may be an option's value: one that begins with "--" needs "=". */
static bool is_value(const struct words *words)
{
	return words->left > 0 && strncmp(words->next[0], "--", 2);
}

static const char *long_form(const char *word)
{
	return !strcmp(word, "-h") ? "--help" : !strcmp(word, "-V") ? "--version" : word;
}

/* Finds the option that a word names. */
static int read_name(struct config_source *source, const char *word, struct config_target *ret)
{
	_cleanup_free_ char *name = NULL;

	if (*word != '-')
		return config_fail(source->error, word, "options begin with --, for example "
				   "--kernel %.*s", OPT_SHOWN, word);
	if (word[1] != '-')
		return config_fail(source->error, word,
				   "there is no such option, microvm --help lists them");
	name = strndup(word + 2, strcspn(word + 2, "="));
	return name ? config_find(source, name, ret) : config_blame(source->error, word, -ENOMEM);
}

/* Takes an option with its value: a flag is on without one, others have an empty one. */
static int take_option(struct config_source *source, struct words *words,
		       struct config_target *ret_target, const char **ret_value)
{
	const char *word = long_form(take_word(words)), *equals = strchr(word, '=');
	int err = read_name(source, word, ret_target);

	if (err)
		return err;
	if (equals)
		*ret_value = equals + 1;
	else if (ret_target->row && ret_target->row->type == OPT_BOOL)
		*ret_value = "on";
	else
		*ret_value = is_value(words) ? take_word(words) : "";
	return 0;
}

static int set_help(struct config_source *source, const char *topic)
{
	struct config *config = source->config;

	free(config->help);
	config->help = strdup(topic);
	return config->help ? 0 : config_blame(source->error, "--help", -ENOMEM);
}

static int set_from_word(struct config_source *source, const struct config_target *target,
			 const char *text)
{
	const struct config_value value = { .text = text };
	char where[CONFIG_WHERE_MAX];

	/* The one value that may be empty. */
	if (!strcmp(target->name, "help"))
		return set_help(source, text);
	/* Where there are keys, the message names the one that it is about. */
	snprintf(where, sizeof(where), "--%s%s%s", target->name,
		 target->row && *text ? " " : "", target->row ? text : "");
	return config_set(source, target, where, &value);
}

/* files: only what --config names, which comes first wherever it stands. */
static int read_words(struct config_source *source, struct words words, bool files)
{
	struct config_target target = { .name = "" };
	const char *value = "";
	int err;

	while (words.left > 0) {
		err = take_option(source, &words, &target, &value);
		if (err)
			return err;
		if (!files)
			err = set_from_word(source, &target, value);
		else if (!strcmp(target.name, "config") && *value)
			err = config_read_json(source, value);
		if (err)
			return err;
	}
	return 0;
}

/* What may follow "check". */
static int read_check(struct config_source *source, const struct words *words)
{
	source->config->check = true;
	if (words->left == 0)
		return 0;
	if (words->left > 1 || strcmp(long_form(words->next[0]), "--help"))
		return config_fail(source->error, "check", "it takes no options but --help");
	return set_help(source, "check");
}

/* ---- the end ---- */

static int check_memory(struct config *config, struct opt_error *error)
{
	struct config_memory *memory = &config->memory;
	uint64_t unit = memory->backing.hugepage ? memory->backing.hugepage : PAGE;

	if (!memory->size)
		memory->size = DEFAULT_MEMORY;
	if (unit != PAGE && unit != MIB(2) && unit != GIB(1))
		return config_fail(error, "--memory", "hugepages: choose 2M or 1G");
	if (memory->size % unit)
		return config_fail(error, "--memory", "size=%" PRIu64 ": choose a multiple of %s",
				   memory->size, unit == PAGE ? "4K" : unit == MIB(2) ? "2M" : "1G");
	return 0;
}

static bool wants_terminal(const struct virtio_class *class)
{
	for (const struct opt *opt = class->opts; opt->key; opt++)
		if (opt->terminal)
			return true;
	return false;
}

/* Devices that are there unless they are turned off. */
static int add_defaults(struct config_source *source)
{
	const struct config_value nothing = { .text = "" };
	struct config *config = source->config;
	int err;

	for (const struct virtio_class *const *class = config->classes; *class; class++) {
		if (!(*class)->by_default || was_given(source, (*class)->option, 0))
			continue;
		if (config->serial.stdio && wants_terminal(*class))
			continue;
		err = add_device(source, *class, NULL, &nothing);
		if (err)
			return config_blame(source->error, (*class)->option, err);
	}
	return 0;
}

/* Defaults, and what can only be judged when everything was read. */
static int complete(struct config_source *source)
{
	struct config *config = source->config;
	struct chardev_conf *serial = &config->serial;
	int err;

	if (!config->cpus)
		config->cpus = DEFAULT_CPUS;
	config->has_serial = was_given(source, "serial", 0) && !serial->none;
	if (config->has_serial && !serial->pty && !serial->file && !serial->socket &&
	    !serial->connect)
		serial->stdio = true;
	err = check_memory(config, source->error);
	if (!err)
		err = add_defaults(source);
	if (!err)
		err = config_devices_check(config, source->error);
	if (!err)
		err = config_devices_join(config, source->error);
	if (err)
		return err;
	if (!config->kernel && !config->help && !config->version && !config->print)
		return config_fail(source->error, "--kernel", "it is missing: name a kernel, for "
				   "example microvm --kernel vmlinux (microvm --help tells more)");
	return 0;
}

static int parse(struct config_source *source, struct words words)
{
	int err;

	if (words.left > 0 && !strcmp(words.next[0], "check")) {
		take_word(&words);
		return read_check(source, &words);
	}
	err = read_words(source, words, true);
	if (!err)
		err = read_words(source, words, false);
	return err ? err : complete(source);
}

int config_parse(struct config *config, const struct virtio_class *const *classes, int argc,
		 char *const *argv, struct opt_error *error)
{
	const struct words words = { argc > 0 ? argc - 1 : 0, argv + 1 };
	struct config result = { .classes = classes, .log_level = LOG_WARN };
	struct config_source source = { .config = &result, .error = error };
	int err;

	err = parse(&source, words);
	free(source.given);
	if (err)
		config_free(&result);
	else
		*config = result;
	return err;
}

void config_free(struct config *config)
{
	for (const struct config_group *group = config_groups; group->name; group++)
		opt_free(group->opts, (char *)config + group->offset);
	for (size_t i = 0; i < config->device_count; i++)
		config_device_free(&config->devices[i]);
	free(config->devices);
	*config = (struct config){ 0 };
}
