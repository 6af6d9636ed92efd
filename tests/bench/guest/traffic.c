// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

void result_begin(struct result *result, const struct queue *queue)
{
	*result = (struct result){
		.ns = -cpu_ns(),
		.doorbells = -queue->doorbells,
		.interrupts = -(uint64_t)interrupt_count,
	};
}

void result_end(struct result *result, const struct queue *queue)
{
	result->ns += cpu_ns();
	result->doorbells += queue->doorbells;
	result->interrupts += interrupt_count;
}

bool traffic_fits(const struct queue *queue, const struct load *load)
{
	return load->depth && load->depth <= DEPTH_MAX &&
	       load->depth <= queue->size / queue->stride;
}

void traffic_post(struct traffic *traffic, unsigned int request)
{
	if (traffic->renew)
		traffic->renew(traffic, request);
	queue_post(traffic->queue, request);
}

enum measure_error traffic_run(struct traffic *traffic, const struct load *load,
			       struct result *ret_result)
{
	struct queue *queue = traffic->queue;
	unsigned int in_flight = load->depth;
	uint64_t end = cpu_ns() + load->ns;
	int request;

	queue->polled = load->polled;
	result_begin(ret_result, queue);
	for (unsigned int i = 0; i < load->depth; i++)
		traffic_post(traffic, i);
	queue_publish(queue);
	while (in_flight) {
		bool going;

		while ((request = queue_take(queue)) < 0)
			queue_wait(queue);
		going = cpu_ns() < end;
		do {
			if (traffic->done && !traffic->done(traffic, (unsigned int)request))
				return MEASURE_FAILED;
			ret_result->count++;
			if (going)
				traffic_post(traffic, (unsigned int)request);
			else
				in_flight--;
		} while ((request = queue_take(queue)) >= 0);
		queue_publish(queue);
	}
	result_end(ret_result, queue);
	return MEASURE_OK;
}
