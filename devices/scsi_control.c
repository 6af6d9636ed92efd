// SPDX-License-Identifier: Apache-2.0
/*
 * The control queue of virtio-scsi (section 5.6.6.2), on the first worker.
 *
 * Task management comes to the first worker, and tasks are on all of them.
 * What the kernel has begun cannot be taken back: an abort or a reset waits
 * until the tasks that it is about are over and the driver can see so. A
 * task's mark says which unit it is for, so that the first worker can look
 * without a lock; it is taken off after the queue was shown to the driver.
 */
#include <endian.h>
#include "devices/scsi_device.h"

/* How often an abort looks whether tasks are over. */
#define SCSI_LOOK_NS NS_PER_MS

static bool scsi_is_about(const struct scsi_wait *wait, const struct scsi_request *request)
{
	const uint32_t mark = atomic_load(&request->mark) & ~MARK_OVER;

	if (!mark || (wait->unit >= 0 && mark != (uint32_t)wait->unit + 1))
		return false;
	return (wait->function != VIRTIO_SCSI_T_TMF_ABORT_TASK &&
		wait->function != VIRTIO_SCSI_T_TMF_QUERY_TASK) ||
	       atomic_load(&request->tag) == wait->tag;
}

/* Whether any task is there that the function is about. */
static bool scsi_has_tasks(const struct scsi *scsi, const struct scsi_wait *wait)
{
	for (unsigned int i = SCSI_HEAD; i < scsi->dev.queue_count; i++) {
		const struct virtq *virtq = &scsi->dev.queues[i];
		const struct scsi_request *requests = (const void *)virtq->requests;

		for (unsigned int j = 0; j < virtq->size_max; j++)
			if (scsi_is_about(wait, &requests[j]))
				return true;
	}
	return false;
}

static void scsi_answer(struct chain *chain, uint8_t response)
{
	chain_push(chain, &response, sizeof(response));
	virtq_count(chain->queue, SCSI_FUNCTIONS, 1);
	virtq_done(chain->queue, chain);
}

void scsi_reset_units(struct scsi *scsi, int unit)
{
	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		if ((unit < 0 || i == (unsigned int)unit) && scsi_lun_has(&scsi->luns[i], SCSI_PLUGGED))
			scsi_lun_reset(&scsi->luns[i]);
}

/* False: tasks are still running, and it has to be tried again. */
static bool scsi_finish_function(struct scsi *scsi, const struct scsi_wait *wait)
{
	if (scsi_has_tasks(scsi, wait))
		return false;
	if (wait->function == VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET ||
	    wait->function == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET)
		scsi_reset_units(scsi, wait->unit);
	/* Section 5.6.6.2: FUNCTION COMPLETE. */
	scsi_answer(wait->chain, VIRTIO_SCSI_S_OK);
	return true;
}

static void scsi_function(struct scsi *scsi, struct chain *chain)
{
	struct virtio_scsi_ctrl_tmf_req function;
	struct scsi_wait wait = { .chain = chain };

	if (chain_pull(chain, &function.subtype, sizeof(function) - sizeof(function.type)) <
		    sizeof(function) - sizeof(function.type) || !chain->in.left) {
		virtio_fail(&scsi->dev, "a task management request that is too short");
		return;
	}
	wait.function = le32toh(function.subtype);
	wait.tag = function.tag;
	wait.unit = scsi_find(function.lun);
	if (wait.unit < 0 || !scsi_lun_has(&scsi->luns[wait.unit], SCSI_PLUGGED)) {
		scsi_answer(chain, VIRTIO_SCSI_S_INCORRECT_LUN);
		return;
	}
	switch (wait.function) {
	case VIRTIO_SCSI_T_TMF_QUERY_TASK:
	case VIRTIO_SCSI_T_TMF_QUERY_TASK_SET:
		scsi_answer(chain, scsi_has_tasks(scsi, &wait) ? VIRTIO_SCSI_S_FUNCTION_SUCCEEDED :
							    VIRTIO_SCSI_S_OK);
		break;
	case VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET:
	case VIRTIO_SCSI_T_TMF_ABORT_TASK:
	case VIRTIO_SCSI_T_TMF_ABORT_TASK_SET:
	case VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET:
	case VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET:
		if (wait.function == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET)
			wait.unit = -1;
		if (scsi_finish_function(scsi, &wait))
			break;
		scsi->wait = wait;
		timer_set(&scsi->look, SCSI_LOOK_NS);
		break;
	default:
		scsi_answer(chain, VIRTIO_SCSI_S_FUNCTION_REJECTED);
	}
}

/* Asynchronous notification (section 5.6.6.2): of none of the events that there might be. */
static void scsi_notification(struct scsi *scsi, struct chain *chain)
{
	const size_t rest = sizeof(struct virtio_scsi_ctrl_an_req) - sizeof(__virtio32);
	struct virtio_scsi_ctrl_an_resp response = { .response = VIRTIO_SCSI_S_OK };
	struct virtio_scsi_ctrl_an_req request;

	if (chain_pull(chain, request.lun, rest) < rest || chain->in.left < sizeof(response)) {
		virtio_fail(&scsi->dev, "a notification request that is too short");
		return;
	}
	if (scsi_find(request.lun) < 0)
		response.response = VIRTIO_SCSI_S_INCORRECT_LUN;
	chain_push(chain, &response, sizeof(response));
	virtq_done(chain->queue, chain);
}

void scsi_control_kick(struct scsi *scsi, struct virtq *virtq)
{
	struct chain *chain;
	__virtio32 type;

	while (!scsi->wait.chain && (chain = virtq_pop(virtq))) {
		if (chain_pull(chain, &type, sizeof(type)) < sizeof(type)) {
			virtio_fail(&scsi->dev, "a control request without a type");
			return;
		}
		switch (le32toh(type)) {
		case VIRTIO_SCSI_T_TMF:
			scsi_function(scsi, chain);
			break;
		case VIRTIO_SCSI_T_AN_QUERY:
		case VIRTIO_SCSI_T_AN_SUBSCRIBE:
			scsi_notification(scsi, chain);
			break;
		default:
			virtio_fail(&scsi->dev, "a control request of an unknown type");
			return;
		}
	}
}

void scsi_control_look(struct timer *timer)
{
	struct scsi *scsi = container_of(timer, struct scsi, look);

	if (!scsi->wait.chain)
		return;
	if (!scsi_finish_function(scsi, &scsi->wait)) {
		timer_set(timer, SCSI_LOOK_NS);
		return;
	}
	scsi->wait.chain = NULL;
	virtio_kick(&scsi->dev.queues[SCSI_CONTROL]);
}
