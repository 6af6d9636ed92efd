/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conformance: what holds for every class in the registry. A case drives one
 * device through vdrv, in a process of its own, under the device's real threads
 * and sandbox; main.c runs each case for each class and each cell of the matrix
 * {virtio-mmio, virtio-pci} x {split, packed} x {RAM whole, in 4 KiB regions}.
 *
 * No case knows what a device is for. What it knows is a probe: the chain that
 * each queue of a device that is new uses up, or holds. After whatever a driver
 * did wrong and the reset that follows, the device must do the same again.
 */
#ifndef TESTS_CONFORM_CONFORM_H
#define TESTS_CONFORM_CONFORM_H

#include "core/state.h"
#include "core/util.h"
#include "tests/lib/vdrv.h"

#define CONFORM_PAGE 4096
#define CONFORM_RAM MIB(2)
#define CONFORM_CUT_SIZE 64 /* entries of a queue whose areas have to lie within a page */
#define CONFORM_GIVEN_MAX 128
/* Pages for a case's own use, and then one for each queue's probe, as queues may have threads of their own. */
#define CONFORM_PAGES 8
#define CONFORM_DATA_LEN ((CONFORM_PAGES + VIRTIO_QUEUES_MAX) * CONFORM_PAGE)

struct conform_cell {
	enum vdrv_transport transport;
	bool packed;
	bool cut;
};

/* How a case's process ends. */
enum conform_status { CONFORM_PASSED, CONFORM_FAILED, CONFORM_SKIPPED = 77, CONFORM_NOT_HERE };

enum conform_outcome {
	CONFORM_FAILS, /* no probe is right for this queue */
	CONFORM_HOLDS, /* not used until something comes from elsewhere */
	CONFORM_USES,
};

/* What a queue is asked to do: readable bytes (zeroes), then writable ones. */
struct conform_probe {
	uint32_t out, in;
	enum conform_outcome outcome;
};

struct conform {
	const struct virtio_class *class;
	struct conform_cell cell;
	bool threads, confine;
	char options[256];
	const struct conform_probe *probes; /* one for each queue */
	struct vdrv vdrv;
	uint64_t features; /* that are agreed: all that are offered and the cell allows */
	uint64_t data;     /* CONFORM_DATA_LEN bytes of guest memory for buffers, page by page */
	uint8_t *before;   /* guest memory as it was at conform_watch() */
	struct mem_range given[CONFORM_GIVEN_MAX]; /* what the device may write */
	unsigned int given_count;
};

struct conform_case {
	const char *name;
	void (*run)(struct conform *c, const void *arg);
	const void *arg;
	bool once; /* not for each class and cell, but alone: no device is open */
};

/* Each table ends with a zeroed row. */
extern const struct conform_case conform_life[], conform_registers[], conform_queues[],
	conform_chains[], conform_events[], conform_saves[], conform_packets[], conform_shares[],
	conform_bugs[];

/* Says which check failed, and ends the case. */
#define CHECK(condition) conform_check((condition), #condition, __FILE__, __LINE__)
void conform_check(bool holds, const char *condition, const char *file, int line);
/* Ends the case: it cannot be run on this machine, for the reason, or it says nothing of this class and cell. */
__attribute__((noreturn)) void conform_skip(const char *reason);
__attribute__((noreturn)) void conform_not_here(void);

/* A device of the case's class and cell. extra: more options (",key=value"), "" for none. */
void conform_open(struct conform *c, const char *extra, uint64_t ram);
/* Its workers are threads from here on, if the run has it so. */
void conform_threads(struct conform *c);

/* Entries of a queue in this cell. */
uint16_t conform_size(const struct conform *c, unsigned int queue);
/* Reset, and up to DRIVER_OK, with all queues. */
void conform_begin(struct conform *c);
/* The same with other features. */
void conform_begin_with(struct conform *c, uint64_t features);
/* In two steps, to do something in between: up to FEATURES_OK, then the queues and DRIVER_OK. */
void conform_negotiate(struct conform *c);
void conform_start(struct conform *c);

/* Posts the probe of a queue that is set up, without a doorbell. Its id. */
int conform_post(struct conform *c, unsigned int queue);
/* The same with buffers elsewhere, and through an indirect table unless that is 0. */
int conform_post_at(struct conform *c, unsigned int queue, uint64_t out, uint64_t in, uint64_t table);
/* Gives the queues that hold their buffers enough of them: others may wait for that, as one that hears another does. */
void conform_feed(struct conform *c);
/* Feeds, and waits until the queue has used a buffer, which is taken, if it is one that does. Its id, or -1. */
int conform_take(struct conform *c, unsigned int queue);
/* After a start: all queues do with their probes what those of a new device do. */
void conform_probe_all(struct conform *c);
/* Whatever happened before: reset, start and probe. */
void conform_works(struct conform *c);

/* From here on the device may write what it is given, and the device's side of its rings. */
void conform_watch(struct conform *c);
/* The same while that queue has nothing and the others have their probes, which they may still use. */
void conform_watch_queue(struct conform *c, unsigned int queue);
void conform_give(struct conform *c, uint64_t gpa, uint64_t len);
void conform_untouched(struct conform *c);

/*
 * After something that must not be: the doorbell of the queue is rung, and then the device needs a
 * reset and has said so, or never looked; it used nothing and touched nothing.
 */
void conform_refused(struct conform *c, unsigned int queue);

/* A 32-bit random number, the same each time. */
uint32_t conform_random(uint32_t *seed);

#endif
