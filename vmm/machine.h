/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that a configuration describes: memory, kernel, buses, devices
 * and vCPUs, wired together. It is built before confinement; what goes wrong
 * is reported here, in one sentence, and only -errno is left to return.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include "arch/arch.h"
#include "core/bus.h"
#include "core/chardev.h"
#include "core/irq.h"
#include "core/mem.h"
#include "devices/display/display.h"
#include "devices/pci/pci.h"
#include "devices/platform/platform.h"
#include "devices/virtio/virtio.h"
#include "vmm/vcpu.h"

struct config;

/* What the thread of the serial port is confined to. */
extern const struct sandbox serial_sandbox;

/* A virtio device with the transport that it has: one of the two. */
struct machine_device {
	struct virtio_dev *dev;
	struct virtio_pci *pci;
	struct virtio_mmio *mmio;
};

/* The images on their way into memory; while it runs, all this belongs to its thread. */
struct machine_loader {
	pthread_t thread;
	bool running;
	int kernel_err, initrd_err;
	struct boot_kernel kernel;
	uint64_t initrd_gpa;
};

struct machine {
	const struct config *config;
	int kvm_fd, vm_fd;
	struct arch_irqchip *irqchip;
	struct mem mem;
	struct bus mmio, ports;
	struct irq_router irqs;
	struct pci_root pci;
	struct mem_range high; /* above RAM: where devices have shared memory */
	uint32_t slot_count;   /* of memory, as KVM has it */
	struct virtio_host virtio_host;
	struct display display;
	struct platform_host platform_host;
	struct machine_device *devices;
	size_t device_count;
	const struct virtio_conf *blamed; /* the unit that a device could not be made for */
	struct irq_line power_button; /* its own line, or that of the gpio that it is on */
	struct pl061 *gpio;           /* these two where the architecture has them */
	struct pl031 *clock;
	struct vcpus vcpus;
	bool ran; /* so that a reset has something to undo */

	/* The serial port, when there is one, with the thread that moves its bytes. */
	struct chardev serial;
	struct irq_line serial_line;
	struct worker serial_worker;
	struct uart *uart;

	/* What a reset loads again. */
	struct boot_file kernel, initrd;
	struct machine_loader loader;
	char *cmdline;
};

/*
 * Whom the machine tells: platform requests and stopped vCPUs, on vCPU
 * threads; escapes typed at a console, on workers, which therefore keep fd.
 */
struct machine_events {
	void *opaque;
	int fd;
	void (*request)(void *opaque, enum platform_request request, int code);
	void (*stopped)(void *opaque, enum vcpu_stop why, int code, const char *text);
	void (*escape)(void *opaque, enum chardev_escape escape);
};

/* -errno, reported; machine_free() afterwards in any case. config outlives the machine. */
int machine_build(struct machine *machine, const struct config *config,
		  const struct machine_events *events);
/* The capabilities that a thread of it will have: bits by CAP_.... */
uint64_t machine_capabilities(const struct machine *machine);
/*
 * Puts the process into the jail, unless the configuration says otherwise; what is left to it is
 * what the machine's threads need, and what may be done beneath dirs. -errno, reported.
 */
int machine_confine(const struct machine *machine, const struct landlock_dir *dirs, size_t count);
/* Starts all threads; each confines itself; vCPUs stay parked. -errno, reported. */
int machine_launch(struct machine *machine);
/*
 * Puts everything back as after power-on and loads the kernel again; for the
 * first start as well. vCPUs are parked. -errno, reported.
 */
int machine_reset(struct machine *machine);
void machine_press_power(struct machine *machine);
/* The terminal's window changed. */
void machine_resize(struct machine *machine);
/* Delivers what consoles still hold; vCPUs are parked. */
void machine_drain(struct machine *machine);
/* Accepts a zeroed or half-built object. */
void machine_free(struct machine *machine);

#endif
