// SPDX-License-Identifier: Apache-2.0
#include "vmm/summary.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include "core/log.h"
#include "devices/virtio/transport.h"
#include "vmm/config.h"
#include "vmm/machine.h"

/* Appends as snprintf() would, and stays within len. */
__attribute__((format(printf, 4, 5))) static void append(char *buffer, size_t len, size_t *at,
							 const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(buffer + *at, len - *at, format, args);
	va_end(args);
	if (n > 0)
		*at = util_min(*at + (size_t)n, len - 1);
}

void summary_line(const struct machine *machine, double seconds, char *buffer, size_t len)
{
	size_t at = 0;

	append(buffer, len, &at, "up %.1f s, %u vCPUs, %llu MiB", seconds, machine->vcpus.count,
	       (unsigned long long)(mem_size(&machine->mem) / MIB(1)));
	for (size_t i = 0; i < machine->device_count; i++) {
		const struct virtio_dev *dev = machine->devices[i].dev;
		const char *name, *by = dev->served_by;
		uint64_t sum;

		append(buffer, len, &at, "; %s", dev->name);
		if (by)
			append(buffer, len, &at, " by %s", by);
		for (unsigned int n = 0; (name = virtio_nth_counter(dev, n, &sum)); n++)
			if (sum)
				append(buffer, len, &at, " %s %llu", name, (unsigned long long)sum);
	}
}

static json_t *counters(const struct machine *machine)
{
	json_t *devices = json_object();

	for (size_t i = 0; i < machine->device_count; i++) {
		const struct virtio_dev *dev = machine->devices[i].dev;
		json_t *values = json_object();
		const char *name, *by = dev->served_by;
		uint64_t sum;

		if (by)
			json_object_set_new(values, "served_by", json_string(by));
		for (unsigned int n = 0; (name = virtio_nth_counter(dev, n, &sum)); n++)
			json_object_set_new(values, name, json_integer((json_int_t)sum));
		json_object_set_new(devices, dev->name, values);
	}
	return devices;
}

void summary_write(int fd, const struct machine *machine, const struct summary *summary)
{
	struct rusage usage = { 0 };
	_cleanup_free_ char *text = NULL;
	json_t *line;
	size_t len;

	/* Else jansson would look for a seed in /dev/urandom, which is out of reach by now. */
	json_object_seed(1);
	getrusage(RUSAGE_SELF, &usage);
	line = json_pack("{s:s, s:s, s:i, s:f, s:i, s:i, s:I, s:I, s:o}", "name",
			 machine->config->name ? machine->config->name : "", "end", summary->end,
			 "status", summary->status, "seconds", summary->seconds, "restarts",
			 (int)summary->restarts, "cpus", (int)machine->vcpus.count, "memory",
			 (json_int_t)mem_size(&machine->mem), "max_resident_kib",
			 (json_int_t)usage.ru_maxrss, "devices", counters(machine));
	text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	json_decref(line);
	len = text ? strlen(text) : 0;
	/* The final NUL makes room for the end of the line. */
	if (text)
		text[len] = '\n';
	if (!text || write(fd, text, len + 1) != (ssize_t)(len + 1))
		log_error("--summary: it cannot be written: %s", text ? strerror(errno) : "no memory");
}
