// SPDX-License-Identifier: Apache-2.0
/*
 * Arm's PL031 (ARM DDI 0224). There is no alarm: a guest that runs has better
 * timers, and one that sleeps is woken by nobody. So its registers only keep
 * what was written to them, and the match never becomes an interrupt.
 */
#include <pthread.h>
#include "core/util.h"
#include "devices/platform/platform.h"
#include "devices/platform/primecell.h"

#define PART 0x031

#define RTCDR 0x000
#define RTCMR 0x004
#define RTCLR 0x008
#define RTCCR 0x00c
#define RTCIMSC 0x010

struct pl031 {
	pthread_mutex_t lock; /* vCPU threads come at once */
	uint32_t match, load, imsc;
	uint32_t offset; /* of the guest's clock from the host's, modulo 2^32 */
};

static uint32_t host_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint32_t)now.tv_sec;
}

static uint32_t read_register(const struct pl031 *rtc, uint64_t offset)
{
	switch (offset) {
	case RTCDR:
		return host_seconds() + rtc->offset;
	case RTCMR:
		return rtc->match;
	case RTCLR:
		return rtc->load;
	case RTCCR:
		return 1; /* it cannot be stopped */
	case RTCIMSC:
		return rtc->imsc;
	}
	return offset % 4 ? 0 : primecell_id(PART, offset);
}

static uint64_t pl031_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct pl031 *rtc = opaque;
	uint32_t value;

	(void)len;
	pthread_mutex_lock(&rtc->lock);
	value = read_register(rtc, offset);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void pl031_write(void *opaque, uint64_t offset, unsigned int len, uint64_t data)
{
	struct pl031 *rtc = opaque;
	uint32_t value = (uint32_t)data;

	(void)len;
	pthread_mutex_lock(&rtc->lock);
	switch (offset) {
	case RTCMR:
		rtc->match = value;
		break;
	case RTCLR:
		rtc->load = value;
		rtc->offset = value - host_seconds();
		break;
	case RTCIMSC:
		rtc->imsc = value & 1;
		break;
	}
	pthread_mutex_unlock(&rtc->lock);
}

const struct bus_ops pl031_ops = { .read = pl031_read, .write = pl031_write };

void pl031_reset(struct pl031 *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->match = rtc->load = rtc->imsc = rtc->offset = 0;
	pthread_mutex_unlock(&rtc->lock);
}

int pl031_new(struct pl031 **ret_rtc)
{
	struct pl031 *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return -ENOMEM;
	pthread_mutex_init(&rtc->lock, NULL);
	*ret_rtc = rtc;
	return 0;
}

void pl031_free(struct pl031 *rtc)
{
	if (!rtc)
		return;
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}
