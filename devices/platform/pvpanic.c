// SPDX-License-Identifier: Apache-2.0
#include <misc/pvpanic.h>
#include "devices/platform/platform.h"

static uint64_t pvpanic_read(void *opaque, uint64_t offset, unsigned int len)
{
	(void)opaque;
	(void)offset;
	(void)len;
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	const struct platform_host *host = opaque;

	(void)offset;
	(void)len;
	if (value & PVPANIC_PANICKED)
		host->request(host->opaque, PLATFORM_PANIC, 0);
	else if (value & PVPANIC_CRASH_LOADED)
		host->request(host->opaque, PLATFORM_CRASH_LOAD, 0);
}

const struct bus_ops pvpanic_ops = { .read = pvpanic_read, .write = pvpanic_write };
