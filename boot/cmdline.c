// SPDX-License-Identifier: Apache-2.0
#include "boot/boot.h"

#include <stdarg.h>
#include <stdio.h>

int boot_cmdline_add(struct boot_cmdline *cmdline, const char *format, ...)
{
	char *end = cmdline->text + cmdline->len;
	size_t space = cmdline->len ? 1 : 0, room = sizeof(cmdline->text) - cmdline->len - space;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(end + space, room, format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= room) {
		*end = '\0';
		return -E2BIG;
	}
	if (len) {
		cmdline->len += space + (size_t)len;
		if (space)
			*end = ' ';
	}
	return 0;
}
