/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small virtio driver for tests and measurements: split and packed rings,
 * virtio-mmio and virtio-pci, all in this process. The registers are reached
 * over a bus without a VM, so doorbells are writes to the queues' eventfds, and
 * interrupts are the eventfds of an interrupt router without one.
 *
 *	vdrv_open() -> [vdrv_run()] -> vdrv_begin() -> vdrv_post(), vdrv_kick(),
 *	vdrv_wait(), vdrv_take() ... -> vdrv_close()
 *
 * Without vdrv_run() nothing happens but in vdrv_turn(), vdrv_settle() and
 * vdrv_wait(): the same each time. With it the device's workers are threads, in
 * their sandbox if the setup says so; a filter cannot be undone, so that is for
 * a child process, which calls filter_report_violations() first.
 *
 * The driver has a mapping of guest memory to itself, without holes, and the
 * device has another, with guards around it: a driver that races with the device,
 * as guests can, is no race of this program's. Cut into regions, the device's
 * lie in memory in the reverse order and apart, so that whoever steps over the
 * end of one is nowhere.
 *
 * It can lie as well: every register, area and descriptor can be written as one
 * likes. Functions return 0 or -errno.
 */
#ifndef TESTS_LIB_VDRV_H
#define TESTS_LIB_VDRV_H

#include <linux/virtio_ring.h>
#include "core/bus.h"
#include "core/irq.h"
#include "core/mem.h"
#include "devices/display/display.h"
#include "devices/pci/pci.h"
#include "devices/virtio/transport.h"

/* Of virtio 1.2, but younger than the headers of Linux 6.1. */
#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif

#define VDRV_RAM 0x100000ULL /* where guest memory begins */
#define VDRV_SHM GIB(64) /* and shared memory, of which the bus knows nothing */
#define VDRV_TIMEOUT_MS 10000
#define VDRV_POLL_US 50

enum vdrv_transport { VDRV_MMIO, VDRV_PCI };

struct vdrv_setup {
	const struct virtio_class *class;
	const char *options; /* as on the command line; NULL: the class's sample */
	enum vdrv_transport transport;
	uint64_t ram;        /* bytes of guest memory, in pages; 0: 16 MiB */
	uint64_t region;     /* cut into regions of so many bytes; 0: whole */
	bool confine;
};

/* The registers that both transports have, each in its own layout. */
enum vdrv_register {
	VDRV_DEVICE_WORD,
	VDRV_DEVICE_FEATURES,
	VDRV_DRIVER_WORD,
	VDRV_DRIVER_FEATURES,
	VDRV_STATUS,
	VDRV_GENERATION,
	VDRV_QUEUE_SELECT,
	VDRV_QUEUE_MAX,
	VDRV_QUEUE_SIZE,
	VDRV_QUEUE_READY,
	VDRV_QUEUE_RESET,
	VDRV_DESC_LOW,
	VDRV_DESC_HIGH,
	VDRV_DRIVER_LOW,
	VDRV_DRIVER_HIGH,
	VDRV_DEVICE_LOW,
	VDRV_DEVICE_HIGH,
	VDRV_REGISTERS,
};

struct vdrv_queue {
	struct vdrv *vdrv;
	unsigned int index;
	struct virtq_layout layout; /* as the device was told last */
	bool packed, event_idx;
	uint8_t *desc, *driver, *device; /* the three areas, in the driver's mapping */
	uint16_t next_avail, next_used;  /* split: free-running; packed: entries */
	bool avail_wrap, used_wrap;
	uint16_t added;     /* ring entries since the last vdrv_kick() */
	uint16_t free;      /* ring entries */
	uint16_t free_head; /* split: a descriptor; packed: an id */
	uint16_t *links;    /* of free ones, and of a split chain's descriptors */
	uint16_t *taken;    /* by id: the ring entries of what is in flight; 0: nothing */
	uint64_t area, area_len; /* what vdrv_set_up_queue() allocated for the three areas */
	uint64_t doorbells, suppressed; /* rung, and not wanted */
};

struct vdrv {
	struct vdrv_setup setup;
	void *conf;
	int ram_fd;
	uint8_t *ram;      /* the driver's mapping */
	uint8_t *host_ram; /* the device's: host_len bytes of address space, guards included */
	uint64_t host_len;
	uint64_t ram_len, next; /* next: where free memory begins */
	struct mem mem;
	struct virtio_host host;
	struct display display; /* of which pictures are wanted; nobody reads what is told of them */
	struct bus bus, ports;
	struct irq_router router;
	struct pci_root root;
	struct virtio_dev *dev;
	struct virtio_mmio *mmio;
	struct virtio_pci *pci;
	bool running;
	/* What the driver found. */
	uint64_t function;          /* PCI: its configuration space, in ECAM */
	unsigned int msix;          /* and a capability there */
	uint64_t window;            /* another, VIRTIO_PCI_CAP_PCI_CFG, by its address on the bus */
	uint64_t registers, config; /* addresses on the bus; config 0: there is none */
	const struct bus *notify_bus; /* of these two */
	uint64_t notify;
	uint32_t notify_multiplier;
	uint32_t config_len;
	int lines[VIRTIO_QUEUES_MAX + 1]; /* the interrupts' eventfds: mmio has one, PCI one per vector */
	unsigned int line_count;
	uint64_t features; /* agreed */
	struct vdrv_queue *queues;
	unsigned int queue_count;
};

/* A buffer of a chain. */
struct vdrv_buffer {
	uint64_t gpa;
	uint32_t len;
	bool writable;
};

/* ---- life ---- */

/* Makes memory, a device and its transport, and finds its way there as a driver does. */
int vdrv_open(struct vdrv *vdrv, const struct vdrv_setup *setup);
/* Accepts a zeroed or half-open one. */
void vdrv_close(struct vdrv *vdrv);
/* From here on the workers are threads. */
int vdrv_run(struct vdrv *vdrv);
/* Without threads: lets the device do what there is to do now. */
void vdrv_turn(struct vdrv *vdrv);
/* Until the workers have seen every doorbell so far, threads or not. What a backend has in flight may take longer. */
void vdrv_settle(struct vdrv *vdrv);

/* Section 2.4.2. -ETIMEDOUT when the status does not become 0. */
int vdrv_reset(struct vdrv *vdrv);
/* Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK. -ENOTSUP when the device does not take the features. */
int vdrv_negotiate(struct vdrv *vdrv, uint64_t features);
/*
 * All queues with size entries, or as many as they can have where that is fewer or size is 0, then
 * DRIVER_OK. -EIO when it needs a reset at once.
 */
int vdrv_start(struct vdrv *vdrv, uint16_t size);
/* The last two; VIRTIO_F_VERSION_1 is agreed without being asked for. */
int vdrv_begin(struct vdrv *vdrv, uint64_t features, uint16_t size);

/*
 * Pauses the device and appends its sections and the transport's to state;
 * load puts a new device in place of the old one, paused as well. The driver
 * notices nothing. virtio_dev_resume() is the caller's.
 */
int vdrv_save(struct vdrv *vdrv, struct state *state);
int vdrv_load(struct vdrv *vdrv, const struct state *state);

/* ---- registers ---- */

/* Its address on the bus, and its width in bytes. */
uint64_t vdrv_register(const struct vdrv *vdrv, enum vdrv_register reg);
unsigned int vdrv_register_width(const struct vdrv *vdrv, enum vdrv_register reg);
uint32_t vdrv_get(const struct vdrv *vdrv, enum vdrv_register reg);
void vdrv_set(const struct vdrv *vdrv, enum vdrv_register reg, uint32_t value);
/* With the queue selected. */
uint32_t vdrv_queue_get(const struct vdrv *vdrv, unsigned int queue, enum vdrv_register reg);
void vdrv_queue_set(const struct vdrv *vdrv, unsigned int queue, enum vdrv_register reg,
		    uint32_t value);

uint64_t vdrv_offered(const struct vdrv *vdrv);
void vdrv_set_features(struct vdrv *vdrv, uint64_t features);
bool vdrv_needs_reset(const struct vdrv *vdrv);

/* Device configuration byte by byte, again until the generation stays the same (section 2.5.1). */
void vdrv_config_read(const struct vdrv *vdrv, uint32_t offset, void *data, uint32_t len);
void vdrv_config_write(const struct vdrv *vdrv, uint32_t offset, const void *data, uint32_t len);

/*
 * How often it was interrupted for the queue, or for the configuration, since it was asked last;
 * acknowledges. virtio-mmio has one interrupt for all of it.
 */
uint64_t vdrv_interrupts(const struct vdrv *vdrv, unsigned int queue);
uint64_t vdrv_config_interrupts(const struct vdrv *vdrv);

/* ---- memory ---- */

/* len zeroed bytes; within one region when they fit there. 0 when there is no memory left. */
uint64_t vdrv_alloc(struct vdrv *vdrv, uint64_t len);
/* In the driver's mapping; NULL where [gpa, gpa + len) is not RAM. */
void *vdrv_ptr(const struct vdrv *vdrv, uint64_t gpa, uint64_t len);
/* The first address that is not RAM. */
uint64_t vdrv_ram_end(const struct vdrv *vdrv);

/* ---- queues ---- */

/* The sizes of a queue's areas (section 2.6) under the agreed features. */
struct vdrv_areas {
	uint64_t desc, driver, device;
};
struct vdrv_areas vdrv_areas(const struct vdrv *vdrv, uint16_t size);

/* Tells the device the layout, ready included, as it is; a driver that lies goes on from here itself. */
void vdrv_tell_queue(struct vdrv *vdrv, unsigned int queue, const struct virtq_layout *layout);
/* The same for areas in RAM, and gets the driver ready to use them. -EFAULT, -ENOMEM. */
int vdrv_place_queue(struct vdrv *vdrv, unsigned int queue, const struct virtq_layout *layout);
/* The same in memory that is allocated once for each queue. size 0: as large as the device has it. */
int vdrv_set_up_queue(struct vdrv *vdrv, unsigned int queue, uint16_t size);
/* Section 2.6.1; set it up again afterwards. -ETIMEDOUT. */
int vdrv_reset_queue(struct vdrv *vdrv, unsigned int queue);

/*
 * Makes one chain of the buffers available, through an indirect table at table
 * where that is not 0. Returns its id, or -ENOSPC.
 */
int vdrv_post(struct vdrv_queue *queue, const struct vdrv_buffer *buffers, unsigned int count,
	      uint64_t table);
/* Rings the doorbell if the device wants it; says whether it did. */
bool vdrv_kick(struct vdrv_queue *queue);
/* Whether the device wants it or not. */
void vdrv_ring(struct vdrv_queue *queue);
/* The next used buffer; false when there is none. ret_len may be NULL. */
bool vdrv_take(struct vdrv_queue *queue, uint16_t *ret_id, uint32_t *ret_len);
/* Whether there is one. */
bool vdrv_used(const struct vdrv_queue *queue);
/*
 * Asks for an interrupt when the nth from now is used (more than 1 takes
 * VIRTIO_RING_F_EVENT_IDX; counts ring entries when packed). 0: for none.
 * Whether one is there already.
 */
bool vdrv_arm(struct vdrv_queue *queue, uint16_t n);
/* Sleeps until vdrv_take() would find something. -ETIMEDOUT. */
int vdrv_wait(struct vdrv_queue *queue, int timeout_ms);

/* ---- lies ---- */

/*
 * Writes an entry of the ring or table as it is; next is the buffer id of a packed one,
 * whose AVAIL and USED flags stay as they are.
 */
void vdrv_put(struct vdrv_queue *queue, uint16_t slot, const struct vring_desc *desc);
/* Makes available: split, the descriptor head, which may be any number; packed, the next count entries. */
void vdrv_expose(struct vdrv_queue *queue, uint16_t head, uint16_t count);
/* Split: moves the available index on without having written any entry. */
void vdrv_jump(struct vdrv_queue *queue, uint16_t by);

#endif
