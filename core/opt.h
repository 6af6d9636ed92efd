/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option tables. One table describes the keys of one option; the command line
 * ("PATH,key=value,flag"), the JSON form, --help and --print-config all follow
 * from it. A comma within a value is written twice.
 */
#ifndef CORE_OPT_H
#define CORE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_type {
	OPT_STRING, /* char *, owned by the configuration */
	OPT_BOOL,   /* bool: "key", "key=on", "key=off" */
	OPT_UINT,   /* uint64_t: decimal or 0x */
	OPT_SIZE,   /* uint64_t bytes: K, M, G, T suffixes are powers of 1024 */
	OPT_CHOICE, /* int: the index within choices */
	OPT_MAC,    /* uint8_t[6]: aa:bb:cc:dd:ee:ff */
};

#define OPT_OFF UINT64_MAX

struct opt {
	const char *key; /* NULL ends a table */
	enum opt_type type;
	bool bare;       /* the first word, when it has no "key=" and is no flag, is its value */
	bool required;
	bool one_of;     /* at the most one of the rows marked so is given; with required: just one */
	size_t offset;   /* of the field within the configuration struct */
	uint64_t min, max; /* OPT_UINT, OPT_SIZE; max 0: no upper limit */
	bool power_of_two; /* OPT_UINT: nothing else will do */
	bool may_be_off;   /* OPT_UINT: "off" as well, which is OPT_OFF, as 0 is what was not given */
	bool terminal;     /* it is on the terminal, of which there is one, unless another one_of is given */
	bool list;         /* OPT_STRING: it may be given again, and the values stand in a row, with commas */
	bool made;         /* OPT_STRING: a socket that is made there, and removed at the end */
	const char *const *choices; /* OPT_CHOICE: names, ended by NULL */
	const char *arg;  /* "PATH", for help; NULL for flags and choices */
	const char *help; /* one line, no full stop */
};

/* How much of a user's text a message repeats, so that the advice after it always fits. */
#define OPT_SHOWN 60

/* What was wrong and what to do, as the end of a sentence that the caller begins. */
struct opt_error {
	char text[512];
};

/*
 * Parses "first,key=value,..." into conf, which was zeroed or holds defaults.
 * -EINVAL with the reason in error, behind the word that it is about: unknown
 * key (with the nearest known one), missing or bad value, a key given twice, a
 * required key missing, two keys that exclude each other.
 */
int opt_parse(const struct opt *table, const char *text, void *conf, struct opt_error *error);

/* Sets one key from its text; a flag's may be NULL. -EINVAL; the reason does not name the key. */
int opt_set(const struct opt *table, const char *key, const char *value, void *conf,
	    struct opt_error *error);

/* -EINVAL when a required key has no value in conf, or more than one_of them has. */
int opt_complete(const struct opt *table, const void *conf, struct opt_error *error);

/*
 * The value of a field as opt_set() reads it, into buffer. Returns false for
 * a field that was not given: a NULL string, zero, false, choice 0.
 */
bool opt_format(const struct opt *opt, const void *conf, char *buffer, size_t len);

/* Frees the strings of conf. */
void opt_free(const struct opt *table, void *conf);

/*
 * For "did you mean": set word, call opt_guess() with each name there is, and
 * name is the nearest of them; NULL when none is near.
 */
struct opt_guess {
	const char *word, *name;
	size_t distance; /* between the two */
};

void opt_guess(struct opt_guess *guess, const char *name);

/* "256M", "0x10000"; -EINVAL for anything else, -ERANGE when it does not fit. */
int opt_parse_size(const char *text, uint64_t *ret_bytes);

#endif
