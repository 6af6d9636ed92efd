// SPDX-License-Identifier: Apache-2.0
#include "core/opt.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include "core/util.h"

/* The longest name that opt_guess() considers. */
#define WORD_MAX 40

static const char size_suffixes[] = "KMGT";

__attribute__((format(printf, 2, 3)))
static int fail(struct opt_error *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return -EINVAL;
}

static size_t table_count(const struct opt *table)
{
	size_t count = 0;

	while (table[count].key)
		count++;
	return count;
}

static const struct opt *table_find(const struct opt *table, const char *key)
{
	for (; table->key; table++)
		if (!strcmp(table->key, key))
			return table;
	return NULL;
}

static void *opt_field(const struct opt *opt, void *conf)
{
	return (char *)conf + opt->offset;
}

/* Appends to a message; what does not fit is cut off. */
__attribute__((format(printf, 2, 3)))
static void append(struct opt_error *error, const char *format, ...)
{
	size_t len = strlen(error->text);
	va_list args;

	va_start(args, format);
	vsnprintf(error->text + len, sizeof(error->text) - len, format, args);
	va_end(args);
}

static int fail_choice(struct opt_error *error, const struct opt *opt)
{
	fail(error, "choose ");
	for (size_t i = 0; opt->choices[i]; i++)
		append(error, "%s%s", i == 0 ? "" : opt->choices[i + 1] ? ", " : " or ",
		       opt->choices[i]);
	return -EINVAL;
}

static int fail_unknown(struct opt_error *error, const struct opt *table, const char *key)
{
	struct opt_guess guess = { .word = key };

	for (const struct opt *opt = table; opt->key; opt++)
		opt_guess(&guess, opt->key);
	if (guess.name)
		return fail(error, "there is no such key, did you mean %s?", guess.name);
	fail(error, "there is no such key, only ");
	for (const struct opt *opt = table; opt->key; opt++)
		append(error, "%s%s", opt == table ? "" : opt[1].key ? ", " : " and ", opt->key);
	return -EINVAL;
}

static int parse_number(const char *text, uint64_t *ret_value, const char **ret_end)
{
	int base = text[0] == '0' && tolower((unsigned char)text[1]) == 'x' ? 16 : 10;
	unsigned long long value;
	char *end;

	/* strtoull() would take blanks, signs and a bare "0x". */
	if (!isxdigit((unsigned char)text[base == 16 ? 2 : 0]))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, base);
	if (end == text)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*ret_value = value;
	*ret_end = end;
	return 0;
}

static int parse_uint(const char *text, uint64_t *ret_value)
{
	const char *end;
	uint64_t value;
	int err;

	err = parse_number(text, &value, &end);
	if (err)
		return err;
	if (*end)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

int opt_parse_size(const char *text, uint64_t *ret_bytes)
{
	const char *end, *suffix;
	unsigned int shift;
	uint64_t value;
	int err;

	err = parse_number(text, &value, &end);
	if (err)
		return err;
	if (*end) {
		suffix = strchr(size_suffixes, toupper((unsigned char)*end));
		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(suffix - size_suffixes + 1);
		if (value > UINT64_MAX >> shift)
			return -ERANGE;
		value <<= shift;
	}
	*ret_bytes = value;
	return 0;
}

static void format_size(uint64_t bytes, char *buffer, size_t len)
{
	unsigned int suffix = 0;

	while (bytes && bytes % 1024 == 0 && suffix < strlen(size_suffixes)) {
		bytes /= 1024;
		suffix++;
	}
	if (suffix == 0)
		snprintf(buffer, len, "%" PRIu64, bytes);
	else
		snprintf(buffer, len, "%" PRIu64 "%c", bytes, size_suffixes[suffix - 1]);
}

static void format_number(const struct opt *opt, uint64_t value, char *buffer, size_t len)
{
	if (opt->type == OPT_SIZE)
		format_size(value, buffer, len);
	else if (opt->may_be_off && value == OPT_OFF)
		snprintf(buffer, len, "off");
	else
		snprintf(buffer, len, "%" PRIu64, value);
}

static int set_number(const struct opt *opt, const char *value, uint64_t *field,
		      struct opt_error *error)
{
	char min[32], max[32];
	uint64_t number;
	int err;

	if (opt->may_be_off && !strcmp(value, "off")) {
		*field = OPT_OFF;
		return 0;
	}
	err = opt->type == OPT_SIZE ? opt_parse_size(value, &number) : parse_uint(value, &number);
	if (err == -EINVAL)
		return fail(error, "write %s",
			    opt->type == OPT_SIZE ? "a size such as 512M or 2G" : "a whole number");
	if (!err && number >= opt->min && (!opt->max || number <= opt->max) &&
	    (!opt->power_of_two || !(number & (number - 1)))) {
		*field = number;
		return 0;
	}
	format_number(opt, opt->min, min, sizeof(min));
	format_number(opt, opt->max ? opt->max : UINT64_MAX, max, sizeof(max));
	return fail(error, "choose %sfrom %s to %s%s", opt->power_of_two ? "a power of two " : "",
		    min, max, opt->may_be_off ? ", or off" : "");
}

static int set_bool(const char *value, bool *field, struct opt_error *error)
{
	bool on = !value || !strcmp(value, "on");

	if (!on && strcmp(value, "off"))
		return fail(error, "write on or off");
	*field = on;
	return 0;
}

static int set_choice(const struct opt *opt, const char *value, int *field, struct opt_error *error)
{
	for (int i = 0; opt->choices[i]; i++) {
		if (strcmp(opt->choices[i], value))
			continue;
		*field = i;
		return 0;
	}
	return fail_choice(error, opt);
}

static int set_string(const struct opt *opt, const char *value, char **field,
		      struct opt_error *error)
{
	char *copy;

	if (!*value)
		return fail(error, "it needs a value%s%s", opt->arg ? ": " : "",
			    opt->arg ? opt->arg : "");
	if (asprintf(&copy, "%s%s%s", opt->list && *field ? *field : "",
		     opt->list && *field ? "," : "", value) < 0)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_mac(const char *value, uint8_t field[6], struct opt_error *error)
{
	uint8_t mac[6];
	int end = -1;

	/* %hhx alone would take signs, blanks and single digits. */
	if (strlen(value) != 17 || strspn(value, "0123456789abcdefABCDEF:") != 17 ||
	    sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &end) != 6 || end != 17)
		return fail(error, "write six bytes such as 52:54:00:12:34:56");
	if (mac[0] & 1)
		return fail(error, "this is a group address, make the first byte even");
	if (!memcmp(mac, (uint8_t[6]){0}, 6))
		return fail(error, "this is no address, write one such as 52:54:00:12:34:56");
	memcpy(field, mac, sizeof(mac));
	return 0;
}

static int opt_assign(const struct opt *opt, const char *value, void *conf, struct opt_error *error)
{
	void *field = opt_field(opt, conf);

	/* Which none of the others takes for a value. */
	if (!value && opt->type != OPT_BOOL)
		value = "";
	switch (opt->type) {
	case OPT_STRING:
		return set_string(opt, value, field, error);
	case OPT_BOOL:
		return set_bool(value, field, error);
	case OPT_UINT:
	case OPT_SIZE:
		return set_number(opt, value, field, error);
	case OPT_CHOICE:
		return set_choice(opt, value, field, error);
	case OPT_MAC:
		return set_mac(value, field, error);
	}
	return -EINVAL;
}

int opt_set(const struct opt *table, const char *key, const char *value, void *conf,
	    struct opt_error *error)
{
	const struct opt *opt = table_find(table, key);

	return opt ? opt_assign(opt, value, conf, error) : fail_unknown(error, table, key);
}

/* Takes the word up to a single comma off *text, its doubled commas undone. NULL at the end. */
static char *take_word(char **text)
{
	char *word = *text, *in = word, *out = word;

	if (!word)
		return NULL;
	while (*in && (*in != ',' || in[1] == ',')) {
		in += *in == ',';
		*out++ = *in++;
	}
	*text = *in ? in + 1 : NULL;
	*out = '\0';
	return word;
}

/*
 * Finds what a word names and splits its value off. A first word like
 * "/dev/by-id=1" is a value: no key has a slash in it.
 */
static const struct opt *resolve_word(const struct opt *table, bool first, char *word,
				      char **ret_value)
{
	char *equals = word + strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-_");
	const struct opt *opt;

	if (*equals == '=') {
		*equals = '\0';
		*ret_value = equals + 1;
		return table_find(table, word);
	}
	opt = table_find(table, word);
	if (first && !(opt && opt->type == OPT_BOOL)) {
		for (const struct opt *bare = table; bare->key; bare++) {
			if (!bare->bare)
				continue;
			*ret_value = word;
			return bare;
		}
	}
	*ret_value = NULL;
	return opt;
}

/* Puts the reason behind the word that it is about; a bare one has a value and no key. */
static int fail_word(struct opt_error *error, const char *word, const char *value)
{
	struct opt_error reason = *error;

	if (!value || value == word)
		return fail(error, "%.*s: %s", OPT_SHOWN, word, reason.text);
	return fail(error, "%.*s=%.*s: %s", OPT_SHOWN, word, OPT_SHOWN, value, reason.text);
}

int opt_parse(const struct opt *table, const char *text, void *conf, struct opt_error *error)
{
	_cleanup_free_ bool *given = calloc(table_count(table) + 1, sizeof(*given));
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *word, *value;
	const struct opt *opt;
	int err;

	if (!given || !copy)
		return -ENOMEM;
	if (!*copy)
		rest = NULL;
	while ((word = take_word(&rest))) {
		if (!*word)
			return fail(error, "there is nothing between two commas; a comma within a "
					   "value is written twice");
		opt = resolve_word(table, word == copy, word, &value);
		if (!opt)
			err = fail_unknown(error, table, word);
		else if (given[opt - table] && !opt->list)
			err = fail(error, "it is given twice, keep one");
		else
			err = opt_assign(opt, value, conf, error);
		if (err)
			return err == -EINVAL ? fail_word(error, word, value) : err;
		given[opt - table] = true;
	}
	return opt_complete(table, conf, error);
}

static int fail_none(struct opt_error *error, const struct opt *table)
{
	const char *separator = "";

	fail(error, "it needs ");
	for (const struct opt *opt = table; opt->key; opt++) {
		if (!opt->one_of)
			continue;
		append(error, "%s%s%s%s", separator, opt->key, opt->type == OPT_BOOL ? "" : "=",
		       opt->type == OPT_BOOL ? "" : opt->arg ? opt->arg : "...");
		separator = " or ";
	}
	return -EINVAL;
}

int opt_complete(const struct opt *table, const void *conf, struct opt_error *error)
{
	const struct opt *chosen = NULL;
	bool choice_required = false;
	char buffer[64];

	for (const struct opt *opt = table; opt->key; opt++) {
		bool given = opt_format(opt, conf, buffer, sizeof(buffer));

		if (opt->one_of)
			choice_required |= opt->required;
		else if (opt->required && !given)
			return fail(error, "it needs %s=%s", opt->key, opt->arg ? opt->arg : "...");
		if (!opt->one_of || !given)
			continue;
		if (chosen)
			return fail(error, "give %s or %s, not both", chosen->key, opt->key);
		chosen = opt;
	}
	return choice_required && !chosen ? fail_none(error, table) : 0;
}

bool opt_format(const struct opt *opt, const void *conf, char *buffer, size_t len)
{
	const void *field = (const char *)conf + opt->offset;
	const char *string;
	const uint8_t *mac;

	switch (opt->type) {
	case OPT_STRING:
		string = *(char *const *)field;
		if (!string)
			return false;
		snprintf(buffer, len, "%s", string);
		return true;
	case OPT_BOOL:
		snprintf(buffer, len, "on");
		return *(const bool *)field;
	case OPT_UINT:
	case OPT_SIZE:
		format_number(opt, *(const uint64_t *)field, buffer, len);
		return *(const uint64_t *)field != 0;
	case OPT_CHOICE:
		snprintf(buffer, len, "%s", opt->choices[*(const int *)field]);
		return *(const int *)field != 0;
	case OPT_MAC:
		mac = field;
		snprintf(buffer, len, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
			 mac[3], mac[4], mac[5]);
		return memcmp(mac, (uint8_t[6]){0}, 6) != 0;
	}
	return false;
}

void opt_free(const struct opt *table, void *conf)
{
	if (!conf)
		return;
	for (const struct opt *opt = table; opt->key; opt++) {
		if (opt->type != OPT_STRING)
			continue;
		free(*(char **)opt_field(opt, conf));
		*(char **)opt_field(opt, conf) = NULL;
	}
}

/* Levenshtein's distance, one row at a time. Both are at most WORD_MAX long. */
static size_t distance(const char *a, const char *b)
{
	size_t row[WORD_MAX + 1], columns = strlen(b);

	for (size_t j = 0; j <= columns; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < columns; j++) {
			size_t replace = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			row[j + 1] = util_min(replace, util_min(row[j], diagonal) + 1);
		}
	}
	return row[columns];
}

void opt_guess(struct opt_guess *guess, const char *name)
{
	size_t len = strlen(guess->word), far = guess->name ? guess->distance : 2 + len / 3;
	size_t d;

	if (len == 0 || len > WORD_MAX || strlen(name) > WORD_MAX)
		return;
	/* A beginning, such as "mem", is nearer than any misspelling. */
	d = strncmp(guess->word, name, len) ? distance(guess->word, name) : 0;
	/* Two short words that share no letter are not near. */
	if (d >= far || d >= len)
		return;
	guess->name = name;
	guess->distance = d;
}
