/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per message on stderr, "microvm: text". Library code returns errors
 * and does not log; the assembly does, and virtio_fail() for a guest's faults.
 * Level and prefix are global; so is what a signal handler needs (in filter.c,
 * chardev_stdio.c and deadline.c), and nothing else.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The names of the levels in their order, ended by NULL. */
extern const char *const log_level_names[];

void log_set_level(enum log_level level);

/* A prefix in front of every message instead of "microvm", e.g. the VM's name. Not copied. */
void log_set_name(const char *name);

__attribute__((format(printf, 2, 3))) void log_at(enum log_level level, const char *format, ...);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/*
 * Lets ten messages through in ten seconds: a guest must not be able to fill
 * a log. One per object that complains; zeroed at first.
 */
struct log_limit {
	uint64_t window_ns;
	unsigned int count;
};

bool log_allowed(struct log_limit *limit);

#endif
