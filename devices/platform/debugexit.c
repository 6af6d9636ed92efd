// SPDX-License-Identifier: Apache-2.0
#include "devices/platform/platform.h"

static uint64_t debug_exit_read(void *opaque, uint64_t offset, unsigned int len)
{
	(void)opaque;
	(void)offset;
	(void)len;
	return 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	const struct platform_host *host = opaque;

	(void)offset;
	(void)len;
	host->request(host->opaque, PLATFORM_EXIT, (int)((value << 1 | 1) & 0xff));
}

const struct bus_ops debug_exit_ops = { .read = debug_exit_read, .write = debug_exit_write };
