// SPDX-License-Identifier: Apache-2.0
#include "disk.h"

#define PAGE 4096
#define BYTES_MAX 0x40000

bool disk_init(struct disk *disk, const struct traffic *traffic, const struct load *load,
	       uint64_t sectors)
{
	if (!load->bytes || load->bytes > BYTES_MAX || load->bytes % DISK_SECTOR)
		return false;
	*disk = (struct disk){
		.traffic = *traffic,
		.sequential = load->sequential,
		.sectors = load->bytes / DISK_SECTOR,
		.random = (uint32_t)cpu_ns() | 1,
	};
	disk->places = sectors / disk->sectors;
	return disk->places;
}

/* xorshift */
static uint32_t disk_random(struct disk *disk)
{
	disk->random ^= disk->random << 13;
	disk->random ^= disk->random >> 17;
	return disk->random ^= disk->random << 5;
}

uint64_t disk_next(struct disk *disk)
{
	uint64_t place = disk->sequential ? disk->next++ : disk_random(disk);

	return place % disk->places * disk->sectors;
}

uint8_t *disk_buffer(unsigned int request, const struct load *load)
{
	uint8_t *data = buffers + (size_t)request * BYTES_MAX;

	/* Memory that was never touched costs at the first time. */
	for (uint32_t at = 0; at < load->bytes; at += PAGE)
		data[at] = (uint8_t)request;
	return data;
}
