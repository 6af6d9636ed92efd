// SPDX-License-Identifier: Apache-2.0
/*
 * evread NAME REPORTS: "ready", then events of the input device with that name, one in a line, up to
 * so many reports. evread NAME light CODE VALUE: lights a LED of it, or turns it off.
 */
#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/input.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int open_device(const char *wanted)
{
	glob_t found;
	char name[128];

	if (glob("/dev/input/event*", 0, NULL, &found))
		errx(1, "no input devices");
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_RDWR);

		memset(name, 0, sizeof(name));
		if (fd >= 0 && ioctl(fd, EVIOCGNAME(sizeof(name) - 1), name) >= 0 && !strcmp(name, wanted))
			return fd;
		close(fd);
	}
	errx(1, "no %s", wanted);
}

static void light(int fd, int code, int value)
{
	const struct input_event events[] = {
		{ .type = EV_LED, .code = (__u16)code, .value = value },
		{ .type = EV_SYN },
	};

	if (write(fd, events, sizeof(events)) != sizeof(events))
		err(1, "write");
}

int main(int argc, char **argv)
{
	struct input_event event;
	int fd;

	if (argc < 3)
		errx(2, "usage: evread NAME REPORTS, or evread NAME light CODE VALUE");
	fd = open_device(argv[1]);
	if (argc == 5) {
		light(fd, atoi(argv[3]), atoi(argv[4]));
		return 0;
	}
	setlinebuf(stdout);
	puts("ready");
	for (int left = atoi(argv[2]); left;) {
		if (read(fd, &event, sizeof(event)) != sizeof(event))
			err(1, "read");
		printf("%d %d %d\n", event.type, event.code, event.value);
		left -= event.type == EV_SYN && event.code == SYN_REPORT;
	}
	return 0;
}
