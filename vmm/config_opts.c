// SPDX-License-Identifier: Apache-2.0
#include "arch/arch.h"
#include "core/util.h"
#include "vmm/config.h"

#define TEN_YEARS (10ULL * 366 * 24 * 60 * 60)

static const char *const transports[] = { [CONFIG_PCI] = "pci", [CONFIG_MMIO] = "mmio", NULL };

static const struct opt boot_opts[] = {
	{ "kernel", OPT_STRING, .offset = offsetof(struct config, kernel), .arg = "FILE",
	  .help = arch_kernel_formats },
	{ "initrd", OPT_STRING, .offset = offsetof(struct config, initrd), .arg = "FILE",
	  .help = "the initial RAM disk" },
	{ "cmdline", OPT_STRING, .offset = offsetof(struct config, cmdline), .arg = "TEXT",
	  .help = "kernel arguments, added to those that microvm composes" },
	{ "root", OPT_STRING, .offset = offsetof(struct config, root), .arg = "disk|fs",
	  .help = "what has the root file system; the first disk unless given" },
	{ 0 },
};

static const struct opt memory_opts[] = {
	{ "size", OPT_SIZE, .bare = true, .offset = offsetof(struct config_memory, size),
	  .min = MIB(16), .max = GIB(4096), .arg = "SIZE", .help = "how much; 256M unless given" },
	{ "hugepages", OPT_SIZE, .offset = offsetof(struct config_memory, backing.hugepage),
	  .arg = "2M|1G", .help = "back it with the host's huge pages of that size" },
	{ "shared", OPT_BOOL, .offset = offsetof(struct config_memory, backing.shared),
	  .help = "let other processes map it" },
	{ "prealloc", OPT_BOOL, .offset = offsetof(struct config_memory, backing.prealloc),
	  .help = "take all of it from the host at the start" },
	{ 0 },
};

static const struct opt machine_opts[] = {
	{ "cpus", OPT_UINT, .offset = offsetof(struct config, cpus), .min = 1,
	  .max = CONFIG_CPUS_MAX, .arg = "N", .help = "virtual processors; 1 unless given" },
	{ "transport", OPT_CHOICE, .offset = offsetof(struct config, transport),
	  .choices = transports, .help = "how virtio devices are attached; pci unless given" },
	{ "debug-exit", OPT_BOOL, .offset = offsetof(struct config, debug_exit),
	  .help = "a device through which the guest ends the run with a status" },
	{ 0 },
};

static const struct opt run_opts[] = {
	{ "name", OPT_STRING, .offset = offsetof(struct config, name), .arg = "NAME",
	  .help = "the name in messages" },
	{ "timeout", OPT_UINT, .offset = offsetof(struct config, timeout), .min = 1,
	  .max = TEN_YEARS, .arg = "SECONDS", .help = "end the run then, with status 124" },
	{ "no-reboot", OPT_BOOL, .offset = offsetof(struct config, no_reboot),
	  .help = "a guest that restarts ends the run, with status 0" },
	{ "summary", OPT_STRING, .offset = offsetof(struct config, summary), .arg = "FILE",
	  .help = "write one line of JSON about the run" },
	{ "screenshot-at-exit", OPT_STRING, .offset = offsetof(struct config, screenshot),
	  .arg = "FILE", .help = "write what each head of the gpu shows at the end as PNG: FILE, FILE-1 ..." },
	{ "pidfile", OPT_STRING, .offset = offsetof(struct config, pidfile), .arg = "FILE",
	  .help = "write the process id" },
	{ "log", OPT_CHOICE, .offset = offsetof(struct config, log_level),
	  .choices = log_level_names, .help = "how much to report on stderr; warn unless given" },
	{ "no-sandbox", OPT_BOOL, .offset = offsetof(struct config, no_sandbox),
	  .help = "INSECURE: confine nothing, to debug microvm itself" },
	{ 0 },
};

static const struct opt action_opts[] = {
	{ "config", OPT_STRING, .offset = offsetof(struct config, file), .arg = "FILE",
	  .help = "read options from JSON; the command line comes on top" },
	{ "print-config", OPT_BOOL, .offset = offsetof(struct config, print),
	  .help = "print the configuration as JSON instead of running it" },
	{ "version", OPT_BOOL, .offset = offsetof(struct config, version),
	  .help = "print the version; also -V" },
	{ "help", OPT_STRING, .offset = offsetof(struct config, help), .arg = "GROUP",
	  .help = "explain a group of options, without GROUP list them; also -h" },
	{ 0 },
};

const struct config_group config_groups[] = {
	{ "boot", "what the guest runs", .opts = boot_opts },
	{ "machine", "processors, and how devices are attached", .opts = machine_opts },
	{ "memory", "the guest's RAM", .opts = memory_opts,
	  .offset = offsetof(struct config, memory), .size = sizeof(struct config_memory) },
	{ "serial", "a serial port; none unless given", .opts = chardev_opts,
	  .offset = offsetof(struct config, serial), .size = sizeof(struct chardev_conf) },
	{ "run", "the run and its reports", .opts = run_opts },
	{ "config", "configuration files and help", .opts = action_opts, .action = true },
	{ 0 },
};
