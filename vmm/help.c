// SPDX-License-Identifier: Apache-2.0
#include "vmm/help.h"

#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "vmm/config.h"

static const char usage[] =
	"Usage: microvm --kernel FILE [OPTION]...\n"
	"       microvm check\n"
	"\n"
	"Runs a guest in a virtual machine, or tells what this host can do.\n"
	"microvm --help GROUP explains the options of a group:\n"
	"\n";

static const char examples[] =
	"\n"
	"Examples:\n"
	"  microvm --kernel vmlinux --disk root.img --net tap0\n"
	"  microvm --kernel bzImage --initrd initrd.img --cpus 2 --memory 1G\n"
	"  microvm --kernel vmlinux --disk root.img,ro --timeout 60 --summary run.json\n"
	"  microvm --config vm.json --cpus 4\n"
	"\n"
	"On a terminal, Ctrl-A X leaves and Ctrl-A C tells how the guest is.\n";

static void print_line(FILE *out, const char *left, const char *right)
{
	fprintf(out, "  %-27s %s\n", left, right);
}

/* "--cpus N", "path=PATH", "engine=uring|sync": prefix, name, separator and value. */
static void print_opt(FILE *out, const char *prefix, const char *separator, const struct opt *opt)
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
		print_opt(out, "--", " ", row);
}

/* An option with keys. */
static void print_keys(FILE *out, const char *name, const char *summary, const struct opt *opts)
{
	fprintf(out, "--%s KEY=VALUE,KEY,...: %s\n\n", name, summary);
	for (const struct opt *opt = opts; opt->key; opt++)
		print_opt(out, "", "=", opt);
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
		fprintf(out, "  %-8s %s: --%s\n", (*classes)->option, (*classes)->summary,
			(*classes)->option);
	fputs(examples, out);
}

static bool has_row(const struct config_group *group, const char *name)
{
	for (const struct opt *row = group->opts; !group->size && row->key; row++)
		if (!strcmp(row->key, name))
			return true;
	return false;
}

int help_print(const struct virtio_class *const *classes, const char *topic, FILE *out,
	       struct opt_error *error)
{
	if (!*topic) {
		print_overview(classes, out);
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
	for (; *classes; classes++) {
		if (strcmp((*classes)->option, topic))
			continue;
		print_class(out, *classes);
		return 0;
	}
	snprintf(error->text, sizeof(error->text),
		 "--help %.60s: there is no such group, microvm --help lists them", topic);
	return -EINVAL;
}
