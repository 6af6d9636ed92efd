// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "core/opt.h"
#include "core/util.h"

struct conf {
	char *path, *serial;
	bool ro, direct;
	uint64_t count, size;
	int engine;
	uint8_t mac[6];
};

static const char *const engines[] = { "uring", "sync", NULL };

static const struct opt opts[] = {
	{ "path", OPT_STRING, .bare = true, .required = true, .offset = offsetof(struct conf, path),
	  .arg = "PATH" },
	{ "serial", OPT_STRING, .offset = offsetof(struct conf, serial), .arg = "TEXT" },
	{ "ro", OPT_BOOL, .offset = offsetof(struct conf, ro) },
	{ "direct", OPT_BOOL, .offset = offsetof(struct conf, direct) },
	{ "count", OPT_UINT, .offset = offsetof(struct conf, count), .min = 2, .max = 64,
	  .arg = "N" },
	{ "size", OPT_SIZE, .offset = offsetof(struct conf, size), .min = KIB(4), .arg = "SIZE" },
	{ "engine", OPT_CHOICE, .offset = offsetof(struct conf, engine), .choices = engines },
	{ "mac", OPT_MAC, .offset = offsetof(struct conf, mac), .arg = "MAC" },
	{ 0 },
};

/* No key is required or may be left out. */
static const struct opt flags[] = {
	{ "ro", OPT_BOOL, .offset = offsetof(struct conf, ro) },
	{ "count", OPT_UINT, .offset = offsetof(struct conf, count) },
	{ 0 },
};

static const struct opt alternatives[] = {
	{ "path", OPT_STRING, .one_of = true, .offset = offsetof(struct conf, path) },
	{ "ro", OPT_BOOL, .one_of = true, .offset = offsetof(struct conf, ro) },
	{ "count", OPT_UINT, .offset = offsetof(struct conf, count) },
	{ 0 },
};

/* Just one of the first two. */
static const struct opt choice[] = {
	{ "path", OPT_STRING, .bare = true, .required = true, .one_of = true,
	  .offset = offsetof(struct conf, path), .arg = "PATH" },
	{ "count", OPT_UINT, .required = true, .one_of = true, .offset = offsetof(struct conf, count),
	  .arg = "N" },
	{ "ro", OPT_BOOL, .offset = offsetof(struct conf, ro) },
	{ 0 },
};

/* 0 is what was not given. */
static const struct opt numbers[] = {
	{ "size", OPT_UINT, .power_of_two = true, .min = 2, .max = 32768,
	  .offset = offsetof(struct conf, size), .arg = "N" },
	{ "count", OPT_UINT, .may_be_off = true, .min = 1, .max = 100,
	  .offset = offsetof(struct conf, count), .arg = "N" },
	{ 0 },
};

static void conf_free(struct conf *conf)
{
	opt_free(opts, conf);
}

static void test_every_type(void **state)
{
	const uint8_t mac[] = { 0x52, 0x54, 0, 0x12, 0x34, 0xfE };
	_cleanup_(conf_free) struct conf conf = { 0 };
	struct opt_error error;

	(void)state;
	assert_int_equal(opt_parse(opts, "a.img,ro,direct=off,count=0x10,size=2M,engine=sync,"
				   "mac=52:54:00:12:34:Fe,serial=x=y", &conf, &error), 0);
	assert_string_equal(conf.path, "a.img");
	assert_string_equal(conf.serial, "x=y");
	assert_true(conf.ro);
	assert_false(conf.direct);
	assert_int_equal(conf.count, 16);
	assert_int_equal(conf.size, MIB(2));
	assert_int_equal(conf.engine, 1);
	assert_memory_equal(conf.mac, mac, sizeof(mac));
}

static void test_first_word(void **state)
{
	static const struct {
		const char *text, *path;
		bool ro;
	} cases[] = {
		{ "a.img", "a.img", false },
		{ "path=a.img", "a.img", false },
		{ "path=ro", "ro", false },
		{ "ro,path=a.img", "a.img", true },
		{ "/dev/by=id", "/dev/by=id", false },
		{ "a,,b.img", "a,b.img", false },
		{ ",,a,,,,b,,,ro", ",a,,b,", true },
		{ "path=a,,b,ro=on", "a,b", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(conf_free) struct conf conf = { 0 };
		struct opt_error error;

		assert_int_equal(opt_parse(opts, cases[i].text, &conf, &error), 0);
		assert_string_equal(conf.path, cases[i].path);
		assert_int_equal(conf.ro, cases[i].ro);
	}
}

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		uint64_t size, count;
	} cases[] = {
		{ "size=2", 2, 0 }, { "size=256,count=1", 256, 1 }, { "size=0x8000", 32768, 0 },
		{ "count=off", 0, OPT_OFF }, { "count=100", 0, 100 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct opt_error error;
		struct conf conf = { 0 }, again = { 0 };
		char text[32];

		assert_int_equal(opt_parse(numbers, cases[i].text, &conf, &error), 0);
		assert_int_equal(conf.size, cases[i].size);
		assert_int_equal(conf.count, cases[i].count);
		for (const struct opt *opt = numbers; opt->key; opt++)
			if (opt_format(opt, &conf, text, sizeof(text)))
				assert_int_equal(opt_set(numbers, opt->key, text, &again, &error), 0);
		assert_memory_equal(&again, &conf, sizeof(conf));
	}
}

static void test_mistakes(void **state)
{
	static const struct {
		const struct opt *table;
		const char *text, *reason;
	} cases[] = {
		{ opts, "", "it needs path=PATH" },
		{ opts, "ro", "it needs path=PATH" },
		{ opts, "path=", "path=: it needs a value: PATH" },
		{ opts, "a,serial", "serial: it needs a value: TEXT" },
		{ opts, "a,ro,", "nothing between two commas" },
		{ opts, "a,b", "b: there is no such key" },
		{ opts, "a,serail=1", "serail=1: there is no such key, did you mean serial?" },
		{ opts, "a,dir", "dir: there is no such key, did you mean direct?" },
		{ opts, "zzz=1", "zzz=1: there is no such key, only path, serial, ro, direct, count, "
				 "size, engine and mac" },
		{ opts, "a,path=b", "path=b: it is given twice, keep one" },
		{ opts, "a,ro,ro", "ro: it is given twice, keep one" },
		{ opts, "a,ro=yes", "ro=yes: write on or off" },
		{ opts, "a,count=1", "count=1: choose from 2 to 64" },
		{ opts, "a,count=65", "choose from 2 to 64" },
		{ opts, "a,count=99999999999999999999", "choose from 2 to 64" },
		{ opts, "a,count=-1", "write a whole number" },
		{ opts, "a,count= 3", "write a whole number" },
		{ opts, "a,count=3x", "write a whole number" },
		{ opts, "a,count=0x", "write a whole number" },
		{ opts, "a,count=2K", "write a whole number" },
		{ opts, "a,size=1", "choose from 4K to " },
		{ opts, "a,size=1Q", "write a size such as" },
		{ opts, "a,size=1MB", "write a size such as" },
		{ opts, "a,size=16777216T", "choose from 4K to " },
		{ opts, "a,engine=fast", "engine=fast: choose uring or sync" },
		{ opts, "a,mac=52:54:00:12:34", "write six bytes" },
		{ opts, "a,mac=52:54:00:12:34:5", "write six bytes" },
		{ opts, "a,mac=52:54:00:12:34:567", "write six bytes" },
		{ opts, "a,mac=52-54-00-12-34-56", "write six bytes" },
		{ opts, "a,mac=5::54:00:12:34:56", "write six bytes" },
		{ opts, "a,mac=01:54:00:12:34:56", "group address" },
		{ opts, "a,mac=00:00:00:00:00:00", "no address" },
		{ flags, "x", "x: there is no such key, only ro and count" },
		{ flags, "coutn=3", "did you mean count?" },
		{ alternatives, "count=1,ro,path=a", "give path or ro, not both" },
		{ numbers, "size=0", "size=0: choose a power of two from 2 to 32768" },
		{ numbers, "size=1", "choose a power of two from 2 to 32768" },
		{ numbers, "size=3", "choose a power of two from 2 to 32768" },
		{ numbers, "size=32767", "choose a power of two from 2 to 32768" },
		{ numbers, "size=65536", "choose a power of two from 2 to 32768" },
		{ numbers, "size=off", "write a whole number" },
		{ numbers, "count=0", "count=0: choose from 1 to 100, or off" },
		{ numbers, "count=18446744073709551615", "choose from 1 to 100, or off" },
		{ numbers, "count=of", "write a whole number" },
		{ choice, "ro", "it needs path=PATH or count=N" },
		{ choice, "a,count=1", "give path or count, not both" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(conf_free) struct conf conf = { 0 };
		struct opt_error error = { "" };

		assert_int_equal(opt_parse(cases[i].table, cases[i].text, &conf, &error), -EINVAL);
		if (!strstr(error.text, cases[i].reason))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, error.text,
				 cases[i].reason);
	}
}

static void test_long_text(void **state)
{
	_cleanup_(conf_free) struct conf conf = { 0 };
	struct opt_error error = { "" };
	char text[8192];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(opt_parse(opts, text, &conf, &error), 0);
	assert_string_equal(conf.path, text);
	text[1] = ',';
	assert_int_equal(opt_parse(opts, text, &conf, &error), -EINVAL);
	assert_non_null(strstr(error.text, "only path"));
}

static void test_set_replaces(void **state)
{
	_cleanup_(conf_free) struct conf conf = { 0 };
	struct opt_error error;

	(void)state;
	assert_int_equal(opt_complete(opts, &conf, &error), -EINVAL);
	assert_int_equal(opt_set(opts, "path", "a,b", &conf, &error), 0);
	assert_int_equal(opt_set(opts, "path", "c", &conf, &error), 0);
	assert_string_equal(conf.path, "c");
	assert_int_equal(opt_complete(opts, &conf, &error), 0);
	assert_int_equal(opt_set(opts, "count", "65", &conf, &error), -EINVAL);
	assert_int_equal(conf.count, 0);
	assert_int_equal(opt_set(opts, "ro", NULL, &conf, &error), 0);
	assert_true(conf.ro);
	assert_int_equal(opt_set(opts, "serial", NULL, &conf, &error), -EINVAL);
	assert_int_equal(opt_set(opts, "nothing", "1", &conf, &error), -EINVAL);
}

/* What opt_format() writes, opt_set() reads. */
static void test_format_reads_back(void **state)
{
	_cleanup_(conf_free) struct conf conf = { 0 }, copy = { 0 };
	struct opt_error error;
	char buffer[64];

	(void)state;
	for (const struct opt *opt = opts; opt->key; opt++)
		assert_false(opt_format(opt, &conf, buffer, sizeof(buffer)));
	assert_int_equal(opt_parse(opts, "a,,b,serial=s,ro,direct,count=3,size=1536M,engine=sync,"
				   "mac=02:00:00:00:00:01", &conf, &error), 0);
	for (const struct opt *opt = opts; opt->key; opt++) {
		assert_true(opt_format(opt, &conf, buffer, sizeof(buffer)));
		assert_int_equal(opt_set(opts, opt->key, buffer, &copy, &error), 0);
	}
	assert_string_equal(copy.path, "a,b");
	assert_string_equal(copy.serial, "s");
	assert_true(copy.ro && copy.direct);
	assert_int_equal(copy.count, 3);
	assert_int_equal(copy.size, MIB(1536));
	assert_int_equal(copy.engine, 1);
	assert_memory_equal(copy.mac, conf.mac, sizeof(conf.mac));
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int err;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "010", 0, 10 },
		{ "0x10000", 0, 65536 },
		{ "1K", 0, 1024 },
		{ "256m", 0, MIB(256) },
		{ "3G", 0, GIB(3) },
		{ "16777215T", 0, 16777215ULL << 40 },
		{ "16777216T", -ERANGE, 0 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "1 M", -EINVAL, 0 },
		{ "0x", -EINVAL, 0 },
		{ "a", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 42;

		assert_int_equal(opt_parse_size(cases[i].text, &bytes), cases[i].err);
		assert_int_equal(bytes, cases[i].err ? 42 : cases[i].bytes);
	}
}

static void test_one_of(void **state)
{
	static const char *const good[] = { "", "count=1", "ro,count=1", "path=a,ro=off" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_(conf_free) struct conf conf = { 0 };
		struct opt_error error;

		assert_int_equal(opt_parse(alternatives, good[i], &conf, &error), 0);
	}
}

static const char *nearest(const char *word)
{
	static const char *const names[] = { "kernel", "memory", "cpus", "log" };
	struct opt_guess guess = { .word = word };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		opt_guess(&guess, names[i]);
	return guess.name;
}

static void test_guess(void **state)
{
	char endless[4096];

	(void)state;
	memset(endless, 'k', sizeof(endless));
	endless[sizeof(endless) - 1] = '\0';
	assert_string_equal(nearest("kernal"), "kernel");
	assert_string_equal(nearest("mem"), "memory");
	assert_string_equal(nearest("cpu"), "cpus");
	assert_string_equal(nearest("logg"), "log");
	assert_null(nearest("frobnicate"));
	assert_null(nearest("x"));
	assert_null(nearest(""));
	assert_null(nearest(endless));
}

/* Bytes of a good text changed, doubled and cut: any answer will do, but it must be one. */
static void test_mutations(void **state)
{
	static const char base[] = "a,,b.img,ro,direct=off,count=0x10,size=2M,engine=sync,"
				   "mac=52:54:00:12:34:fe,serial=x";
	static const char bytes[] = ",=:0xKm-\x80 aro";
	uint32_t random = 1;
	int accepted = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		_cleanup_(conf_free) struct conf conf = { 0 };
		char text[sizeof(base)];
		struct opt_error error;

		memcpy(text, base, sizeof(base));
		for (int i = round % 4; i >= 0; i--) {
			random = random * 1664525 + 1013904223;
			text[(random >> 8) % (sizeof(base) - 1)] =
				bytes[(random >> 24) % sizeof(bytes)];
		}
		accepted += opt_parse(opts, text, &conf, &error) == 0;
	}
	assert_in_range(accepted, 1, 19999);
}

/* What may be given again adds to what there was. */
static void test_list(void **state)
{
	static const struct opt lists[] = {
		{ "path", OPT_STRING, .list = true, .offset = offsetof(struct conf, path) },
		{ "serial", OPT_STRING, .offset = offsetof(struct conf, serial) },
		{ 0 },
	};
	struct opt_error error;
	struct conf conf = { 0 };

	(void)state;
	assert_int_equal(opt_parse(lists, "path=a,serial=s,path=b:c,path=d", &conf, &error), 0);
	assert_string_equal(conf.path, "a,b:c,d");
	assert_int_equal(opt_parse(lists, "path=", &conf, &error), -EINVAL);
	assert_string_equal(conf.path, "a,b:c,d");
	opt_free(lists, &conf);
	/* As it is printed. */
	assert_int_equal(opt_set(lists, "path", "a,b:c,d", &conf, &error), 0);
	assert_string_equal(conf.path, "a,b:c,d");
	opt_free(lists, &conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_first_word),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_set_replaces),
		cmocka_unit_test(test_format_reads_back),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_one_of),
		cmocka_unit_test(test_guess),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
