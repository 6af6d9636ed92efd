// SPDX-License-Identifier: Apache-2.0
#include "vmm/help.h"

#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "vmm/config.h"
#include "vmm/image.h"

static const char usage[] =
	"Usage: microvm --kernel FILE [OPTION]...\n"
	"       microvm check\n"
	"       microvm image create|info|resize|check PATH [SIZE] [OPTION]...\n"
	"       microvm vsock PATH PORT [--listen]\n"
	"\n"
	"Runs a guest in a virtual machine, tells what this host can do, makes disk images\n"
	"and looks after them, or connects to a port of a guest.\n"
	"microvm --help GROUP explains the options of a group:\n"
	"\n";

static const char examples[] =
	"\n"
	"Examples:\n"
	"  microvm --kernel vmlinux --disk root.img --net tap0\n"
	"  microvm --kernel vmlinuz --initrd initrd.img --cpus 2 --memory 1G\n"
	"  microvm --kernel vmlinux --disk root.img,ro --timeout 60 --summary run.json\n"
	"  microvm --config vm.json --cpus 4\n"
	"\n"
	"On a terminal, Ctrl-A X leaves and Ctrl-A C tells how the guest is.\n";

static const char check_help[] =
	"microvm check: what this host can do\n"
	"\n"
	"Tells for each thing that a guest needs, or that an option takes, whether this\n"
	"host has it, and what to do about it where it has not:\n"
	"\n"
	"  ok        it is there\n"
	"  optional  it is not there; guests run without it\n"
	"  missing   it is not there, and no guest can run\n"
	"\n"
	"The exit status is 0 when a guest can run.\n";

static void print_line(FILE *out, const char *left, const char *right)
{
	fprintf(out, "  %-27s %s\n", left, right);
}

void help_print_opt(FILE *out, const char *prefix, const char *separator, const struct opt *opt)
{
	char left[256], *end = left + sizeof(left), *at = left;

	at += snprintf(at, (size_t)(end - at), "%s%s", prefix, opt->key);
	if (opt->arg)
		snprintf(at, (size_t)(end - at), "%s%s", separator, opt->arg);
	for (size_t i = 0; opt->type == OPT_CHOICE && opt->choices[i] && at < end; i++)
		at += snprintf(at, (size_t)(end - at), "%s%s", i ? "|" : separator, opt->choices[i]);
	print_line(out, left, opt->help);
}

static void print_rows(FILE *out, const struct config_group *group)
{
	fprintf(out, "%s: %s\n\n", group->name, group->summary);
	for (const struct opt *row = group->opts; row->key; row++)
		help_print_opt(out, "--", " ", row);
}

/* "KEY=VALUE,KEY,...", or "stdio|file=PATH" where just one of the keys may be given. */
static void print_syntax(FILE *out, const struct opt *opts)
{
	const struct opt *free_key = opts;

	while (free_key->key && free_key->one_of)
		free_key++;
	if (free_key->key) {
		fputs("KEY=VALUE,KEY,...", out);
		return;
	}
	for (const struct opt *opt = opts; opt->key; opt++)
		fprintf(out, "%s%s%s%s", opt == opts ? "" : "|", opt->key, opt->arg ? "=" : "",
			opt->arg ? opt->arg : "");
}

/* An option with keys. */
static void print_keys(FILE *out, const char *name, const char *summary, const struct opt *opts)
{
	fprintf(out, "--%s ", name);
	print_syntax(out, opts);
	fprintf(out, ": %s\n\n", summary);
	for (const struct opt *opt = opts; opt->key; opt++)
		help_print_opt(out, "", "=", opt);
	fputc('\n', out);
	for (const struct opt *opt = opts; opt->key; opt++)
		if (opt->bare)
			fprintf(out, "The first word needs no \"%s=\": --%s %s\n", opt->key, name,
				opt->arg);
	fputs("A comma within a value is written twice.\n", out);
}

static void print_class(FILE *out, const struct virtio_class *class)
{
	print_keys(out, class->option, class->summary, class->opts);
	if (class->max != 1)
		fputs("The option may be given several times.\n", out);
	if (class->flag_option)
		fprintf(out, "--%s is --%s with %s.\n", class->flag_option, class->option,
			class->flag_option);
	if (class->by_default)
		fprintf(out, "There is one unless it is turned off: --%s none\n", class->option);
}

static void print_overview(const struct virtio_class *const *classes, FILE *out)
{
	fputs(usage, out);
	for (const struct config_group *group = config_groups; group->name; group++) {
		fprintf(out, "  %-8s %s:", group->name, group->summary);
		if (group->size)
			fprintf(out, " --%s", group->name);
		for (const struct opt *row = group->opts; !group->size && row->key; row++)
			fprintf(out, " --%s", row->key);
		fputc('\n', out);
	}
	for (; *classes; classes++)
		fprintf(out, "  %-8s %s: --%s%s%s\n", (*classes)->option, (*classes)->summary,
			(*classes)->option, (*classes)->flag_option ? " --" : "",
			(*classes)->flag_option ? (*classes)->flag_option : "");
	fputs(examples, out);
}

static bool has_row(const struct config_group *group, const char *name)
{
	for (const struct opt *row = group->opts; !group->size && row->key; row++)
		if (!strcmp(row->key, name))
			return true;
	return false;
}

static int fail_topic(const struct virtio_class *const *classes, const char *topic,
		      struct opt_error *error)
{
	struct opt_guess guess = { .word = topic };

	opt_guess(&guess, "check");
	opt_guess(&guess, "image");
	for (const struct config_group *group = config_groups; group->name; group++) {
		opt_guess(&guess, group->name);
		for (const struct opt *row = group->opts; !group->size && row->key; row++)
			opt_guess(&guess, row->key);
	}
	for (; *classes; classes++)
		opt_guess(&guess, (*classes)->option);
	snprintf(error->text, sizeof(error->text), "--help %.*s: there is no such group, %s%s%s",
		 OPT_SHOWN, topic, guess.name ? "did you mean " : "microvm --help lists them",
		 guess.name ? guess.name : "", guess.name ? "?" : "");
	return -EINVAL;
}

int help_print(const struct virtio_class *const *classes, const char *topic, FILE *out,
	       struct opt_error *error)
{
	if (!*topic) {
		print_overview(classes, out);
		return 0;
	}
	if (!strcmp(topic, "check")) {
		fputs(check_help, out);
		return 0;
	}
	if (!strcmp(topic, "image")) {
		image_help(out);
		return 0;
	}
	for (const struct config_group *group = config_groups; group->name; group++) {
		if (strcmp(group->name, topic) && !has_row(group, topic))
			continue;
		if (group->size)
			print_keys(out, group->name, group->summary, group->opts);
		else
			print_rows(out, group);
		return 0;
	}
	for (const struct virtio_class *const *class = classes; *class; class++) {
		const char *flag = (*class)->flag_option;

		if (strcmp((*class)->option, topic) && !(flag && !strcmp(flag, topic)))
			continue;
		print_class(out, *class);
		return 0;
	}
	return fail_topic(classes, topic, error);
}
