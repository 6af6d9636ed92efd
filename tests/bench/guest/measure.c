// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include "frame.h"

#define DEPTH_MAX 64
#define SECTOR 512
#define BLK_BYTES_MAX 0x40000
#define BLK_PARTS 3

#define NET_HEADER sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX 2048 /* with its header */
#define FRAME_MIN 60
#define TYPE_AT 12
#define ASKS 3

enum { RX, TX };

/*
 * Requests of one queue: depth of them are in flight, and each is posted again
 * when it is done, until the time is over.
 */
struct traffic {
	struct queue *queue;
	/* Checks a request that is done; NULL: nothing to check. */
	bool (*done)(struct traffic *traffic, unsigned int request);
	/* Makes it anew; NULL: it stays as it is. */
	void (*renew)(struct traffic *traffic, unsigned int request);
};

static void post(struct traffic *traffic, unsigned int request)
{
	if (traffic->renew)
		traffic->renew(traffic, request);
	queue_post(traffic->queue, request);
}

static void begin(const struct queue *queue, struct result *result)
{
	*result = (struct result){
		.doorbells = -queue->doorbells,
		.interrupts = -(uint64_t)interrupt_count,
	};
}

static void finish(const struct queue *queue, uint64_t start, struct result *result)
{
	result->ns = cpu_ns(cpu_cycles() - start);
	result->doorbells += queue->doorbells;
	result->interrupts += interrupt_count;
}

static enum measure_error run(struct traffic *traffic, const struct load *load,
			      struct result *ret_result)
{
	struct queue *queue = traffic->queue;
	unsigned int in_flight = load->depth;
	uint64_t start = cpu_cycles();
	bool going = true;
	int request;

	queue->polled = load->polled;
	begin(queue, ret_result);
	for (unsigned int i = 0; i < load->depth; i++)
		post(traffic, i);
	queue_publish(queue);
	while (in_flight) {
		while ((request = queue_take(queue)) < 0)
			queue_wait(queue);
		going = going && cpu_ns(cpu_cycles() - start) < load->ns;
		do {
			if (traffic->done && !traffic->done(traffic, (unsigned int)request))
				return MEASURE_FAILED;
			ret_result->count++;
			if (going)
				post(traffic, (unsigned int)request);
			else
				in_flight--;
		} while ((request = queue_take(queue)) >= 0);
		queue_publish(queue);
	}
	finish(queue, start, ret_result);
	return MEASURE_OK;
}

static struct queue *queues(void)
{
	static struct queue all[QUEUES_MAX];

	return all;
}

/* ---- blk ---- */

struct blk {
	struct traffic traffic;
	struct {
		struct virtio_blk_outhdr header;
		uint8_t status;
	} requests[DEPTH_MAX];
	bool sequential;
	uint32_t bytes, random;
	uint64_t places, next;
};

/* Whether so many requests can be in flight. */
static bool fits(const struct queue *queue, const struct load *load)
{
	return load->depth <= DEPTH_MAX && load->depth <= queue->size / queue->stride;
}

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

	blk->requests[request].header.sector = place * (blk->bytes / SECTOR);
	blk->requests[request].status = UINT8_MAX;
}

static void blk_prepare(struct blk *blk, struct queue *queue, unsigned int depth, bool write)
{
	for (unsigned int i = 0; i < depth; i++) {
		uint8_t *data = (uint8_t *)BUFFERS + (size_t)i * BLK_BYTES_MAX;

		/* Memory that was never touched costs at the first time. */
		for (uint32_t at = 0; at < blk->bytes; at += 4096)
			write8((uintptr_t)data + at, (uint8_t)i);
		blk->requests[i].header.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
		queue_part(queue, i, 0, &blk->requests[i].header,
			   sizeof(blk->requests[i].header), false);
		queue_part(queue, i, 1, data, blk->bytes, !write);
		queue_part(queue, i, 2, &blk->requests[i].status, 1, true);
	}
}

static enum measure_error blk_start(struct blk *blk, struct device *dev, uint64_t ring, bool write,
				    bool sequential, const struct load *load)
{
	struct queue *queue = queues();
	uint64_t features = ring | (write ? 1ULL << VIRTIO_BLK_F_FLUSH : 0);

	/* A disk whose driver knows no flush writes through. */
	if (load->bytes > BLK_BYTES_MAX || load->bytes % SECTOR ||
	    !device_start(dev, features, queue, 1, BLK_PARTS) || !fits(queue, load))
		return MEASURE_REFUSED;
	*blk = (struct blk){
		.traffic = { queue, blk_done, blk_renew },
		.sequential = sequential,
		.bytes = load->bytes,
		.random = (uint32_t)cpu_cycles() | 1,
		.places = *(volatile uint64_t *)dev->config * SECTOR / load->bytes,
	};
	if (!blk->places)
		return MEASURE_REFUSED;
	blk_prepare(blk, queue, load->depth, write);
	return MEASURE_OK;
}

enum measure_error measure_blk(struct device *dev, uint64_t ring, bool write, bool sequential,
			       const struct load *load, struct result *ret_result)
{
	struct blk blk;
	enum measure_error error = blk_start(&blk, dev, ring, write, sequential, load);

	return error ? error : run(&blk.traffic, load, ret_result);
}

enum measure_error measure_interrupt(struct device *dev, uint64_t ring, const struct load *load,
				     struct result *ret_result)
{
	struct blk blk;
	enum measure_error error = blk_start(&blk, dev, ring, false, false, load);
	struct queue *queue = blk.traffic.queue;
	uint64_t start, waited = 0;

	if (error)
		return error;
	start = cpu_cycles();
	begin(queue, ret_result);
	while (cpu_ns(cpu_cycles() - start) < load->ns) {
		uint32_t seen = interrupt_count;
		uint64_t used;

		queue_want_interrupts(queue, true);
		post(&blk.traffic, 0);
		queue_publish(queue);
		while (queue_take(queue) < 0)
			cpu_pause();
		used = cpu_cycles();
		while (interrupt_count == seen)
			cpu_pause();
		waited += cpu_cycles() - used;
		dev->transport->acknowledge(dev);
		ret_result->count++;
	}
	finish(queue, start, ret_result);
	ret_result->ns = cpu_ns(waited);
	return MEASURE_OK;
}

enum measure_error measure_doorbell(struct device *dev, uint64_t ring, const struct load *load,
				    struct result *ret_result)
{
	struct queue *queue = queues();
	uint64_t start;

	if (!device_start(dev, ring, queue, 1, 1))
		return MEASURE_REFUSED;
	start = cpu_cycles();
	begin(queue, ret_result);
	while (cpu_ns(cpu_cycles() - start) < load->ns)
		queue_ring(queue);
	finish(queue, start, ret_result);
	ret_result->count = ret_result->doorbells;
	return MEASURE_OK;
}

/* ---- rng ---- */

enum measure_error measure_rng(struct device *dev, uint64_t ring, const struct load *load,
			       struct result *ret_result)
{
	struct traffic traffic = { .queue = queues() };

	if (!device_start(dev, ring, traffic.queue, 1, 1) || !fits(traffic.queue, load))
		return MEASURE_REFUSED;
	for (unsigned int i = 0; i < load->depth; i++)
		queue_part(traffic.queue, i, 0, (uint8_t *)BUFFERS + (size_t)i * load->bytes,
			   load->bytes, true);
	return run(&traffic, load, ret_result);
}

/* ---- net ---- */

static uint8_t *buffer(unsigned int queue, unsigned int number)
{
	return (uint8_t *)BUFFERS + (size_t)(queue * QUEUE_SIZE_MAX + number) * FRAME_MAX;
}

/* To everybody, so that no address has to be known. The answer's length is the request's. */
static void make_frame(struct queue *queue, unsigned int number, uint16_t type, uint32_t bytes)
{
	uint8_t *header = buffer(TX, number), *frame = header + NET_HEADER;

	memset(header, 0, NET_HEADER + bytes);
	memset(frame, 0xff, 6);
	frame[6] = 2;
	frame[TYPE_AT] = (uint8_t)(type >> 8);
	frame[TYPE_AT + 1] = (uint8_t)type;
	queue_part(queue, number, 0, header, (uint32_t)NET_HEADER + bytes, false);
}

static bool is_data(unsigned int number)
{
	const uint8_t *type = buffer(RX, number) + NET_HEADER + TYPE_AT;

	return (type[0] << 8 | type[1]) == TYPE_DATA;
}

static bool net_start(struct device *dev, uint64_t ring, struct queue *both, const struct load *load)
{
	return load->bytes >= FRAME_MIN && load->bytes <= FRAME_MAX - NET_HEADER &&
	       device_start(dev, ring, both, 2, 1);
}

enum measure_error measure_send(struct device *dev, uint64_t ring, const struct load *load,
				struct result *ret_result)
{
	struct queue *both = queues();
	struct traffic traffic = { .queue = &both[TX] };

	if (!net_start(dev, ring, both, load) || !fits(&both[TX], load))
		return MEASURE_REFUSED;
	for (unsigned int i = 0; i < load->depth; i++)
		make_frame(&both[TX], i, TYPE_DATA, load->bytes);
	return run(&traffic, load, ret_result);
}

/* Lets the peer send some more. */
static void ask(struct queue *queue)
{
	queue_post(queue, queue->posted / queue->stride % queue->size);
	queue_publish(queue);
	while (queue_take(queue) >= 0)
		;
}

/*
 * The peer sends ASK_AT_ONCE frames for each that asks, so that no frame is
 * lost on the way, and what was asked for tells when all are here.
 */
static void receive(struct queue *both, const struct load *load, struct result *result)
{
	uint64_t start = cpu_cycles(), asked = 0;
	bool going = true;

	begin(&both[RX], result);
	while (going || result->count < asked) {
		int number;

		for (; going && asked - result->count <= ASK_AT_ONCE * (ASKS - 1); asked += ASK_AT_ONCE)
			ask(&both[TX]);
		while ((number = queue_take(&both[RX])) < 0)
			queue_wait(&both[RX]);
		do {
			result->count += is_data((unsigned int)number);
			queue_post(&both[RX], (unsigned int)number);
		} while ((number = queue_take(&both[RX])) >= 0);
		queue_publish(&both[RX]);
		going = going && cpu_ns(cpu_cycles() - start) < load->ns;
	}
	finish(&both[RX], start, result);
}

enum measure_error measure_receive(struct device *dev, uint64_t ring, const struct load *load,
				   struct result *ret_result)
{
	struct queue *both = queues();

	if (!net_start(dev, ring, both, load))
		return MEASURE_REFUSED;
	both[RX].polled = load->polled;
	for (unsigned int i = 0; i < both[RX].size; i++) {
		write8((uintptr_t)buffer(RX, i), 0);
		queue_part(&both[RX], i, 0, buffer(RX, i), FRAME_MAX, true);
		make_frame(&both[TX], i, TYPE_ASK, load->bytes);
		queue_post(&both[RX], i);
	}
	queue_publish(&both[RX]);
	receive(both, load, ret_result);
	return MEASURE_OK;
}
