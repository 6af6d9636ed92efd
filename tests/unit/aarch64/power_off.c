// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/power_off.h"

#include <linux/psci.h>
#include <stdint.h>

#define B(instructions) (0x14000000 | (instructions))
#define MOVZ_W0(value) (0x52800000 | (value) << 5)
#define MOVK_W0_HIGH(value) (0x72a00000 | (value) << 5)
#define HVC 0xd4000002

static const struct {
	uint32_t branch, code1;
	uint64_t text_offset, image_size, flags, reserved[3];
	uint32_t magic, pe_offset;
	uint32_t code[4];
} kernel = {
	.branch = B(offsetof(typeof(kernel), code) / sizeof(uint32_t)),
	.image_size = sizeof(kernel),
	.magic = 0x644d5241, /* "ARM\x64" */
	.code = {
		MOVZ_W0(PSCI_0_2_FN_SYSTEM_OFF & 0xffff),
		MOVK_W0_HIGH(PSCI_0_2_FN_SYSTEM_OFF >> 16),
		HVC,
		B(0),
	},
};

const void *const power_off_kernel = &kernel;
const size_t power_off_kernel_len = sizeof(kernel);
