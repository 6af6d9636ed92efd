// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "vmm/config.h"
#include "vmm/help.h"

#define ARGS_MAX 64

struct disk {
	char *path, *serial;
	bool ro;
	int engine;
};

struct net {
	char *tap;
	uint64_t fd;
	uint8_t mac[6];
};

struct rng {
	char *source;
	uint64_t rate;
};

static const char *const engines[] = { "uring", "sync", NULL };

static const struct opt disk_opts[] = {
	{ "path", OPT_STRING, .bare = true, .required = true, .offset = offsetof(struct disk, path),
	  .arg = "PATH", .help = "the image" },
	{ "serial", OPT_STRING, .offset = offsetof(struct disk, serial), .arg = "TEXT",
	  .help = "its serial" },
	{ "ro", OPT_BOOL, .offset = offsetof(struct disk, ro), .help = "read-only" },
	{ "engine", OPT_CHOICE, .offset = offsetof(struct disk, engine), .choices = engines,
	  .help = "how" },
	{ 0 },
};

static const struct opt net_opts[] = {
	{ "tap", OPT_STRING, .bare = true, .offset = offsetof(struct net, tap), .arg = "NAME",
	  .help = "the tap" },
	{ "fd", OPT_UINT, .offset = offsetof(struct net, fd), .min = 3, .arg = "N", .help = "a tap" },
	{ "mac", OPT_MAC, .offset = offsetof(struct net, mac), .arg = "MAC", .help = "address" },
	{ 0 },
};

static const struct opt rng_opts[] = {
	{ "source", OPT_STRING, .offset = offsetof(struct rng, source), .arg = "PATH",
	  .help = "source" },
	{ "rate", OPT_SIZE, .offset = offsetof(struct rng, rate), .arg = "BYTES", .help = "limit" },
	{ 0 },
};

static const struct virtio_class console = {
	.option = "console", .summary = "A console", .opts = chardev_opts,
	.conf_size = sizeof(struct chardev_conf), .max = 1, .by_default = true,
};
static const struct virtio_class disk = {
	.option = "disk", .summary = "A disk", .opts = disk_opts, .conf_size = sizeof(struct disk),
};
static const struct virtio_class net = {
	.option = "net", .summary = "A network interface", .opts = net_opts,
	.conf_size = sizeof(struct net), .max = 3,
};
static const struct virtio_class rng = {
	.option = "rng", .summary = "Entropy", .opts = rng_opts, .conf_size = sizeof(struct rng),
	.max = 1, .by_default = true,
};

static const struct virtio_class *const classes[] = { &console, &disk, &net, &rng, NULL };

/* Parses words separated by blanks. */
static int parse_for(const struct virtio_class *const *registry, const char *line,
		     struct config *config, struct opt_error *error)
{
	_cleanup_free_ char *copy = strdup(line);
	char *argv[ARGS_MAX] = { (char[]){ "microvm" } }, *rest;
	int argc = 1;

	for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		assert_in_range(argc, 1, ARGS_MAX - 1);
		argv[argc++] = word;
	}
	return config_parse(config, registry, argc, argv, error);
}

static int parse(const char *line, struct config *config, struct opt_error *error)
{
	return parse_for(classes, line, config, error);
}

static void parse_ok(const char *line, struct config *config)
{
	struct opt_error error;

	if (parse(line, config, &error) < 0)
		fail_msg("%s: %s", line, error.text);
}

/* A file of its own with the given text; *ret_path is freed by the caller. */
static void write_file(const char *text, size_t len, char **ret_path)
{
	char path[] = "/tmp/microvm-config-XXXXXX";
	_cleanup_close_ int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	*ret_path = strdup(path);
}

static void remove_file(char **path)
{
	if (*path)
		unlink(*path);
	free(*path);
}

static int parse_json(const char *json, size_t len, const char *line, struct config *config,
		      struct opt_error *error)
{
	_cleanup_(remove_file) char *path = NULL;
	char *whole;
	int err;

	write_file(json, len, &path);
	assert_true(asprintf(&whole, "--config %s %s", path, line) > 0);
	err = parse(whole, config, error);
	free(whole);
	return err;
}

static char *print(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(config_print(config, out), 0);
	fclose(out);
	return text;
}

static void test_defaults(void **state)
{
	_cleanup_(config_free) struct config config = { 0 };

	(void)state;
	parse_ok("--kernel vmlinux", &config);
	assert_string_equal(config.kernel, "vmlinux");
	assert_int_equal(config.cpus, 1);
	assert_int_equal(config.memory.size, MIB(256));
	assert_int_equal(config.transport, CONFIG_PCI);
	assert_int_equal(config.log_level, LOG_WARN);
	assert_false(config.has_serial);
	assert_int_equal(config.device_count, 2);
	assert_ptr_equal(config.devices[0].class, &console);
	assert_ptr_equal(config.devices[1].class, &rng);
	assert_string_equal(config.devices[1].text, "--rng");
}

static void test_command_line(void **state)
{
	_cleanup_(config_free) struct config config = { 0 };
	const struct disk *b;

	(void)state;
	parse_ok("--net tap0,mac=02:00:00:00:00:01 --disk a.img --kernel=k=1 --cpus 4 --disk=b,,c,ro "
		 "--memory 2G,hugepages=2M,shared --rng none --console pty --serial "
		 "--transport=mmio --debug-exit --no-reboot=on --log error --timeout 0x10 --net fd=3",
		 &config);
	assert_string_equal(config.kernel, "k=1");
	assert_int_equal(config.cpus, 4);
	assert_int_equal(config.memory.size, GIB(2));
	assert_int_equal(config.memory.backing.hugepage, MIB(2));
	assert_true(config.memory.backing.shared);
	assert_int_equal(config.transport, CONFIG_MMIO);
	assert_true(config.debug_exit && config.no_reboot && config.has_serial);
	assert_true(config.serial.stdio);
	assert_int_equal(config.log_level, LOG_ERROR);
	assert_int_equal(config.timeout, 16);

	/* By class, as given within. */
	assert_int_equal(config.device_count, 5);
	assert_string_equal(config.devices[0].text, "--console pty");
	assert_string_equal(config.devices[1].text, "--disk a.img");
	assert_string_equal(config.devices[2].text, "--disk b,c");
	assert_string_equal(config.devices[3].text, "--net tap0");
	assert_string_equal(config.devices[4].text, "--net fd=3");
	b = config.devices[2].conf;
	assert_string_equal(b->path, "b,c");
	assert_true(b->ro);
}

/* Every pair says the same, once by the command line and once by JSON. */
static void test_both_forms_are_equal(void **state)
{
	static const struct {
		const char *line, *json;
	} cases[] = {
		{ "--kernel k", "{\"kernel\": \"k\"}" },
		{ "--kernel k --cpus 2 --memory 512M,shared",
		  "{\"kernel\": \"k\", \"cpus\": 2, \"memory\": {\"size\": \"512M\", \"shared\": true}}" },
		{ "--memory 512M,prealloc=off", "{\"memory\": \"512M\"}" },
		{ "--memory 16777216", "{\"memory\": {\"size\": 16777216}}" },
		{ "--disk a.img,ro --disk b.img,ro",
		  "{\"disk\": [{\"path\": \"a.img\", \"ro\": true}, \"b.img,ro\"]}" },
		{ "--disk a,,b", "{\"disk\": {\"path\": \"a,b\"}}" },
		{ "--rng none --console none", "{\"rng\": \"none\", \"console\": \"none\"}" },
		{ "--rng rate=1M", "{\"rng\": {\"rate\": 1048576}}" },
		{ "--console file=x --serial stdio",
		  "{\"console\": {\"file\": \"x\"}, \"serial\": {\"stdio\": true}}" },
		{ "--log error --debug-exit --transport mmio --timeout 5",
		  "{\"log\": \"error\", \"debug-exit\": true, \"transport\": \"mmio\", \"timeout\": 5}" },
		{ "--net tap0,mac=02:00:00:00:00:0a --net fd=7",
		  "{\"net\": [{\"tap\": \"tap0\", \"mac\": \"02:00:00:00:00:0A\"}, {\"fd\": 7}]}" },
		{ "", "{\"disk\": [], \"no-reboot\": false}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(config_free) struct config config = { 0 }, from_json = { 0 }, again = { 0 };
		_cleanup_free_ char *line = NULL, *json = NULL, *round = NULL;
		struct opt_error error;

		assert_true(asprintf(&line, "%s --print-config", cases[i].line) > 0);
		parse_ok(line, &config);
		free(line);
		line = print(&config);
		if (parse_json(cases[i].json, strlen(cases[i].json), "--print-config", &from_json,
			       &error) < 0)
			fail_msg("%s: %s", cases[i].json, error.text);
		json = print(&from_json);
		assert_string_equal(line, json);

		assert_int_equal(parse_json(json, strlen(json), "--print-config", &again, &error), 0);
		round = print(&again);
		assert_string_equal(round, json);
	}
}

static void test_command_line_comes_on_top(void **state)
{
	static const char json[] = "{\"kernel\": \"k\", \"cpus\": 2, \"memory\": \"1G,shared\","
				   "\"disk\": \"a.img\", \"rng\": {\"source\": \"/dev/x\"},"
				   "\"console\": \"pty\", \"serial\": \"file=log\"}";
	_cleanup_(config_free) struct config config = { 0 };
	struct opt_error error;

	(void)state;
	assert_int_equal(parse_json(json, strlen(json), "--cpus 3 --memory 512M --disk b.img --rng none "
				    "--console socket=s --serial pty", &config, &error), 0);
	assert_string_equal(config.kernel, "k");
	assert_int_equal(config.cpus, 3);
	assert_int_equal(config.memory.size, MIB(512));
	assert_false(config.memory.backing.shared);
	assert_null(config.serial.file);
	assert_true(config.serial.pty);
	assert_int_equal(config.device_count, 3);
	assert_string_equal(config.devices[0].text, "--console socket=s");
	assert_non_null(strstr(config.devices[1].text, ": --disk a.img"));
	assert_string_equal(config.devices[2].text, "--disk b.img");
}

/* The terminal goes to a serial port that was asked for, rather than to a console that was not. */
static void test_serial_takes_the_terminal(void **state)
{
	_cleanup_(config_free) struct config serial = { 0 }, file = { 0 };

	(void)state;
	parse_ok("--kernel k --serial stdio", &serial);
	assert_int_equal(serial.device_count, 1);
	assert_ptr_equal(serial.devices[0].class, &rng);
	parse_ok("--kernel k --serial file=x", &file);
	assert_int_equal(file.device_count, 2);
}

static void test_actions(void **state)
{
	_cleanup_(config_free) struct config help = { 0 }, group = { 0 }, other = { 0 },
					     version = { 0 }, check = { 0 }, about_check = { 0 };

	(void)state;
	parse_ok("--help", &help);
	assert_string_equal(help.help, "");
	parse_ok("-h disk", &group);
	assert_string_equal(group.help, "disk");
	parse_ok("--help=disk --version", &other);
	assert_string_equal(other.help, "disk");
	parse_ok("-V", &version);
	assert_true(version.version);
	parse_ok("check", &check);
	assert_true(check.check);
	assert_null(check.help);
	parse_ok("check -h", &about_check);
	assert_string_equal(about_check.help, "check");
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *line, *sentence;
	} cases[] = {
		{ "", "--kernel: it is missing: name a kernel" },
		{ "--kernel", "--kernel: it needs a value: FILE" },
		{ "--kernel=", "--kernel: it needs a value: FILE" },
		{ "--kernel --cpus 2", "--kernel: it needs a value: FILE" },
		{ "vmlinux", "vmlinux: options begin with --, for example --kernel vmlinux" },
		{ "-x", "-x: there is no such option, microvm --help lists them" },
		{ "-", "-: there is no such option, microvm --help lists them" },
		{ "--", "--: there is no such option, microvm --help lists them" },
		{ "--kernal k", "--kernal: there is no such option, did you mean --kernel?" },
		{ "--xyzzyxyzzy", "--xyzzyxyzzy: there is no such option, microvm --help lists them" },
		{ "--kernel a --kernel b", "--kernel b: it is given twice" },
		{ "--kernel k --memory 1G --memory 2G", "--memory: it is given twice" },
		{ "--cpus 0", "--cpus 0: choose from 1 to 32" },
		{ "--cpus 33", "--cpus 33: choose from 1 to 32" },
		{ "--cpus two", "--cpus two: write a whole number" },
		{ "--memory 8M", "--memory: 8M: choose from 16M to " },
		{ "--memory lots", "--memory: lots: write a size such as" },
		{ "--memory size=512MB", "--memory: size=512MB: write a size such as" },
		{ "--memory 16777217", "choose a multiple of 4K" },
		{ "--memory 1023M,hugepages=2M", "choose a multiple of 2M" },
		{ "--memory 1G,hugepages=4M", "--memory: hugepages: choose 2M or 1G" },
		{ "--transport usb", "--transport usb: choose pci or mmio" },
		{ "--log loud", "--log loud: choose error, warn, info or debug" },
		{ "--timeout 0", "--timeout 0: choose from 1 to " },
		{ "--debug-exit=maybe", "--debug-exit maybe: write on or off" },
		{ "--disk", "--disk: it needs path=PATH" },
		{ "--disk a.img,readonly", "--disk: readonly: there is no such key" },
		{ "--disk a.img,seral=x", "--disk: seral=x: there is no such key, did you mean serial?" },
		{ "--disk ro=maybe", "--disk: ro=maybe: write on or off" },
		{ "--disk none", "--kernel: it is missing" },
		{ "--rng rate=1 --rng rate=2", "--rng: there can be only 1 of it" },
		{ "--net a --net b --net c --net d", "--net: there can be only 3 of it" },
		{ "--net tap0,mac=1", "--net: mac=1: write six bytes" },
		{ "--kernel k --net a,mac=02:00:00:00:00:01 --net b --net c,mac=02:00:00:00:00:01",
		  "--net c: --net a has the same MAC address, change one of them" },
		{ "--config /does/not/exist", "--config /does/not/exist: the file cannot be opened: No" },
		{ "--config", "--config: it needs a value: FILE" },
		{ "--config=", "--config: it needs a value: FILE" },
		{ "--transport", "--transport: choose pci or mmio" },
		{ "--console pty,file=x", "--console: give pty or file, not both" },
		{ "check --kernel", "check: it takes no options but --help" },
		{ "check --help disk", "check: it takes no options but --help" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct opt_error error = { "" };
		struct config config;

		assert_int_equal(parse(cases[i].line, &config, &error), -EINVAL);
		if (!strstr(error.text, cases[i].sentence) || strchr(error.text, '\n'))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].line, error.text,
				 cases[i].sentence);
	}
}

static void test_json_mistakes(void **state)
{
	static const struct {
		const char *json, *sentence;
	} cases[] = {
		{ "", "line 1, column 0: " },
		{ "{", "line 1, column 1: " },
		{ "[]", "write an object such as" },
		{ "{\"kernal\": \"k\"}", "kernal: there is no such option, did you mean kernel?" },
		{ "{\"cpus\": 1, \"cpus\": 2}", "duplicate" },
		{ "{\"cpus\": 0}", ": cpus: choose from 1 to 32" },
		{ "{\"cpus\": -1}", ": cpus: write a whole number" },
		{ "{\"cpus\": 1.5}", ": cpus: write a whole number" },
		{ "{\"cpus\": null}", ": cpus: write a whole number" },
		{ "{\"cpus\": [1]}", ": cpus: write a whole number" },
		{ "{\"memory\": {\"size\": 1.5}}", ": memory: size: write a size such as" },
		{ "{\"transport\": null}", ": transport: choose pci or mmio" },
		{ "{\"console\": {\"pty\": true, \"file\": \"x\"}}",
		  ": console: give pty or file, not both" },
		{ "{\"memory\": 512}", ": memory: write a string or an object" },
		{ "{\"memory\": {\"siz\": 1}}", ": memory: siz: there is no such key, did you mean size?" },
		{ "{\"disk\": [\"a\", {\"path\": 1, \"ro\": 3}]}", ": disk[1]: ro: write on or off" },
		{ "{\"disk\": [{\"ro\": true}]}", ": disk[0]: it needs path=PATH" },
		{ "{\"disk\": [[\"a\"]]}", ": disk[0]: write a string or an object" },
		{ "{\"disk\": {\"path\": {}}}", ": disk: path: it needs a value: PATH" },
		{ "{\"rng\": [{}, {}]}", ": rng[1]: there can be only 1 of it" },
		{ "{\"version\": true}", "version: this is for the command line only" },
		{ "{\"config\": \"x\"}", "config: this is for the command line only" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct opt_error error = { "" };
		struct config config;

		assert_int_equal(parse_json(cases[i].json, strlen(cases[i].json), "--kernel k", &config,
					    &error), -EINVAL);
		if (!strstr(error.text, cases[i].sentence) || strchr(error.text, '\n'))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].json, error.text,
				 cases[i].sentence);
	}
}

/* However long a user's text is, the advice behind it is still there. */
static void test_long_text(void **state)
{
	char path[4096];
	char *argv[] = { (char[]){ "microvm" }, (char[]){ "--disk" }, path };
	struct opt_error error;
	struct config config;

	(void)state;
	memset(path, 'x', sizeof(path));
	memcpy(path + sizeof(path) - 8, ",seral=", 8);
	assert_int_equal(config_parse(&config, classes, ARRAY_SIZE(argv), argv, &error), -EINVAL);
	assert_non_null(strstr(error.text, "did you mean serial?"));
	memcpy(path, "--", 2);
	assert_int_equal(config_parse(&config, classes, 2, argv + 1, &error), -EINVAL);
	assert_non_null(strstr(error.text, "there is no such option"));
}

static void mutate(char *text, size_t len, const char *bytes, size_t count, uint32_t *random)
{
	*random = *random * 1664525 + 1013904223;
	for (uint32_t i = 0; i <= *random >> 30; i++) {
		*random = *random * 1664525 + 1013904223;
		text[(*random >> 8) % len] = bytes[(*random >> 24) % count];
	}
}

static void test_mutations(void **state)
{
	static const char line[] = "--kernel k --disk a.img,ro --net t,mac=02:00:00:00:00:01 --cpus 2 "
				   "--memory 1G,shared --serial pty --rng none --help x";
	static const char json[] = "{\"kernel\":\"k\",\"disk\":[\"a,ro\",{\"path\":\"b\",\"ro\":true}],"
				   "\"cpus\":2,\"memory\":{\"size\":\"1G\"},\"rng\":\"none\"}";
	static const char line_bytes[] = "-=,: aekm19", json_bytes[] = "{}[]\",:1at\\ \xff";
	uint32_t random = 1;
	int accepted = 0;

	(void)state;
	for (int round = 0; round < 4000; round++) {
		char line_copy[sizeof(line)], json_copy[sizeof(json)];
		struct config config = { 0 };
		struct opt_error error;

		memcpy(line_copy, line, sizeof(line));
		mutate(line_copy, sizeof(line) - 1, line_bytes, strlen(line_bytes), &random);
		accepted += parse(line_copy, &config, &error) == 0;
		config_free(&config);

		memcpy(json_copy, json, sizeof(json));
		mutate(json_copy, sizeof(json) - 1, json_bytes, strlen(json_bytes), &random);
		config = (struct config){ 0 };
		accepted += parse_json(json_copy, sizeof(json) - 1 - (size_t)(round % 7), "", &config,
				       &error) == 0;
		config_free(&config);
	}
	assert_in_range(accepted, 1, 7999);
}

/* What --help TOPIC prints; the caller frees it. */
static char *help(const char *topic)
{
	struct opt_error error;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(help_print(classes, topic, out, &error), 0);
	fclose(out);
	return text;
}

/* Every option is explained by some group, on a screen. */
static void test_help(void **state)
{
	static const char *const topics[] = { "", "boot", "machine", "memory", "serial", "run", "config",
					      "console", "disk", "net", "rng", "cpus", "check" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++) {
		_cleanup_free_ char *text = help(topics[i]);
		size_t lines = 0;

		for (const char *at = text; *at; at++)
			lines += *at == '\n';
		assert_in_range(lines, 3, 30);
	}
}

static void test_help_says_what_may_be_given(void **state)
{
	_cleanup_free_ char *console_help = help("console"), *disk_help = help("disk");

	(void)state;
	assert_non_null(strstr(console_help, "--console stdio|pty|file=PATH|socket=PATH|connect=PATH|none: "));
	assert_non_null(strstr(disk_help, "--disk KEY=VALUE,KEY,...: "));
}

static void test_help_for_what_is_not_there(void **state)
{
	static const struct {
		const char *topic, *sentence;
	} cases[] = {
		{ "dsk", "--help dsk: there is no such group, did you mean disk?" },
		{ "kernal", "did you mean kernel?" },
		{ "chekc", "did you mean check?" },
		{ "nothing", "--help nothing: there is no such group, microvm --help lists them" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct opt_error error;

		assert_int_equal(help_print(classes, cases[i].topic, stdout, &error), -EINVAL);
		assert_non_null(strstr(error.text, cases[i].sentence));
	}
}

struct unit {
	struct virtio_conf virtio;
	char *path;
	bool hole;
};

static const struct opt unit_opts[] = {
	{ "path", OPT_STRING, .bare = true, .offset = offsetof(struct unit, path), .arg = "PATH",
	  .help = "the image" },
	{ "hole", OPT_BOOL, .offset = offsetof(struct unit, hole), .help = "has a hole" },
	VIRTIO_OPTS,
	{ 0 },
};

/* Uses of an option that make one device. */
static void test_units(void **state)
{
	static const struct virtio_class unit = {
		.option = "unit", .summary = "A unit", .opts = unit_opts,
		.conf_size = sizeof(struct unit), .units = 3, .flag_option = "hole",
	};
	static const struct virtio_class *const registry[] = { &disk, &unit, &rng, NULL };
	struct opt_error error;
	struct config config;
	const struct unit *first;

	(void)state;
	assert_int_equal(parse_for(registry, "--kernel k --unit a,queue-size=64 --disk d --unit b "
				   "--hole c", &config, &error), 0);
	assert_int_equal(config.device_count, 5);
	for (size_t i = 1; i < config.device_count; i++)
		assert_int_equal(config_is_unit(&config.devices[i]), i == 2 || i == 3);
	first = config.devices[1].conf;
	assert_string_equal(first->path, "a");
	assert_int_equal(first->virtio.queue_size, 64);
	assert_ptr_equal(first->virtio.next, config.devices[2].conf);
	assert_ptr_equal(first->virtio.next->next, config.devices[3].conf);
	assert_null(first->virtio.next->next->next);
	/* An option of its own for those with a flag. */
	assert_false(first->hole);
	assert_true(((const struct unit *)config.devices[3].conf)->hole);
	assert_string_equal(((const struct unit *)config.devices[3].conf)->path, "c");
	config_free(&config);
	assert_int_equal(parse_for(registry, "--kernel k --unit a --unit b --unit c --unit d",
				   &config, &error), -EINVAL);
	assert_string_equal(error.text, "--unit d: there can be only 3 of them");
	assert_int_equal(parse_for(registry, "--kernel k --unit a --unit b,packed", &config, &error),
			 -EINVAL);
	assert_string_equal(error.text, "--unit b: packed is for all of them together, "
					"say it with the first --unit");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_both_forms_are_equal),
		cmocka_unit_test(test_command_line_comes_on_top),
		cmocka_unit_test(test_serial_takes_the_terminal),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_json_mistakes),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_help_says_what_may_be_given),
		cmocka_unit_test(test_help_for_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
