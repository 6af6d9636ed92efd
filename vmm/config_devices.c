// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include "core/util.h"
#include "devices/virtio/virtio.h"
#include "vmm/config_source.h"

void config_device_free(struct config_device *device)
{
	if (device->conf)
		opt_free(device->class->opts, device->conf);
	free(device->conf);
	free(device->text);
}

size_t config_devices_count(const struct config *config, const struct virtio_class *class)
{
	size_t count = 0;

	for (size_t i = 0; i < config->device_count; i++)
		count += config->devices[i].class == class;
	return count;
}

void config_devices_remove(struct config *config, const struct virtio_class *class)
{
	size_t kept = 0;

	for (size_t i = 0; i < config->device_count; i++) {
		if (config->devices[i].class == class)
			config_device_free(&config->devices[i]);
		else
			config->devices[kept++] = config->devices[i];
	}
	config->device_count = kept;
}

static size_t class_rank(const struct config *config, const struct virtio_class *class)
{
	size_t rank = 0;

	while (config->classes[rank] != class)
		rank++;
	return rank;
}

int config_devices_insert(struct config *config, const struct config_device *device)
{
	size_t rank = class_rank(config, device->class), at = config->device_count;
	struct config_device *more;

	more = reallocarray(config->devices, config->device_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	config->devices = more;
	while (at > 0 && class_rank(config, more[at - 1].class) > rank)
		at--;
	memmove(&more[at + 1], &more[at], (config->device_count - at) * sizeof(*more));
	more[at] = *device;
	config->device_count++;
	return 0;
}

/* The option with the value that tells this device from its sisters. */
char *config_device_text(const struct config_device *device, const char *file)
{
	const struct opt *shown = NULL;
	char value[256] = "", *text;

	for (const struct opt *opt = device->class->opts; opt->key; opt++) {
		if (!opt_format(opt, device->conf, value, sizeof(value)))
			continue;
		if (!shown || opt->bare)
			shown = opt;
	}
	if (shown)
		opt_format(shown, device->conf, value, sizeof(value));
	if (asprintf(&text, "%s%s--%s%s%s%s%s", file ? file : "", file ? ": " : "",
		     device->class->option, shown ? " " : "",
		     shown && !shown->bare ? shown->key : "",
		     shown && !shown->bare && shown->type != OPT_BOOL ? "=" : "",
		     shown && shown->type != OPT_BOOL ? value : "") < 0)
		return NULL;
	return text;
}

/* Where a device keeps its address; NULL where it has none, or none was given. */
static const uint8_t *device_mac(const struct config_device *device)
{
	static const uint8_t none[6];
	const uint8_t *mac;

	for (const struct opt *opt = device->class->opts; opt->key; opt++) {
		mac = (const uint8_t *)device->conf + opt->offset;
		if (opt->type == OPT_MAC && memcmp(mac, none, sizeof(none)))
			return mac;
	}
	return NULL;
}

int config_devices_check(const struct config *config, struct opt_error *error)
{
	for (size_t i = 0; i < config->device_count; i++) {
		const struct config_device *device = &config->devices[i];
		const uint8_t *mac = device_mac(device);

		for (size_t j = 0; mac && j < i; j++) {
			const uint8_t *other = device_mac(&config->devices[j]);

			if (other && !memcmp(mac, other, 6))
				return config_fail(error, device->text,
						   "%.*s has the same MAC address, change one of them",
						   CONFIG_WHERE_MAX, config->devices[j].text);
		}
	}
	return 0;
}

bool config_is_unit(const struct config_device *device)
{
	return device->class->units && device[-1].class == device->class;
}

/* The first of the device's own options (queues, their size ...) that is given. */
static const char *device_option(const struct config_device *device)
{
	char value[64];

	for (const struct opt *opt = device->class->opts; opt->key; opt++)
		if (opt->offset < sizeof(struct virtio_conf) &&
		    opt_format(opt, device->conf, value, sizeof(value)))
			return opt->key;
	return NULL;
}

int config_devices_join(struct config *config, struct opt_error *error)
{
	unsigned int units = 1;

	for (size_t i = 1; i < config->device_count; i++) {
		struct config_device *device = &config->devices[i];
		const char *option;

		units = config_is_unit(device) ? units + 1 : 1;
		if (units == 1)
			continue;
		if (units > device->class->units)
			return config_fail(error, device->text, "there can be only %u of them",
					   device->class->units);
		option = device_option(device);
		if (option)
			return config_fail(error, device->text, "%s is for all of them together, "
					   "say it with the first --%s", option,
					   device->class->option);
		((struct virtio_conf *)device[-1].conf)->next = device->conf;
	}
	return 0;
}
