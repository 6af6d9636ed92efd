// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include "core/log.h"
#include "core/util.h"
#include "devices/classes.h"
#include "vmm/check.h"
#include "vmm/config.h"
#include "vmm/help.h"
#include "vmm/image.h"
#include "vmm/vm.h"
#include "vmm/vsock.h"

static int refuse(const char *reason)
{
	log_error("%s", reason);
	return EXIT_FAILURE;
}

/* For what was printed: a full disk must not look like success. */
static int finish_output(void)
{
	return fflush(stdout) || ferror(stdout) ? refuse("standard output cannot be written")
						: EXIT_SUCCESS;
}

static int print_help(const struct config *config)
{
	struct opt_error error = { "" };

	if (help_print(virtio_classes, config->help, stdout, &error) < 0)
		return refuse(error.text);
	return finish_output();
}

static int print_version(void)
{
	puts("microvm " MICROVM_VERSION);
	return finish_output();
}

static int print_config(const struct config *config)
{
	int err = config_print(config, stdout);

	if (err == -EILSEQ)
		return refuse("--print-config: a value is not UTF-8 and cannot be written as JSON");
	return err ? refuse("--print-config: standard output cannot be written") : EXIT_SUCCESS;
}

static int check(void)
{
	bool runnable = check_host(stdout);
	int status = finish_output();

	return runnable ? status : EXIT_FAILURE;
}

static int command(int (*run)(int count, char *const *words), int count, char *const *words)
{
	int status = run(count, words);

	return finish_output() == EXIT_SUCCESS ? status : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	_cleanup_(config_free) struct config config = { 0 };
	struct opt_error error;

	if (argc > 1 && !strcmp(argv[1], "image"))
		return command(image_run, argc - 2, argv + 2);
	if (argc > 1 && !strcmp(argv[1], "vsock"))
		return command(vsock_run, argc - 2, argv + 2);
	if (config_parse(&config, virtio_classes, argc, argv, &error) < 0)
		return refuse(error.text);
	if (config.help)
		return print_help(&config);
	if (config.check)
		return check();
	if (config.version)
		return print_version();
	if (config.print)
		return print_config(&config);

	log_set_level((enum log_level)config.log_level);
	if (config.name)
		log_set_name(config.name);
	return vm_run(&config);
}
