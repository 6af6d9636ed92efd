// SPDX-License-Identifier: Apache-2.0
/*
 * The event queue of virtio-scsi (section 5.6.6.3), on the first worker. What
 * the driver has still to be told stays noted for each unit until there is a
 * buffer: nothing is missed, and VIRTIO_SCSI_T_EVENTS_MISSED never has to be said.
 */
#include <endian.h>
#include "devices/scsi_device.h"

/* The buffer for the next event; NULL where the driver has none. */
static struct chain *scsi_event_buffer(struct scsi *scsi)
{
	struct virtq *virtq = &scsi->dev.queues[SCSI_EVENT];

	if (!scsi->event && virtq->active && !virtio_failed(&scsi->dev))
		scsi->event = virtq_pop(virtq);
	if (scsi->event && scsi->event->in.left < sizeof(struct virtio_scsi_event)) {
		virtio_fail(&scsi->dev, "a buffer without room for an event");
		return NULL;
	}
	return scsi->event;
}

/* Section 5.6.6.3. False: the driver has no buffer for it. */
static bool scsi_send_event(struct scsi *scsi, unsigned int unit, uint32_t type, uint32_t reason)
{
	struct chain *chain = scsi_event_buffer(scsi);
	const struct virtio_scsi_event event = {
		.event = htole32(type),
		/* As REPORT LUNS has it: Linux compares the two. */
		.lun = { 1, 0, 0, (uint8_t)unit },
		.reason = htole32(reason),
	};

	if (!chain)
		return false;
	scsi->event = NULL;
	chain_push(chain, &event, sizeof(event));
	virtq_count(chain->queue, SCSI_EVENTS, 1);
	virtq_done(chain->queue, chain);
	return true;
}

static void scsi_send_unit(struct scsi *scsi, unsigned int unit)
{
	/* In the order in which a driver has to hear of them. */
	static const struct {
		enum scsi_event event;
		unsigned int feature;
		uint32_t type, reason;
	} events[] = {
		{ EVENT_REMOVED, VIRTIO_SCSI_F_HOTPLUG, VIRTIO_SCSI_T_TRANSPORT_RESET,
		  VIRTIO_SCSI_EVT_RESET_REMOVED },
		{ EVENT_ADDED, VIRTIO_SCSI_F_HOTPLUG, VIRTIO_SCSI_T_TRANSPORT_RESET,
		  VIRTIO_SCSI_EVT_RESET_RESCAN },
		/* CAPACITY DATA HAS CHANGED: the additional sense code, then its qualifier. */
		{ EVENT_CAPACITY, VIRTIO_SCSI_F_CHANGE, VIRTIO_SCSI_T_PARAM_CHANGE, 0x092a },
	};
	uint8_t *pending = &scsi->state.events[unit];

	for (size_t i = 0; i < ARRAY_SIZE(events) && *pending; i++)
		if (*pending & events[i].event &&
		    (!virtio_has(&scsi->dev, events[i].feature) ||
		     scsi_send_event(scsi, unit, events[i].type, events[i].reason)))
			*pending &= (uint8_t)~events[i].event;
}

void scsi_event_send(struct scsi *scsi)
{
	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		scsi_send_unit(scsi, i);
}

void scsi_event_kick(struct scsi *scsi)
{
	if (scsi_event_buffer(scsi))
		scsi_event_send(scsi);
}
