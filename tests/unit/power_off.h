/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel that powers off with its first instructions: each architecture's own. */
#ifndef TESTS_UNIT_POWER_OFF_H
#define TESTS_UNIT_POWER_OFF_H

#include <stddef.h>

extern const void *const power_off_kernel;
extern const size_t power_off_kernel_len;

#endif
