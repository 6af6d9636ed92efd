/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of a run: what the command line and --config FILE.json
 * ask for. Both go through the same option tables (core/opt.h), and so do
 * --help and --print-config. Each virtio class adds its option.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "core/chardev.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/opt.h"

struct virtio_class;

#define CONFIG_CPUS_MAX 32

enum config_transport { CONFIG_PCI, CONFIG_MMIO };

struct config_memory {
	uint64_t size; /* bytes; a multiple of 4096 and of the huge page */
	struct mem_backing backing;
};

struct config_device {
	const struct virtio_class *class;
	void *conf; /* what class->opts describes, class->conf_size bytes */
	char *text; /* where it was asked for, to begin a message with: "--disk root.img" */
};

/* Strings are NULL where nothing was given. config_free() owns everything but classes. */
struct config {
	/* Instead of a run. */
	char *help; /* goes first: what to explain, "" for the overview; NULL: nothing */
	bool version, print, check;

	char *kernel, *initrd, *cmdline;
	char *root; /* the option of a class that has the guest's root */
	uint64_t cpus; /* 1 to CONFIG_CPUS_MAX */
	struct config_memory memory;
	int transport; /* enum config_transport */
	bool has_serial;
	struct chardev_conf serial; /* where has_serial */
	bool debug_exit;
	bool no_reboot;   /* a guest that restarts ends the run with status 0 */
	uint64_t timeout; /* seconds; 0: none */
	char *summary;    /* the file for the one JSON line of the run */
	char *screenshot; /* the file for a picture of the first head, at the end */
	char *pidfile;
	char *name;
	int log_level; /* enum log_level */
	bool no_sandbox;
	char *file; /* --config */

	/* In the order of the registry; within a class, the file's first, then as on the command line. */
	struct config_device *devices;
	size_t device_count;
	const struct virtio_class *const *classes;
};

/*
 * A group of options, as --help GROUP shows it. Either each row of opts is an
 * option of its own with its field in struct config, or (size > 0) the group
 * is the one option --NAME whose keys are the rows, with fields in the size
 * bytes at offset.
 */
struct config_group {
	const char *name; /* NULL ends the table */
	const char *summary;
	const struct opt *opts;
	size_t offset, size;
	bool action; /* only for the command line: not a part of the configuration */
};

/* Those of the VMM; a class with an option is a keyed group besides. */
extern const struct config_group config_groups[];

/*
 * Fills config, which need not be initialised, from the command line; classes
 * is the registry and must outlive it. -EINVAL with one sentence in error,
 * without "microvm: "; -ENOMEM. config_free() is needed only after success.
 */
int config_parse(struct config *config, const struct virtio_class *const *classes, int argc,
		 char *const *argv, struct opt_error *error);

/* Whether a device, which is not the first of all, is a unit of the device before it. */
bool config_is_unit(const struct config_device *device);

/* Accepts a zeroed object. */
void config_free(struct config *config);

/* Writes the JSON that --config reads. -errno. */
int config_print(const struct config *config, FILE *out);

#endif
