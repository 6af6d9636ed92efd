// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"

#include <ctype.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include "core/util.h"

#define LOG_LINE_MAX 1024
#define LOG_NAME_MAX 64
#define LOG_WAIT_S 1
#define LOG_WINDOW_NS (10 * NS_PER_SEC)
#define LOG_WINDOW_MAX 10

const char *const log_level_names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
	NULL,
};

static _Atomic enum log_level log_level = LOG_WARN;
static const char *_Atomic log_name = "microvm";

void log_set_level(enum log_level level)
{
	log_level = level;
}

void log_set_name(const char *name)
{
	log_name = name;
}

/* A pipe whose reader stopped reading must not stop a device's thread, and the end of all with it. */
static bool log_writable(void)
{
	const struct timespec wait = { .tv_sec = LOG_WAIT_S };
	struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };

	return ppoll(&err, 1, &wait, NULL) != 0;
}

void log_at(enum log_level level, const char *format, ...)
{
	char line[LOG_LINE_MAX];
	va_list args;
	size_t len;

	if (level > log_level)
		return;

	snprintf(line, sizeof(line), "%.*s: ", LOG_NAME_MAX, log_name);
	len = strlen(line);
	va_start(args, format);
	vsnprintf(line + len, sizeof(line) - len - 1, format, args);
	va_end(args);

	/* Text may come from a guest, and stderr may be a terminal. */
	for (len = 0; line[len]; len++)
		if (iscntrl((unsigned char)line[len]))
			line[len] = '?';
	/* A terminal that a guest's console made raw stays in its column. */
	if (isatty(STDERR_FILENO))
		line[len++] = '\r';
	line[len++] = '\n';

	/* In one call, or the lines of several threads would mix. Nobody to tell if it fails. */
	if (log_writable())
		(void)!write(STDERR_FILENO, line, len);
}

bool log_allowed(struct log_limit *limit)
{
	uint64_t now = util_now_ns();

	if (limit->count == 0 || now - limit->window_ns >= LOG_WINDOW_NS) {
		limit->window_ns = now;
		limit->count = 0;
	}
	if (limit->count == LOG_WINDOW_MAX)
		return false;
	limit->count++;
	return true;
}
