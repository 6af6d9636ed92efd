// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

enum measure_error measure_rng(const struct target *target, const struct load *load,
			       struct result *ret_result)
{
	struct traffic traffic = { .queue = target->queues };

	if (!device_start(target->dev, target->ring, target->queues, 1, 1) ||
	    !traffic_fits(target->queues, load))
		return MEASURE_REFUSED;
	for (unsigned int i = 0; i < load->depth; i++)
		queue_part(target->queues, i, 0, buffers + (size_t)i * load->bytes, load->bytes,
			   true);
	return traffic_run(&traffic, load, ret_result);
}
