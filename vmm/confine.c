// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"
#include "seccomp/jail.h"
#include "vmm/config.h"
#include "vmm/machine.h"

/* The directory that a thread will have for its working directory; -1: none will. */
static int confine_cwd(const struct machine *machine)
{
	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i].dev->workers[0].cwd >= 0)
			return machine->devices[i].dev->workers[0].cwd;
	return -1;
}

/* The directories where threads open files while the machine runs: one a device at the most. */
static size_t confine_dirs(const struct machine *machine, struct landlock_dir *dirs)
{
	size_t count = 0;

	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i].dev->workers[0].dir.fd >= 0)
			dirs[count++] = machine->devices[i].dev->workers[0].dir;
	return count;
}

int machine_confine(const struct machine *machine, const struct landlock_dir *dirs, size_t count)
{
	_cleanup_free_ struct landlock_dir *all = NULL;
	struct jail_exceptions exceptions = {
		.cwd = confine_cwd(machine),
		.capabilities = machine_capabilities(machine),
	};
	struct jail_report report;
	const char *step = "memory";
	int err = -ENOMEM;

	if (machine->config->no_sandbox) {
		log_warn("--no-sandbox: the guest is NOT confined; this is for debugging only");
		return 0;
	}
	all = calloc(count + machine->device_count + 1, sizeof(*all));
	if (all) {
		for (size_t i = 0; i < count; i++)
			all[i] = dirs[i];
		exceptions.dirs = all;
		exceptions.dir_count = count + confine_dirs(machine, all + count);
		err = jail_enter(&exceptions, &report, &step);
	}
	if (err)
		log_error("the process cannot be confined (%s: %s); --no-sandbox runs without",
			  step, strerror(-err));
	else
		log_debug("jail: namespaces %s, empty root %s, Landlock ABI %d, capabilities %s",
			  report.namespaces ? "yes" : "no", report.empty_root ? "yes" : "no",
			  report.landlock_abi, report.no_caps ? "none" : "kept");
	return err;
}
