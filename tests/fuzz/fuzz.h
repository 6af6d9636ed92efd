/* SPDX-License-Identifier: Apache-2.0 */
/* What libFuzzer calls. -1: the input is of no interest, do not keep it. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
