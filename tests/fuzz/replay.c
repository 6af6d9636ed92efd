// SPDX-License-Identifier: Apache-2.0
/* replay [-OPTION...] FILE...: in the place of libFuzzer's main(), whose options are passed over: runs each input once. */
#include <err.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "core/util.h"
#include "tests/fuzz/fuzz.h"

static void replay(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ uint8_t *data = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	data = malloc((size_t)st.st_size + 1);
	if (!data || read(fd, data, (size_t)st.st_size) != st.st_size)
		err(1, "%s", path);
	(void)LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (*argv[i] != '-')
			replay(argv[i]);
	return 0;
}
