/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device author includes. A device is one file that ends in a const
 * struct virtio_class, and one line in devices/classes.c: its options, help,
 * transports, counters and sandbox follow from the class.
 *
 * Threads: a device has one worker, or with several sets of queues one for
 * each set; a queue belongs to exactly one. init, save, load, restore and free run on the main
 * thread; start, reset, config_write, drain, resize, resize_disk, set_link, set_monitor and mend on the first worker; kick, retry,
 * queue_start, queue_stop, queue_reset, queue_error and the queue's event handlers on the queue's. The
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
#include "core/state.h"
#include "core/stat.h"
#include "core/util.h"
#include "core/window.h"
#include "devices/virtio/virtq.h"
#include "seccomp/worker.h"

#define VIRTIO_QUEUES_MAX 34
#define VIRTIO_SETS_MAX 16
#define VIRTIO_CONFIG_MAX 256

struct display;
struct mem;
struct virtio_dev;
struct virtio_host;

/* How a device reaches its driver. */
struct transport {
	/* These two write an eventfd: any thread may call them. */
	void (*raise_queue)(struct transport *transport, unsigned int queue);
	void (*raise_config)(struct transport *transport);
	/*
	 * The eventfd that interrupts for the queue, the transport's own; -1: none now. On the
	 * queue's worker; virtio_redirect_queue() tells when it is another. Missing: it takes raise_queue().
	 */
	int (*interrupt_fd)(struct transport *transport, unsigned int queue);
};

/* A shared memory region of a device's (section 2.10). */
struct virtio_shm {
	uint8_t id;           /* as the class has it in the specification */
	uint64_t gpa;         /* where the assembly shows it to the guest */
	struct window window; /* without hva: the device has no such region */
};

/* What every class's configuration begins with. */
struct virtio_conf {
	uint64_t queues;     /* sets of queues; 0: one */
	uint64_t queue_size; /* 0: as the class has it */
	uint64_t poll;       /* microseconds that a worker looks for work before it sleeps; 0: the host's poll_us */
	bool packed;
	bool in_order;
	const struct virtio_conf *next; /* of a class with units: the next unit of the same device */
};

/* The last rows of every class's option table; VIRTIO_OPT_QUEUES before them where there can be several sets. */
#define VIRTIO_OPTS \
	{ .key = "queue-size", .type = OPT_UINT, .power_of_two = true, .min = 2, .max = 32768, \
	  .offset = offsetof(struct virtio_conf, queue_size), .arg = "N", \
	  .help = "entries of each ring, a power of two" }, \
	{ .key = "packed", .type = OPT_BOOL, .offset = offsetof(struct virtio_conf, packed), \
	  .help = "offer the packed ring layout" }, \
	{ .key = "in-order", .type = OPT_BOOL, .offset = offsetof(struct virtio_conf, in_order), \
	  .help = "offer to use buffers in the order in which they come" }, \
	{ .key = "poll", .type = OPT_UINT, .may_be_off = true, .min = 1, .max = 100000, \
	  .offset = offsetof(struct virtio_conf, poll), .arg = "US|off", \
	  .help = "microseconds to look for work before sleeping; 100 where cores are plenty" }

#define VIRTIO_OPT_QUEUES(what) \
	{ .key = "queues", .type = OPT_UINT, .min = 1, .max = VIRTIO_SETS_MAX, \
	  .offset = offsetof(struct virtio_conf, queues), .arg = "N", .help = (what) }

/* Everything that a device is. */
struct virtio_class {
	const char *name;    /* "blk"; a device is "blk0" in logs and counters */
	const char *option;  /* "disk": --disk, and the key of the JSON form */
	const char *flag_option; /* a flag of opts that is an option, too: "cdrom" for --cdrom PATH; NULL: none */
	const char *summary; /* one line for --help */
	const char *sample;  /* the option's value for a device that needs nothing of the host: what tests build */
	uint16_t id;         /* VIRTIO_ID_... */
	uint32_t pci_class;  /* base class, subclass, interface: 0x010000 */
	/* Of queues in front of all sets, which the first worker serves; 0: like those of the sets. */
	const uint16_t *head_sizes;
	unsigned int head_count;
	const uint16_t *queue_sizes; /* of the queues of one set, unless queue-size= says otherwise */
	unsigned int queue_count;    /* of one set */
	uint16_t control_size; /* of one queue more behind all sets; 0: there is none */
	size_t request_size; /* bytes of device state that travel with each chain */
	uint64_t features;   /* beyond those that the core offers for every device */
	size_t config_size;  /* of the device's configuration space */
	size_t dev_size;     /* of the struct whose first member is the virtio_dev */
	/* What a save takes: state_size bytes at state_offset of the device's struct, without pointers. */
	size_t state_offset, state_size;
	uint32_t state_version;
	const struct opt *opts; /* VIRTIO_OPTS and the class's own */
	size_t conf_size;       /* of the struct whose first member is the virtio_conf */
	const struct hint *hints;     /* what to tell a user for init's errors; NULL: strerror */
	const char *const *counters;  /* names, ended by NULL; indexed by the device's own enum */
	const struct sandbox *sandbox;
	uint64_t capabilities; /* bits by CAP_..., that its threads keep where the process has them */
	unsigned int max;   /* devices of this class at the most; 0: no limit */
	unsigned int units; /* so many uses of the option make one device; 0: each makes a device */
	bool by_default;    /* one is there unless it is turned off */
	const char *kernel_words; /* for the kernel's command line, where there is such a device; NULL: none */
	/* The same where --root names the class; %s: the option at root_name of the first one's struct. */
	const char *root_words;
	size_t root_name;

	/* How many sets of queues there are, maybe none. Missing: as queues= says. */
	unsigned int (*sets)(const void *conf);
	/* Whether one worker is to have all sets of queues. Missing: each has its own. */
	bool (*one_worker)(const void *conf);
	/*
	 * Opens everything that dev->conf names, fills dev->config, withholds
	 * features, watches events. -errno; free is called after a failure as well.
	 */
	int (*init)(struct virtio_dev *dev);
	/* The driver is ready: dev->features are agreed. Before any queue. -errno fails the device. */
	int (*start)(struct virtio_dev *dev);
	/* The queue is active. -errno fails the device. Its first kick follows. */
	int (*queue_start)(struct virtq *queue);
	/* The queue may have something new. Pops until NULL, or stops and calls virtio_kick() later. */
	void (*kick)(struct virtio_dev *dev, struct virtq *queue);
	/*
	 * Reset of the queue or of the device, a pause, or the end; only after a
	 * queue_start that succeeded. When it returns nothing touches the queue's
	 * buffers any more. Chains that are still in flight then must be those
	 * that were popped last: a pause puts them back, a reset forgets them.
	 */
	void (*queue_stop)(struct virtq *queue);
	/* After queue_stop, where it was for a reset: what was in flight is forgotten. */
	void (*queue_reset)(struct virtq *queue);
	/* A vhost to which the queue is lent cannot go on with it. Missing: the guest's fault. */
	void (*queue_error)(struct virtq *queue);
	/* The driver wrote [offset, offset + len) of dev->config. Missing: writes are ignored. */
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, uint32_t len);
	/* All queues are stopped: the class's state is to be as init left it. */
	void (*reset)(struct virtio_dev *dev);
	/*
	 * The class's state was loaded from a save that may be anything: -EINVAL when it cannot be.
	 * dev->features, dev->config and the queues are loaded by then; start and queue_start follow.
	 */
	int (*load)(struct virtio_dev *dev);
	/*
	 * What state_size cannot hold, as it has no fixed size: sections that save appends to those of
	 * a paused device, and restore takes again, after load. -errno: it cannot be saved now.
	 */
	int (*save)(struct virtio_dev *dev, struct state *state);
	int (*restore)(struct virtio_dev *dev, struct state_reader *reader);
	/* Delivers what the device still holds for the host, at the end of the run; the guest is stopped. */
	void (*drain)(struct virtio_dev *dev);
	/* A person's request: the window of the terminal changed. */
	void (*resize)(struct virtio_dev *dev);
	/* A person's request: the disk is to have so many bytes; 0: as many as its backing has by now. -errno. */
	int (*resize_disk)(struct virtio_dev *dev, uint64_t bytes);
	/* A person's request: plugs the network's cable in, or pulls it. -ENODEV: there is nobody at its end. */
	int (*set_link)(struct virtio_dev *dev, bool up);
	/* A person's request: a monitor of that size at the head, or with 0 x 0 none. -ENODEV: no such head. */
	int (*set_monitor)(struct virtio_dev *dev, unsigned int head, uint32_t width, uint32_t height);
	/* KVM got no page of shm for a vCPU: replaces what was lost. In how many places; 0: nothing was. */
	size_t (*mend)(struct virtio_dev *dev);
	/* A person's request: what a host's error stopped is to be tried again. On the queue's worker. */
	void (*retry)(struct virtq *queue);
	/* Closes what init opened. Must accept a half-built device. */
	void (*free)(struct virtio_dev *dev);
};

/* What the assembly offers devices. */
struct virtio_host {
	const struct mem *mem;
	const char *vm_name;
	bool confine;
	uint64_t poll_us;
	struct display *display; /* where a person sees and types; NULL: nowhere */
	void *opaque;
	/* Where an init that fails tells for which unit; may be NULL. */
	const struct virtio_conf **blamed;
	/* A person at a terminal asked for something; any thread. */
	void (*escape)(void *opaque, enum chardev_escape escape);
};

/* The first member of each device. */
struct virtio_dev {
	const struct virtio_class *class;
	char name[16];
	const char *where; /* for people: the pty, socket or interface that was made; NULL: none */
	/*
	 * For people: who serves the queues instead, so that the class counts nothing; NULL: nobody.
	 * Set in init; start may take it back.
	 */
	const char *_Atomic served_by;
	const void *conf; /* of the class's conf_size; lives as long as the device */
	const struct virtio_host *host;
	const struct mem *mem;
	struct transport *transport;

	unsigned int set_count; /* of queues */
	struct worker *workers; /* one for each set, or one for all */
	unsigned int worker_count;
	struct virtq *queues; /* set by set, then the control queue */
	unsigned int queue_count;

	/*
	 * The driver's side: lock serialises the vCPU threads. It is held across
	 * worker_call(), so no worker takes it.
	 */
	pthread_mutex_t lock;
	uint64_t offered;
	uint64_t features; /* written by the driver; frozen at FEATURES_OK */
	bool started;      /* queues may be active */
	bool resetting;    /* the driver asked for a reset, which ends when all queues are stopped */
	bool paused;
	_Atomic uint8_t status;

	/* A leaf lock for config and its generation: workers may take it. */
	pthread_mutex_t config_lock;
	uint8_t config[VIRTIO_CONFIG_MAX];
	uint32_t generation;

	struct virtio_shm shm;
	bool initialised; /* init was called, so free has to be */
	struct log_limit complaints;
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

/*
 * The guest broke the rules: a rate-limited log line, DEVICE_NEEDS_RESET and a
 * configuration interrupt (section 2.1.2); queues give nothing more until the
 * driver resets. On a worker.
 */
__attribute__((format(printf, 2, 3))) void virtio_fail(struct virtio_dev *dev, const char *format,
						       ...);

/* The same where it is the host that cannot go on, for no fault of the guest's. */
__attribute__((format(printf, 2, 3))) void virtio_lose(struct virtio_dev *dev, const char *format,
						       ...);

/*
 * In init: the device has a shared memory region of len bytes, a power of two of
 * WINDOW_PIECE at least. -ENOMEM.
 */
int virtio_add_shm(struct virtio_dev *dev, uint8_t id, uint64_t len);

/* Whether it has to be reset. */
bool virtio_failed(const struct virtio_dev *dev);

/*
 * Calls the class's kick for the queue if that is active and the device has not failed; rings the
 * doorbell of one that is lent. On the queue's worker.
 */
void virtio_kick(struct virtq *queue);

/*
 * Changes device configuration under a new generation and tells the driver
 * once it is ready. offset + len within the class's config_size. On a worker or in init.
 */
void virtio_config_update(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len);

#endif
