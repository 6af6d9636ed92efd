/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal to config*.c: what reading options from the command line and from
 * JSON have in common, and the list of devices that both fill.
 */
#ifndef VMM_CONFIG_SOURCE_H
#define VMM_CONFIG_SOURCE_H

#include "vmm/config.h"

struct json_t;

/* How much a message repeats of where the mistake is. */
#define CONFIG_WHERE_MAX 160

/* What an option's name stands for. */
struct config_target {
	const char *name;
	const struct opt *opts;
	const struct opt *row; /* an option of its own; NULL: opts are its keys */
	void *conf;            /* with row, or of a keyed group */
	size_t conf_size;
	const struct virtio_class *class; /* each use of the option makes a device */
	const char *flag;                 /* which has this key on */
	bool action;
};

/* The source that is read now. */
struct config_source {
	struct config *config;
	struct opt_error *error;
	const char *file;   /* NULL: the command line */
	const char **given; /* names of options in this source, and before known those of the last */
	size_t count, known;
};

/* An option's value: either text, or a JSON object of keys. */
struct config_value {
	const char *text;
	struct json_t *object;
};

/* ---- config.c ---- */

/* Writes the sentence, which begins with where the mistake is unless that is "". -EINVAL. */
__attribute__((format(printf, 3, 4)))
int config_fail(struct opt_error *error, const char *where, const char *format, ...);

/* Puts where in front of what is in error, or of what err means. Returns err; 0 changes nothing. */
int config_blame(struct opt_error *error, const char *where, int err);

/* The option called name, or -EINVAL with the nearest one in the source's error. */
int config_find(struct config_source *source, const char *name, struct config_target *ret);

/* Gives an option its value; where begins the message when that fails. */
int config_set(struct config_source *source, const struct config_target *target, const char *where,
	       const struct config_value *value);

/* ---- config_json.c ---- */

/* Reads all options of a file. */
int config_read_json(struct config_source *source, const char *path);

/* Fills conf from an object of keys. */
int config_set_object(const struct opt *opts, struct json_t *object, void *conf,
		      struct opt_error *error);

/* ---- config_devices.c ---- */

void config_device_free(struct config_device *device);

/* What config_device.text is to be; file: where it was asked for, or NULL. NULL: no memory. */
char *config_device_text(const struct config_device *device, const char *file);

size_t config_devices_count(const struct config *config, const struct virtio_class *class);

/* Puts the device behind the others of its class and takes it over. -ENOMEM. */
int config_devices_insert(struct config *config, const struct config_device *device);

/* Frees all of a class. */
void config_devices_remove(struct config *config, const struct virtio_class *class);

/* Links the units of a device. -EINVAL: too many, or what is the device's is said with a later one. */
int config_devices_join(struct config *config, struct opt_error *error);

/* -EINVAL when two have the same MAC address. */
int config_devices_check(const struct config *config, struct opt_error *error);

#endif
