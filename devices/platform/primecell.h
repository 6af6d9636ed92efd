/* SPDX-License-Identifier: Apache-2.0 */
/* What Arm's PrimeCell peripherals have in common. */
#ifndef DEVICES_PLATFORM_PRIMECELL_H
#define DEVICES_PLATFORM_PRIMECELL_H

#include <stdint.h>

#define PRIMECELL_ID 0xfe0

/*
 * The peripheral's and the PrimeCell's identification, a byte in each of the
 * last eight words; 0 below. part is the peripheral's number.
 */
static inline uint8_t primecell_id(uint32_t part, uint64_t offset)
{
	const uint64_t id = UINT64_C(0xb105f00d) << 32 | 'A' << 12 | part;

	return offset < PRIMECELL_ID ? 0 : (uint8_t)(id >> (offset - PRIMECELL_ID) / 4 * 8);
}

#endif
