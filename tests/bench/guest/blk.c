// SPDX-License-Identifier: Apache-2.0
#include <linux/virtio_blk.h>
#include "disk.h"

#define PARTS 3

struct blk_request {
	struct virtio_blk_outhdr header;
	uint8_t status;
};

struct blk {
	struct disk disk;
	struct blk_request requests[DEPTH_MAX];
};

static bool blk_done(struct traffic *traffic, unsigned int request)
{
	return ((struct blk *)traffic)->requests[request].status == VIRTIO_BLK_S_OK;
}

static void blk_renew(struct traffic *traffic, unsigned int request)
{
	struct blk *blk = (struct blk *)traffic;

	blk->requests[request].header.sector = disk_next(&blk->disk);
	blk->requests[request].status = UINT8_MAX;
}

static void blk_prepare(struct queue *queue, struct blk_request *request, unsigned int number,
			const struct load *load)
{
	request->header.type = load->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	queue_part(queue, number, 0, &request->header, sizeof(request->header), false);
	queue_part(queue, number, 1, disk_buffer(number, load), load->bytes, !load->write);
	queue_part(queue, number, 2, &request->status, sizeof(request->status), true);
}

static uint64_t blk_capacity(const struct device *dev)
{
	return (uint64_t)read32(dev->config + 4) << 32 | read32(dev->config);
}

static bool blk_start(struct blk *blk, const struct target *target, const struct load *load)
{
	const struct traffic traffic = { target->queues, blk_done, blk_renew };
	/* A disk whose driver knows no flush writes through. */
	uint64_t features = target->ring | (uint64_t)load->write << VIRTIO_BLK_F_FLUSH;

	if (!device_start(target->dev, features, target->queues, 1, PARTS) ||
	    !traffic_fits(target->queues, load) ||
	    !disk_init(&blk->disk, &traffic, load, blk_capacity(target->dev)))
		return false;
	for (unsigned int i = 0; i < load->depth; i++)
		blk_prepare(target->queues, &blk->requests[i], i, load);
	return true;
}

enum measure_error measure_blk(const struct target *target, const struct load *load,
			       struct result *ret_result)
{
	struct blk blk;

	if (!blk_start(&blk, target, load))
		return MEASURE_REFUSED;
	return traffic_run(&blk.disk.traffic, load, ret_result);
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
		waited += interrupt_latency(&blk.disk.traffic, load->depth);
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
