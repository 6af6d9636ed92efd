/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device author includes. A device is one file that ends in a const
 * struct virtio_class, and one line in devices/classes.c: its options, help,
 * transports, counters and sandbox follow from the class.
 *
 * Threads: init and free run on the main thread; start, stop, kick,
 * config_write and every event handler run on the device's worker. The
 * transports call the functions in transport.h from vCPU threads.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/chardev.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/opt.h"
#include "core/stat.h"
#include "core/util.h"
#include "devices/virtio/virtq.h"
#include "seccomp/worker.h"

#define VIRTIO_QUEUES_MAX 32
#define VIRTIO_COUNTERS_MAX 16
#define VIRTIO_CONFIG_MAX 256

struct mem;
struct virtio_dev;
struct virtio_host;

/* How a device reaches its driver. Both functions write an eventfd: any thread may call them. */
struct transport {
	void (*raise_queue)(struct transport *transport, unsigned int queue);
	void (*raise_config)(struct transport *transport);
};

/* Everything that a device is. */
struct virtio_class {
	const char *name;    /* "blk"; a device is "blk0" in logs and counters */
	const char *option;  /* "disk": --disk, and the key of the JSON form */
	const char *summary; /* one line for --help */
	uint16_t id;         /* VIRTIO_ID_... */
	uint32_t pci_class;  /* base class, subclass, interface: 0x010000 */
	const uint16_t *queue_sizes; /* the largest size of each queue; a power of two */
	unsigned int queue_count;
	size_t request_size; /* bytes of device state that travel with each chain */
	uint64_t features;   /* beyond those that the core offers for every device */
	size_t config_size;  /* of the device's configuration space */
	size_t dev_size;     /* of the struct whose first member is the virtio_dev */
	const struct opt *opts;
	size_t conf_size;
	const struct hint *hints;     /* what to tell a user for init's errors; NULL: strerror */
	const char *const *counters;  /* names, ended by NULL; indexed by the device's own enum */
	const struct sandbox *sandbox;
	unsigned int max;   /* devices of this class at the most; 0: no limit */
	bool by_default;    /* one is there unless it is turned off */
	const char *kernel_words; /* for the kernel's command line, where there is such a device; NULL: none */

	/*
	 * Opens everything that dev->conf names, fills dev->config, withholds
	 * features, watches events. -errno; free is called after a failure as well.
	 */
	int (*init)(struct virtio_dev *dev);
	/* The driver is ready: dev->features are agreed, queues are active. -errno fails the device. */
	int (*start)(struct virtio_dev *dev);
	/* The queue may have something new. Pops until NULL, or stops and calls virtio_kick() later. */
	void (*kick)(struct virtio_dev *dev, struct virtq *queue);
	/*
	 * Reset, or the end. When it returns nothing touches guest memory any
	 * more. Called only after a start that succeeded.
	 */
	void (*stop)(struct virtio_dev *dev);
	/* The driver wrote [offset, offset + len) of dev->config. Missing: writes are ignored. */
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, uint32_t len);
	/* Delivers what the device still holds for the host, at the end of the run; the guest is stopped. */
	void (*drain)(struct virtio_dev *dev);
	/* A person's request: the window of the terminal changed. */
	void (*resize)(struct virtio_dev *dev);
	/* Closes what init opened. Must accept a half-built device. */
	void (*free)(struct virtio_dev *dev);
};

/* What the assembly offers devices. */
struct virtio_host {
	const struct mem *mem;
	const char *vm_name;
	bool confine;
	void *opaque;
	/* A person at a terminal asked for something; any thread. */
	void (*escape)(void *opaque, enum chardev_escape escape);
};

/* The first member of each device. */
struct virtio_dev {
	const struct virtio_class *class;
	char name[16];
	const char *where; /* for people: the pty, socket or interface that was made; NULL: none */
	const void *conf; /* of the class's conf_size; lives as long as the device */
	const struct virtio_host *host;
	const struct mem *mem;
	struct transport *transport;
	struct worker worker;

	/*
	 * The driver's side: lock serialises the vCPU threads. It is held across
	 * worker_call(), so the worker never takes it.
	 */
	pthread_mutex_t lock;
	uint64_t offered;
	uint64_t features; /* written by the driver; frozen at FEATURES_OK */
	_Atomic uint8_t status;

	/* A leaf lock for config and its generation: the worker may take it. */
	pthread_mutex_t config_lock;
	uint8_t config[VIRTIO_CONFIG_MAX];
	uint32_t generation;

	bool initialised; /* init was called, so free has to be */
	struct virtq *queues;
	unsigned int queue_count;

	/* The worker's side. */
	bool started;
	struct log_limit complaints;
	struct stat_counter counters[VIRTIO_COUNTERS_MAX];
};

/* Whether the feature (a bit number) was agreed. */
static inline bool virtio_has(const struct virtio_dev *dev, unsigned int feature)
{
	return dev->features >> feature & 1;
}

/* In init: the device does not offer a feature of its class after all. */
static inline void virtio_withhold(struct virtio_dev *dev, unsigned int feature)
{
	dev->offered &= ~(1ULL << feature);
}

static inline void virtio_count(struct virtio_dev *dev, unsigned int counter, uint64_t n)
{
	stat_add(&dev->counters[counter], n);
}

/*
 * The guest broke the rules: a rate-limited log line, DEVICE_NEEDS_RESET and a
 * configuration interrupt (section 2.1.2); queues give nothing more until the
 * driver resets. On the worker.
 */
__attribute__((format(printf, 2, 3))) void virtio_fail(struct virtio_dev *dev, const char *format,
						       ...);

/* Whether the device runs: started and not failed. On the worker. */
bool virtio_running(const struct virtio_dev *dev);

/* Calls the class's kick for the queue if the device runs. On the worker. */
void virtio_kick(struct virtio_dev *dev, unsigned int queue);

/*
 * Changes device configuration under a new generation and tells the driver
 * once it is ready. offset + len within the class's config_size. On the worker or in init.
 */
void virtio_config_update(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len);

#endif
