// SPDX-License-Identifier: Apache-2.0
/*
 * The EDID of a monitor (VESA E-EDID, release A, revision 2): its base block, of which a driver
 * takes the size that the monitor likes best from the first detailed timing.
 */
#include "devices/gpu/gpu.h"

/* Of the timing, in pixels and lines: what a real monitor needs between pictures. */
#define H_FRONT 48
#define H_SYNC 32
#define H_BLANK 160
#define V_FRONT 3
#define V_SYNC 5
#define V_BLANK 30
#define REFRESH_HZ 60

#define DESCRIPTOR_LEN 18
#define TEXT_LEN 13

enum place { HEADER = 0, PRODUCT = 8, BASICS = 18, COLORS = 25, TIMINGS = 35, DESCRIPTORS = 54, SUM = 127 };

/* At 96 dots per inch, so that no desktop scales what it shows. */
static uint32_t millimeters(uint32_t pixels)
{
	return pixels * 254 / 960;
}

/* A length's and a pause's 12 bits each, in three bytes. */
static void put_pair(uint8_t *at, uint32_t first, uint32_t second)
{
	at[0] = (uint8_t)first;
	at[1] = (uint8_t)second;
	at[2] = (uint8_t)(first >> 8 << 4 | second >> 8);
}

/* Section 3.10.2. */
static void put_timing(uint8_t *at, uint32_t width, uint32_t height)
{
	/* In units of 10 kHz; what is too large for 60 pictures in a second has fewer. */
	uint32_t clock = (uint32_t)util_min(
		(uint64_t)(width + H_BLANK) * (height + V_BLANK) * REFRESH_HZ / 10000, UINT16_MAX);

	at[0] = (uint8_t)clock;
	at[1] = (uint8_t)(clock >> 8);
	put_pair(at + 2, width, H_BLANK);
	put_pair(at + 5, height, V_BLANK);
	at[8] = H_FRONT;
	at[9] = H_SYNC;
	at[10] = V_FRONT << 4 | V_SYNC;
	put_pair(at + 12, millimeters(width), millimeters(height));
	at[17] = 0x1a; /* digital separate syncs, the horizontal one is positive */
}

/* Section 3.10.3; what is shorter than its place ends in a newline and spaces. */
static void put_descriptor(uint8_t *at, uint8_t tag, const char *data, size_t len)
{
	at[3] = tag;
	memset(at + 5, ' ', TEXT_LEN);
	memcpy(at + 5, data, len);
	if (len < TEXT_LEN)
		at[5 + len] = '\n';
}

void gpu_edid(unsigned int head, uint32_t width, uint32_t height, uint8_t ret_edid[GPU_EDID_LEN])
{
	static const uint8_t header[] = { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0 };
	/* Those of sRGB. */
	static const uint8_t colors[] = { 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54 };
	/* 640x480, 800x600 and 1024x768 at 60 Hz; none of 8 others. */
	static const uint8_t timings[] = { 0x21, 0x08, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
	/* 1 to 125 Hz, 1 to 255 kHz, up to 660 MHz, and nothing else is said about timings. */
	static const char limits[] = { 1, 125, 1, (char)255, 66, 1 };
	static const char name[] = "microvm";
	const uint32_t maker = ('M' - '@') << 10 | ('V' - '@') << 5 | ('M' - '@');
	const uint8_t product[] = { (uint8_t)(maker >> 8), (uint8_t)maker, 1, 0,
				    (uint8_t)(head + 1), 0, 0, 0, 0, 2026 - 1990 };
	/* Version 1.4; a DisplayPort with 8 bits for each color; gamma 2.2; sRGB, any frequency. */
	const uint8_t basics[] = { 1, 4, 0xa5, (uint8_t)(millimeters(width) / 10),
				   (uint8_t)(millimeters(height) / 10), 220 - 100, 0x07 };
	uint8_t *descriptor = ret_edid + DESCRIPTORS, sum = 0;

	memset(ret_edid, 0, GPU_EDID_LEN);
	memcpy(ret_edid + HEADER, header, sizeof(header));
	memcpy(ret_edid + PRODUCT, product, sizeof(product));
	memcpy(ret_edid + BASICS, basics, sizeof(basics));
	memcpy(ret_edid + COLORS, colors, sizeof(colors));
	memcpy(ret_edid + TIMINGS, timings, sizeof(timings));
	put_timing(descriptor, width, height);
	descriptor += DESCRIPTOR_LEN;
	put_descriptor(descriptor, 0xfc, name, strlen(name));
	descriptor += DESCRIPTOR_LEN;
	put_descriptor(descriptor, 0xfd, limits, sizeof(limits));
	/* A place that is not used. */
	descriptor[DESCRIPTOR_LEN + 3] = 0x10;
	for (unsigned int i = 0; i < SUM; i++)
		sum -= ret_edid[i];
	ret_edid[SUM] = sum;
}
