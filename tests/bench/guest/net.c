// SPDX-License-Identifier: Apache-2.0
#include <linux/virtio_net.h>
#include "frame.h"
#include "measure.h"

#define HEADER sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX 2048 /* with its header */
#define FRAME_MIN 60
#define TYPE_AT 12
#define ASKS 3

enum { RX, TX };

static uint8_t *buffer(unsigned int queue, unsigned int number)
{
	return buffers + (size_t)(queue * QUEUE_SIZE_MAX + number) * FRAME_MAX;
}

/* To everybody, so that no address has to be known. The answer's length is the request's. */
static void make_frame(struct queue *queue, unsigned int number, uint16_t type, uint32_t bytes)
{
	uint8_t *header = buffer(TX, number), *frame = header + HEADER;

	memset(header, 0, HEADER + bytes);
	memset(frame, 0xff, 6);
	frame[6] = 2;
	frame[TYPE_AT] = (uint8_t)(type >> 8);
	frame[TYPE_AT + 1] = (uint8_t)type;
	queue_part(queue, number, 0, header, (uint32_t)HEADER + bytes, false);
}

static bool is_data(unsigned int number)
{
	const uint8_t *type = buffer(RX, number) + HEADER + TYPE_AT;

	return (type[0] << 8 | type[1]) == TYPE_DATA;
}

static bool net_start(const struct target *target, const struct load *load)
{
	return load->bytes >= FRAME_MIN && load->bytes <= FRAME_MAX - HEADER &&
	       device_start(target->dev, target->ring, target->queues, 2, 1);
}

enum measure_error measure_send(const struct target *target, const struct load *load,
				struct result *ret_result)
{
	struct traffic traffic = { .queue = &target->queues[TX] };

	if (!net_start(target, load) || !traffic_fits(traffic.queue, load))
		return MEASURE_REFUSED;
	for (unsigned int i = 0; i < load->depth; i++)
		make_frame(traffic.queue, i, TYPE_DATA, load->bytes);
	return traffic_run(&traffic, load, ret_result);
}

/* Lets the peer send ASK_AT_ONCE frames. */
static void ask(struct queue *tx)
{
	queue_post(tx, tx->posted % tx->size);
	queue_publish(tx);
	while (queue_take(tx) >= 0)
		;
}

/* Takes what there is and returns how much of it was asked for. */
static unsigned int receive(struct queue *rx)
{
	unsigned int count = 0;
	int number;

	while ((number = queue_take(rx)) < 0)
		queue_wait(rx);
	do {
		count += is_data((unsigned int)number);
		queue_post(rx, (unsigned int)number);
	} while ((number = queue_take(rx)) >= 0);
	queue_publish(rx);
	return count;
}

/* No more is asked for than there is room for on the way, so that nothing is lost and all is waited for. */
static void exchange(struct queue *rx, struct queue *tx, uint64_t ns, struct result *result)
{
	uint64_t asked = 0, end = cpu_ns() + ns;
	bool going = true;

	result_begin(result, rx);
	while (going || result->count < asked) {
		for (; going && asked - result->count <= ASK_AT_ONCE * (ASKS - 1); asked += ASK_AT_ONCE)
			ask(tx);
		result->count += receive(rx);
		going = cpu_ns() < end;
	}
	result_end(result, rx);
}

enum measure_error measure_receive(const struct target *target, const struct load *load,
				   struct result *ret_result)
{
	struct queue *rx = &target->queues[RX], *tx = &target->queues[TX];

	if (!net_start(target, load))
		return MEASURE_REFUSED;
	rx->polled = load->polled;
	for (unsigned int i = 0; i < tx->size; i++)
		make_frame(tx, i, TYPE_ASK, load->bytes);
	for (unsigned int i = 0; i < rx->size; i++) {
		memset(buffer(RX, i), 0, FRAME_MAX);
		queue_part(rx, i, 0, buffer(RX, i), FRAME_MAX, true);
		queue_post(rx, i);
	}
	queue_publish(rx);
	exchange(rx, tx, load->ns, ret_result);
	return MEASURE_OK;
}
