// SPDX-License-Identifier: Apache-2.0
/* The input is a configuration file. What was understood must survive being printed and read again. */
#include <assert.h>
#include "tests/fuzz/config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct opt_error error = { "" };
	struct config config;
	int err = fuzz_read_config(data, size, &config, &error);

	if (err) {
		assert(err == -EINVAL && *error.text);
		return 0;
	}
	fuzz_config_survives(&config);
	config_free(&config);
	return 0;
}
