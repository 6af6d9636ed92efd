/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system's behaviour, case by case. Each case runs in a process and an
 * empty working directory of its own, with umask 0, and ends at the first
 * check that does not hold. What the checks want is POSIX', and Linux' where
 * that leaves a choice.
 */
#ifndef TESTS_GUEST_FS_FSTEST_H
#define TESTS_GUEST_FS_FSTEST_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

struct fs_case {
	const char *name; /* NULL ends a table */
	void (*run)(void);
};

extern const struct fs_case name_cases[], attr_cases[], dir_cases[], file_cases[], shared_cases[];
/* What only root can do, some of it as others. */
extern const struct fs_case root_cases[];

#define CHECK(condition) check_holds((condition), #condition, __func__, __LINE__)
/* The call returns -1 with that errno. */
#define CHECK_FAILS(call, error) \
	check_error((call) < 0 ? errno : 0, (error), #call, __func__, __LINE__)

void check_holds(bool holds, const char *condition, const char *function, int line);
void check_error(int found, int wanted, const char *call, const char *function, int line);
/* Ends the case: what it is about is not there. */
_Noreturn void lacks(const char *what);

/* Runs it in a process of its own, as that user and group; it has to succeed. */
void as_user(uid_t uid, void (*run)(void));
/* Begins a process of its own; finish() waits for it to succeed. */
pid_t begin(void (*run)(void));
void finish(pid_t pid);

void write_file(const char *name, const char *text);
bool has_text(const char *name, const char *text);
bool exists(const char *name);
/* Of a link itself. */
struct stat status(const char *name);
mode_t permissions(const char *name);
/* Sets the times to some that are long ago; is_old(): nobody has changed it since. */
void make_old(const char *name);
bool is_old(const char *name);

/* Operations that follow from a seed, a line for each; and what a tree looks like. */
int random_main(int argc, char *const *argv);
int tree_main(int argc, char *const *argv);

#endif
