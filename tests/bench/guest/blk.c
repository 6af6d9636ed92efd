// SPDX-License-Identifier: Apache-2.0
#include <linux/virtio_blk.h>
#include "measure.h"

#define SECTOR 512
#define PAGE 4096
#define BYTES_MAX 0x40000
#define PARTS 3

struct blk_request {
	struct virtio_blk_outhdr header;
	uint8_t status;
};

struct blk {
	struct traffic traffic;
	struct blk_request requests[DEPTH_MAX];
	bool sequential;
	uint32_t sectors, random;
	uint64_t places, next; /* in units of a request */
};

static bool blk_done(struct traffic *traffic, unsigned int request)
{
	return ((struct blk *)traffic)->requests[request].status == VIRTIO_BLK_S_OK;
}

/* xorshift */
static uint32_t blk_random(struct blk *blk)
{
	blk->random ^= blk->random << 13;
	blk->random ^= blk->random >> 17;
	return blk->random ^= blk->random << 5;
}

static void blk_renew(struct traffic *traffic, unsigned int request)
{
	struct blk *blk = (struct blk *)traffic;
	uint64_t place = blk->sequential ? blk->next++ % blk->places : blk_random(blk) % blk->places;

	blk->requests[request].header.sector = place * blk->sectors;
	blk->requests[request].status = UINT8_MAX;
}

static void blk_prepare(struct blk *blk, const struct load *load)
{
	for (unsigned int i = 0; i < load->depth; i++) {
		uint8_t *data = buffers + (size_t)i * BYTES_MAX;
		struct blk_request *request = &blk->requests[i];

		/* Memory that was never touched costs at the first time. */
		for (uint32_t at = 0; at < load->bytes; at += PAGE)
			data[at] = (uint8_t)i;
		request->header.type = load->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
		queue_part(blk->traffic.queue, i, 0, &request->header, sizeof(request->header),
			   false);
		queue_part(blk->traffic.queue, i, 1, data, load->bytes, !load->write);
		queue_part(blk->traffic.queue, i, 2, &request->status, sizeof(request->status), true);
	}
}

static bool blk_start(struct blk *blk, const struct target *target, const struct load *load)
{
	/* A disk whose driver knows no flush writes through. */
	uint64_t features = target->ring | (uint64_t)load->write << VIRTIO_BLK_F_FLUSH;

	if (!load->bytes || load->bytes > BYTES_MAX || load->bytes % SECTOR ||
	    !device_start(target->dev, features, target->queues, 1, PARTS) ||
	    !traffic_fits(target->queues, load))
		return false;
	*blk = (struct blk){
		.traffic = { target->queues, blk_done, blk_renew },
		.sequential = load->sequential,
		.sectors = load->bytes / SECTOR,
		.random = (uint32_t)cpu_ns() | 1,
	};
	blk->places = ((uint64_t)read32(target->dev->config + 4) << 32 | read32(target->dev->config)) /
		      blk->sectors;
	blk_prepare(blk, load);
	return blk->places;
}

enum measure_error measure_blk(const struct target *target, const struct load *load,
			       struct result *ret_result)
{
	struct blk blk;

	if (!blk_start(&blk, target, load))
		return MEASURE_REFUSED;
	return traffic_run(&blk.traffic, load, ret_result);
}

/* Posts all requests; returns the time between the first in the used ring and its interrupt. */
static uint64_t interrupt_latency(struct traffic *traffic, unsigned int depth)
{
	struct queue *queue = traffic->queue;
	uint32_t seen = interrupt_count;
	uint64_t used;

	queue_want_interrupts(queue, true);
	for (unsigned int i = 0; i < depth; i++)
		traffic_post(traffic, i);
	queue_publish(queue);
	while (queue_take(queue) < 0)
		cpu_pause();
	used = cpu_ns();
	while (interrupt_count == seen)
		cpu_pause();
	used = cpu_ns() - used;
	queue_want_interrupts(queue, false);
	while (--depth)
		while (queue_take(queue) < 0)
			cpu_pause();
	queue->dev->transport->acknowledge(queue->dev);
	return used;
}

enum measure_error measure_interrupt(const struct target *target, const struct load *load,
				     struct result *ret_result)
{
	uint64_t end, waited = 0;
	struct blk blk;

	if (!blk_start(&blk, target, load))
		return MEASURE_REFUSED;
	end = cpu_ns() + load->ns;
	result_begin(ret_result, target->queues);
	for (; cpu_ns() < end; ret_result->count++)
		waited += interrupt_latency(&blk.traffic, load->depth);
	result_end(ret_result, target->queues);
	ret_result->ns = waited;
	return MEASURE_OK;
}

enum measure_error measure_doorbell(const struct target *target, const struct load *load,
				    struct result *ret_result)
{
	uint64_t end;

	if (!device_start(target->dev, target->ring, target->queues, 1, PARTS))
		return MEASURE_REFUSED;
	end = cpu_ns() + load->ns;
	result_begin(ret_result, target->queues);
	while (cpu_ns() < end)
		queue_ring(target->queues);
	result_end(ret_result, target->queues);
	ret_result->count = ret_result->doorbells;
	return MEASURE_OK;
}
