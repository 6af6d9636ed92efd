// SPDX-License-Identifier: Apache-2.0
#include <linux/virtio_scsi.h>
#include "disk.h"

#define PARTS 3
/* Those for control and events come first, and are left alone. */
#define REQUEST_QUEUE 2
#define READ_CAPACITY_10 0x25
#define READ_10 0x28
#define WRITE_10 0x2a
#define GOOD 0
/* A unit tells of a reset before it does anything else. */
#define ATTENTIONS 8

struct scsi_request {
	struct virtio_scsi_cmd_req command;
	struct virtio_scsi_cmd_resp response;
};

struct scsi {
	struct disk disk;
	struct scsi_request requests[DEPTH_MAX];
};

static void put_be32(uint8_t *to, uint32_t value)
{
	for (unsigned int i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* A command to the first unit of the first target (section 5.6.6.1). */
static void scsi_prepare(struct queue *queue, struct scsi_request *request, unsigned int number,
			 uint8_t code, uint8_t *data, uint32_t len)
{
	bool out = code == WRITE_10;
	unsigned int part = 0;

	request->command = (struct virtio_scsi_cmd_req){ .lun = { 1 }, .cdb = { code } };
	queue_part(queue, number, part++, &request->command, sizeof(request->command), false);
	if (out)
		queue_part(queue, number, part++, data, len, false);
	queue_part(queue, number, part++, &request->response, sizeof(request->response), true);
	if (!out)
		queue_part(queue, number, part, data, len, true);
}

static bool scsi_is_good(const struct scsi_request *request)
{
	return request->response.response == VIRTIO_SCSI_S_OK && request->response.status == GOOD;
}

static bool scsi_done(struct traffic *traffic, unsigned int request)
{
	return scsi_is_good(&((struct scsi *)traffic)->requests[request]);
}

static void scsi_renew(struct traffic *traffic, unsigned int request)
{
	struct scsi *scsi = (struct scsi *)traffic;

	put_be32(&scsi->requests[request].command.cdb[2], (uint32_t)disk_next(&scsi->disk));
	scsi->requests[request].response.response = UINT8_MAX;
}

/* The unit's sectors, or 0. */
static uint64_t scsi_capacity(struct queue *queue, struct scsi_request *request)
{
	uint8_t answer[8]; /* the last sector and the length of each */

	for (unsigned int i = 0; i < ATTENTIONS; i++) {
		scsi_prepare(queue, request, 0, READ_CAPACITY_10, answer, sizeof(answer));
		queue_post(queue, 0);
		queue_publish(queue);
		while (queue_take(queue) < 0)
			cpu_pause();
		if (scsi_is_good(request))
			return get_be32(answer + 4) == DISK_SECTOR ? get_be32(answer) + 1ULL : 0;
	}
	return 0;
}

enum measure_error measure_scsi(const struct target *target, const struct load *load,
				struct result *ret_result)
{
	struct queue *queue = &target->queues[REQUEST_QUEUE];
	const struct traffic traffic = { queue, scsi_done, scsi_renew };
	struct scsi scsi;

	if (!device_start(target->dev, target->ring, target->queues, REQUEST_QUEUE + 1, PARTS) ||
	    !traffic_fits(queue, load) ||
	    !disk_init(&scsi.disk, &traffic, load, scsi_capacity(queue, scsi.requests)))
		return MEASURE_REFUSED;
	for (unsigned int i = 0; i < load->depth; i++) {
		uint8_t *cdb = scsi.requests[i].command.cdb;

		scsi_prepare(queue, &scsi.requests[i], i, load->write ? WRITE_10 : READ_10,
			     disk_buffer(i, load), load->bytes);
		cdb[7] = (uint8_t)(scsi.disk.sectors >> 8);
		cdb[8] = (uint8_t)scsi.disk.sectors;
	}
	return traffic_run(&scsi.disk.traffic, load, ret_result);
}
