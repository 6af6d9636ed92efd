// SPDX-License-Identifier: Apache-2.0
/*
 * screen PROGRAM VIEWER WIDTH HEIGHT: microvm's side of a display. Shows the pixels that come
 * on standard input, and writes each key that is pressed there, until that or the display ends.
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "devices/display/display.h"

static int serve(int keyboard)
{
	struct display_message message;
	struct pollfd fds[] = { { STDIN_FILENO, POLLIN, 0 }, { keyboard, POLLIN, 0 } };
	int r;

	setlinebuf(stdout);
	while (poll(fds, ARRAY_SIZE(fds), -1) > 0 && !fds[0].revents) {
		r = display_receive(keyboard, &message);
		if (r && r != -EAGAIN && r != -EBADMSG)
			return r;
		if (!r && message.type == DISPLAY_KEY && message.key.value)
			printf("%u\n", message.key.code);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct display_message surface = { .type = DISPLAY_SURFACE };
	struct display_conf conf = { 0 };
	struct display display;
	struct display_head *heads;
	int gpu, keyboard, r;

	if (argc != 5)
		errx(2, "usage: screen PROGRAM VIEWER WIDTH HEIGHT <PIXELS");
	display_init(&display);
	display.program = argv[1];
	conf.viewer = argv[2];
	surface.rect.width = (uint32_t)atoi(argv[3]);
	surface.rect.height = (uint32_t)atoi(argv[4]);
	r = display_open(&display, &conf, 1, &heads);
	if (!r)
		r = display_connect(&display, DISPLAY_GPU, &gpu);
	if (!r)
		r = display_connect(&display, DISPLAY_KEYBOARD, &keyboard);
	if (!r)
		r = display_start(&display, "a picture");
	if (r)
		errx(1, "no display: %s", strerror(-r));
	if (!fread(heads->pixels, (size_t)surface.rect.width * surface.rect.height * 4, 1, stdin))
		errx(1, "these are not all pixels");
	r = display_send(gpu, &surface);
	if (!r)
		r = serve(keyboard);
	if (r)
		warnx("the display is gone: %s", strerror(-r));
	display_close(&display);
	return r ? 1 : 0;
}
