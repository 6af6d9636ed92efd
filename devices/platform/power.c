// SPDX-License-Identifier: Apache-2.0
#include "devices/platform/platform.h"

/* Sleep control (ACPI 6.4, table 4.22). */
#define SLEEP_ENABLE (1 << 5)
#define SLEEP_TYPE(value) ((value) >> 2 & 7)

/* Sleep status as well: this machine never wakes up from anything. */
static uint64_t power_read(void *opaque, uint64_t offset, unsigned int len)
{
	(void)opaque;
	(void)offset;
	(void)len;
	return 0;
}

static void power_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	const struct platform_host *host = opaque;

	(void)len;
	if (offset == POWER_SLEEP_CONTROL && value & SLEEP_ENABLE &&
	    SLEEP_TYPE(value) == POWER_S5_TYPE)
		host->request(host->opaque, PLATFORM_POWER_OFF, 0);
	else if (offset == POWER_RESET && value == POWER_RESET_VALUE)
		host->request(host->opaque, PLATFORM_REBOOT, 0);
}

const struct bus_ops power_ops = { .read = power_read, .write = power_write };
