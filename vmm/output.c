// SPDX-License-Identifier: Apache-2.0
#include "vmm/output.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include "core/log.h"
#include "core/util.h"
#include "devices/display/display.h"

#define PICTURES_OPTION "--screenshot-at-exit"

static const struct hint picture_hints[] = {
	{ ENODATA, "this head of the gpu shows nothing, the file stays empty" },
	{ ETIMEDOUT, "microvm-display did not write it in time" },
	{ ECHILD, "the process of microvm-display that wrote it was killed, so it is not whole" },
	{ ECONNRESET, "microvm-display has ended, so there is no picture" },
	{ 0 },
};

int output_open(const char *option, const char *path, int *ret_fd)
{
	/* O_NONBLOCK: a FIFO must not be waited for, the less as signals are blocked. */
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	int err = errno;

	if (fd < 0) {
		log_error("%s %s: it cannot be written: %s", option, path, strerror(err));
		return -err;
	}
	*ret_fd = fd;
	return 0;
}

/* shot.png, shot-1.png, ... */
static void picture_name(const char *path, unsigned int head, char name[PATH_MAX])
{
	const char *base = strrchr(path, '/'), *end = strrchr(base ?: path, '.') ?: strchr(path, '\0');

	if (head)
		snprintf(name, PATH_MAX, "%.*s-%u%s", (int)(end - path), path, head, end);
	else
		snprintf(name, PATH_MAX, "%s", path);
}

int output_open_pictures(const char *path, struct display *display)
{
	char name[PATH_MAX];
	int err = 0;

	if (path && !display->heads)
		log_warn(PICTURES_OPTION ": there is nothing to see, add --gpu");
	for (unsigned int i = 0; !err && path && i < display->heads; i++) {
		_cleanup_close_ int fd = -1;

		picture_name(path, i, name);
		err = output_open(PICTURES_OPTION, name, &fd);
		if (err)
			return err;
		err = display_give_file(display, i, fd);
		if (err)
			log_error(PICTURES_OPTION " %s: %s", name, hint_find(picture_hints, err));
	}
	return err;
}

void output_write_pictures(const char *path, struct display *display)
{
	char name[PATH_MAX];

	for (unsigned int i = 0; path && i < display->heads; i++) {
		int err = display_shoot(display, i);

		picture_name(path, i, name);
		if (err)
			log_warn(PICTURES_OPTION " %s: %s", name, hint_find(picture_hints, err));
	}
}
