// SPDX-License-Identifier: Apache-2.0
#include "vmm/image.h"

#include "core/opt.h"
#include "core/util.h"
#include "devices/block/image.h"
#include "devices/block/qcow2.h"
#include "vmm/help.h"
#include "vmm/image_command.h"

static const char *const preallocations[] = {
	[IMAGE_OFF] = "off", [IMAGE_FALLOC] = "falloc", [IMAGE_FULL] = "full", NULL,
};
static const char *const repairs[] = {
	[QCOW2_REPAIR_NOTHING] = "nothing", [QCOW2_REPAIR_LEAKS] = "leaks",
	[QCOW2_REPAIR_ALL] = "all", NULL,
};

struct image_command {
	const char *name, *words, *summary;
	const struct opt *opts; /* those that are bare take words, in their order */
	int (*run)(const struct image_conf *conf);
};

#define ROW_PATH { "path", OPT_STRING, .bare = true, .required = true, \
		   .offset = offsetof(struct image_conf, path), .arg = "PATH" }
#define ROW_FORMAT(text) { "format", OPT_CHOICE, .offset = offsetof(struct image_conf, format), \
			   .choices = block_formats, .help = (text) }

static const struct opt create_opts[] = {
	ROW_PATH,
	{ "size", OPT_SIZE, .bare = true, .offset = offsetof(struct image_conf, size), .min = 512,
	  .arg = "SIZE" },
	ROW_FORMAT("the default is raw"),
	{ "preallocation", OPT_CHOICE, .offset = offsetof(struct image_conf, preallocation),
	  .choices = preallocations, .help = "set the space aside, or write all of it" },
	{ "cluster-size", OPT_SIZE, .offset = offsetof(struct image_conf, cluster_size),
	  .min = 1 << QCOW2_CLUSTER_BITS_MIN, .max = 1 << QCOW2_CLUSTER_BITS_MAX,
	  .power_of_two = true, .arg = "SIZE", .help = "of qcow2; 64K unless given" },
	{ "backing", OPT_STRING, .offset = offsetof(struct image_conf, backing), .arg = "FILE",
	  .help = "of qcow2: read from there what is not in the image; SIZE may be left out" },
	{ "backing-format", OPT_CHOICE, .offset = offsetof(struct image_conf, backing_format),
	  .choices = block_formats, .help = "what the backing file is: it has to be said" },
	{ "force", OPT_BOOL, .offset = offsetof(struct image_conf, force),
	  .help = "replace a file that is there" },
	{ 0 },
};

static const struct opt info_opts[] = {
	ROW_PATH,
	ROW_FORMAT("the default is raw, and refuses what looks like qcow2"),
	{ "json", OPT_BOOL, .offset = offsetof(struct image_conf, json), .help = "print JSON" },
	{ 0 },
};

static const struct opt resize_opts[] = {
	ROW_PATH,
	{ "size", OPT_SIZE, .bare = true, .required = true,
	  .offset = offsetof(struct image_conf, size), .min = 512, .arg = "SIZE" },
	ROW_FORMAT("the default is raw, and refuses what looks like qcow2"),
	{ "shrink", OPT_BOOL, .offset = offsetof(struct image_conf, shrink),
	  .help = "make it smaller, and lose what is behind" },
	{ 0 },
};

static const struct opt check_opts[] = {
	ROW_PATH,
	ROW_FORMAT("the default is qcow2, as there is nothing to check in others"),
	{ "repair", OPT_CHOICE, .offset = offsetof(struct image_conf, repair), .choices = repairs,
	  .help = "give leaks back; or correct counts and flags, too" },
	{ 0 },
};

static const struct image_command commands[] = {
	{ "create", "PATH SIZE", "make an empty image", create_opts, image_create },
	{ "info", "PATH", "tell what an image is", info_opts, image_info },
	{ "resize", "PATH SIZE", "change the size of an image's disk", resize_opts, image_resize },
	{ "check", "PATH", "look for damage; status 2 if there is, 3 for leaks only", check_opts,
	  image_check },
};

static void help_command(const struct image_command *command, FILE *out)
{
	fprintf(out, "microvm image %s %s: %s\n\n", command->name, command->words, command->summary);
	for (const struct opt *opt = command->opts; opt->key; opt++)
		if (!opt->bare)
			help_print_opt(out, "--", " ", opt);
}

void image_help(FILE *out)
{
	fputs("microvm image COMMAND: makes disk images and looks after them\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		fputc('\n', out);
		help_command(&commands[i], out);
	}
}

static const struct opt *nth_bare(const struct opt *opts, unsigned int n)
{
	for (; opts->key; opts++)
		if (opts->bare && n-- == 0)
			return opts;
	return NULL;
}

static const struct opt *find_option(const struct opt *opts, const char *name, size_t len)
{
	for (; opts->key; opts++)
		if (!opts->bare && strlen(opts->key) == len && !strncmp(opts->key, name, len))
			return opts;
	return NULL;
}

static int fail_option(const struct image_command *command, const char *word)
{
	struct opt_guess guess = { .word = word + 2 };

	for (const struct opt *opt = command->opts; opt->key; opt++)
		if (!opt->bare)
			opt_guess(&guess, opt->key);
	if (guess.name)
		return image_fail(word, "there is no such option, did you mean --%s?", guess.name);
	return image_fail(word, "there is no such option, microvm image --help lists them");
}

static int read_words(const struct image_command *command, int count, char *const *words,
		      struct image_conf *conf)
{
	struct opt_error error = { "" };
	unsigned int bare = 0;

	for (int i = 0; i < count; i++) {
		const char *word = words[i], *equals = strchr(word, '='), *value = word;
		const struct opt *opt;

		if (strncmp(word, "--", 2)) {
			opt = nth_bare(command->opts, bare++);
			if (!opt)
				return image_fail(word,
						  "this is a word too many: microvm image %s %s",
						  command->name, command->words);
		} else {
			opt = find_option(command->opts, word + 2, strcspn(word + 2, "="));
			if (!opt)
				return fail_option(command, word);
			if (equals)
				value = equals + 1;
			else if (opt->type == OPT_BOOL)
				value = "on";
			else
				value = i + 1 < count ? words[++i] : "";
		}
		if (opt_set(command->opts, opt->key, value, conf, &error) < 0)
			return image_fail(word, "%s", error.text);
	}
	return 0;
}

static int run(const struct image_command *command, int count, char *const *words)
{
	struct image_conf conf = { 0 };
	struct opt_error error;
	int status;

	if (count && (!strcmp(words[0], "--help") || !strcmp(words[0], "-h"))) {
		help_command(command, stdout);
		return EXIT_SUCCESS;
	}
	status = read_words(command, count, words, &conf);
	if (status == 0 && opt_complete(command->opts, &conf, &error) < 0)
		status = image_fail(command->name, "a word is missing: microvm image %s %s",
				    command->name, command->words);
	if (status == 0)
		status = command->run(&conf);
	opt_free(command->opts, &conf);
	return status;
}

int image_run(int count, char *const *words)
{
	struct opt_guess guess = { .word = count ? words[0] : "" };

	if (count && (!strcmp(words[0], "--help") || !strcmp(words[0], "-h"))) {
		image_help(stdout);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (count && !strcmp(words[0], commands[i].name))
			return run(&commands[i], count - 1, words + 1);
		opt_guess(&guess, commands[i].name);
	}
	if (guess.name)
		return image_fail("image", "there is no %s, did you mean %s?", words[0],
				  guess.name);
	return image_fail("image", "say what to do: create, info, resize or check (microvm image "
				   "--help tells more)");
}
