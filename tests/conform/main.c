// SPDX-License-Identifier: Apache-2.0
/*
 * conform [--inline] [--no-sandbox] [--short] [--class NAME [--options TEXT] [--split]] [CASE...]: runs the cases
 * (whose names begin so), each for every class and cell, and says for each how it went. The short way is by two
 * cells; with --split there are only those with split rings and whole memory, as the kernel's vhost has them.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include "core/opt.h"
#include "devices/classes.h"
#include "seccomp/filter.h"
#include "tests/conform/conform.h"

#define RUN_SECONDS 60
#define LEARN_MS 50

static const struct conform_case *const tables[] = {
	conform_life,	conform_registers, conform_queues, conform_chains,
	conform_events, conform_saves,	   conform_packets, conform_shares,
	conform_bugs,
};

static const struct conform_cell cells[] = {
	{ VDRV_MMIO, false, false }, { VDRV_MMIO, false, true },
	{ VDRV_MMIO, true, false },  { VDRV_MMIO, true, true },
	{ VDRV_PCI, false, false },  { VDRV_PCI, false, true },
	{ VDRV_PCI, true, false },   { VDRV_PCI, true, true },
};

struct suite {
	bool threads, confine, brief, split;
	const char *class, *options; /* only this class, and its options instead of the sample */
	char *const *names; /* of cases, ended by NULL; none: all */
	struct conform_probe (*probes)[VIRTIO_QUEUES_MAX]; /* of each class */
	unsigned int passed, failed, skipped;
	char reason[256]; /* of the last one that was skipped */
};

/* ---- what a new device does ---- */

static const struct conform_probe attempts[] = {
	{ .out = 16, .in = 513 },
	{ .out = 64 },
	{ .in = 2048 },
};

static enum conform_outcome attempt(struct conform *c, unsigned int queue)
{
	uint16_t id;

	conform_begin(c);
	memset(vdrv_ptr(&c->vdrv, c->data, CONFORM_DATA_LEN), 0, CONFORM_DATA_LEN);
	CHECK(conform_post(c, queue) >= 0);
	vdrv_ring(&c->vdrv.queues[queue]);
	vdrv_settle(&c->vdrv);
	if (vdrv_needs_reset(&c->vdrv))
		return CONFORM_FAILS;
	(void)vdrv_wait(&c->vdrv.queues[queue], LEARN_MS);
	return vdrv_take(&c->vdrv.queues[queue], &id, NULL) ? CONFORM_USES : CONFORM_HOLDS;
}

/* The first attempt that is used up or, if there is none, the last that is held. */
static void learn_queue(struct conform *c, unsigned int queue, struct conform_probe *probes)
{
	struct conform_probe best = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(attempts) && best.outcome != CONFORM_USES; i++) {
		probes[queue] = attempts[i];
		probes[queue].outcome = attempt(c, queue);
		if (probes[queue].outcome >= best.outcome)
			best = probes[queue];
	}
	probes[queue] = best;
}

static bool has_option(const struct virtio_class *class, const char *key)
{
	for (const struct opt *opt = class->opts; opt && opt->key; opt++)
		if (!strcmp(opt->key, key))
			return true;
	return false;
}

static void prepare(struct conform *c, const struct virtio_class *class, const char *options)
{
	size_t len;

	*c = (struct conform){ .class = class };
	snprintf(c->options, sizeof(c->options), "%s", options ? options : class->sample);
	len = strlen(c->options);
	if (has_option(class, "queues"))
		snprintf(c->options + len, sizeof(c->options) - len, "%squeues=2", len ? "," : "");
}

static void learn(const struct virtio_class *class, const char *options,
		  struct conform_probe *probes)
{
	struct conform c;

	prepare(&c, class, options);
	c.probes = probes;
	conform_open(&c, "", CONFORM_RAM);
	for (unsigned int i = 0; i < c.vdrv.queue_count; i++)
		learn_queue(&c, i, probes);
	vdrv_close(&c.vdrv);
}

/* ---- runs ---- */

static int child(const struct conform_case *test, struct conform *c)
{
	alarm(RUN_SECONDS);
	if (c->threads && c->confine)
		CHECK(filter_report_violations(NULL) == 0);
	if (!test->once)
		conform_open(c, c->cell.packed ? ",packed=on" : "", CONFORM_RAM);
	test->run(c, test->arg);
	vdrv_close(&c->vdrv);
	free(c->before);
	return CONFORM_PASSED;
}

/* What the child wrote to stderr is in text. */
static int in_child(const struct conform_case *test, struct conform *c, char *text, size_t size)
{
	size_t len = 0;
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	if (pipe(fds) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		/* By exit(), or leaks would go unseen. */
		exit(child(test, c));
	}
	close(fds[1]);
	while ((n = read(fds[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void report(const struct conform_case *test, const struct conform *c, int status,
		   const char *text)
{
	static const char *const transports[] = { [VDRV_MMIO] = "mmio", [VDRV_PCI] = "pci" };

	printf("  %s: %s, %s, %s, %s%s: exit status %d\n%s", test->name, c->class ? c->class->name : "-",
	       transports[c->cell.transport], c->cell.packed ? "packed" : "split",
	       c->cell.cut ? "RAM cut" : "RAM whole", c->confine ? "" : ", again without the sandbox",
	       status, text);
}

static void run(struct suite *suite, const struct conform_case *test, struct conform *c)
{
	char text[16384];
	int status;

	c->threads = suite->threads;
	c->confine = suite->confine;
	status = in_child(test, c, text, sizeof(text));
	switch (status) {
	case CONFORM_PASSED:
		suite->passed++;
		return;
	case CONFORM_NOT_HERE:
		return;
	case CONFORM_SKIPPED:
		suite->skipped++;
		snprintf(suite->reason, sizeof(suite->reason), "%.*s", (int)strcspn(text, "\n"), text);
		return;
	default:
		suite->failed++;
		report(test, c, status, text);
	}
	/* In it a sanitizer cannot say what it has found. */
	if (c->confine) {
		c->confine = false;
		report(test, c, in_child(test, c, text, sizeof(text)), text);
	}
}

static bool tested(const struct suite *suite, const struct virtio_class *class)
{
	return class->sample && (!suite->class || !strcmp(class->name, suite->class));
}

static void run_matrix(struct suite *suite, const struct conform_case *test)
{
	/* The first and the last have nothing in common. */
	const size_t step = suite->brief ? ARRAY_SIZE(cells) - 1 : 1;

	for (unsigned int i = 0; virtio_classes[i]; i++) {
		if (!tested(suite, virtio_classes[i]))
			continue;
		for (size_t cell = 0; cell < ARRAY_SIZE(cells); cell += step) {
			struct conform c;

			if (suite->split && (cells[cell].packed || cells[cell].cut))
				continue;
			prepare(&c, virtio_classes[i], suite->options);
			c.cell = cells[cell];
			c.probes = suite->probes[i];
			run(suite, test, &c);
		}
	}
}

static void learn_all(struct suite *suite)
{
	unsigned int count = 0;

	while (virtio_classes[count])
		count++;
	suite->probes = calloc(count, sizeof(*suite->probes));
	CHECK(suite->probes != NULL);
	while (count--)
		if (tested(suite, virtio_classes[count]))
			learn(virtio_classes[count], suite->options, suite->probes[count]);
}

static bool wanted(const struct suite *suite, const struct conform_case *test)
{
	if (!*suite->names)
		return true;
	for (char *const *name = suite->names; *name; name++)
		if (!strncmp(test->name, *name, strlen(*name)))
			return true;
	return false;
}

static void run_case(struct suite *suite, const struct conform_case *test)
{
	const struct suite before = *suite;

	if (test->once)
		run(suite, test, &(struct conform){ 0 });
	else
		run_matrix(suite, test);
	printf("%-52s %3u passed", test->name, suite->passed - before.passed);
	if (suite->failed > before.failed)
		printf(", %u FAILED", suite->failed - before.failed);
	if (suite->skipped > before.skipped)
		printf(", %u skipped: %s", suite->skipped - before.skipped, suite->reason);
	printf("\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "inline", no_argument, NULL, 'i' },
		{ "no-sandbox", no_argument, NULL, 'n' },
		{ "short", no_argument, NULL, 's' },
		{ "class", required_argument, NULL, 'c' },
		{ "options", required_argument, NULL, 'o' },
		{ "split", no_argument, NULL, 'S' },
		{ 0 },
	};
	struct suite suite = { .threads = true, .confine = true };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'i')
			suite.threads = false;
		else if (option == 'n')
			suite.confine = false;
		else if (option == 's')
			suite.brief = true;
		else if (option == 'c')
			suite.class = optarg;
		else if (option == 'o')
			suite.options = optarg;
		else if (option == 'S')
			suite.split = true;
		else
			return 1;
	}
	suite.names = argv + optind;
	learn_all(&suite);
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct conform_case *test = tables[i]; test->name; test++)
			if (wanted(&suite, test))
				run_case(&suite, test);
	printf("%u passed, %u failed, %u skipped\n", suite.passed, suite.failed, suite.skipped);
	free(suite.probes);
	return suite.failed > 0;
}
