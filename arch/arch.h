/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole of what differs between architectures: one table of addresses and
 * a handful of link-time functions. Nothing outside arch/ asks which
 * architecture it is.
 */
#ifndef ARCH_ARCH_H
#define ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/mem.h"

/* Where a platform device sits: an I/O port or a memory address, and its interrupt pin. */
struct arch_place {
	bool port;
	uint64_t base;
	uint32_t pin;
};

struct arch_layout {
	struct arch_place uart, panic, debug_exit, power; /* power.pin: the power button */
	uint64_t pci_ecam;                      /* one bus: 1 MiB */
	struct mem_range pci_window;            /* for BARs */
	uint64_t mmio_base;                     /* virtio-mmio devices, mmio_stride apart */
	uint32_t mmio_stride;
	uint32_t mmio_first_pin, mmio_pin_count;
	uint32_t irq_chip, irq_pins;            /* the in-kernel interrupt controller, as KVM names it */
	const char *serial_words;               /* for Linux, with a serial port, */
	const char *no_serial_words;            /* and without */
	const char *cmdline;                    /* arguments that every guest gets */
};

extern const struct arch_layout arch_layout;

/* What the guest's firmware tables (ACPI, or a device tree) describe. */
struct arch_devices {
	unsigned int cpus;
	bool uart, panic, pci;
	unsigned int mmio_count; /* virtio-mmio devices: number n sits at mmio_base + n * mmio_stride */
};

/*
 * Splits size bytes of RAM into at most two ranges around the hole below
 * 4 GiB. Returns their number.
 */
size_t arch_ram_ranges(uint64_t size, struct mem_range ranges[2]);
/* RAM that the guest must not use as such, e.g. where the firmware tables are; *ret_count of them. */
const struct mem_range *arch_reserved(size_t *ret_count);

/* Prepares a new KVM VM, before any vCPU: interrupt controllers and what KVM needs for itself. -errno. */
int arch_vm_init(int vm_fd);
/* Brings the interrupt controllers back to where arch_vm_init() left them. */
int arch_vm_reset(int vm_fd);
/* Whether the guest that just asked for a reset did so because its kernel panicked (see layout.cmdline). */
bool arch_reset_by_panic(const struct mem *mem);

/* Prepares a new vCPU: features and topology. kvm_fd is /dev/kvm. -errno. */
int arch_vcpu_init(int kvm_fd, int vcpu_fd, unsigned int index, unsigned int cpus);
/* Puts a vCPU that has run back into its state after power-on. -errno. */
int arch_vcpu_reset(int vcpu_fd, unsigned int index);

/*
 * Prepares a vCPU after power-on for its kernel: number 0 will run from entry,
 * with the boot information's address in the register that the protocol wants;
 * the others wait to be started. Tables that this takes are written to mem. -errno.
 */
struct arch_entry {
	uint64_t pc;
	uint64_t info;
	bool long_mode; /* x86: 64-bit entry with paging, else 32-bit without */
};
int arch_vcpu_boot(int vcpu_fd, unsigned int index, const struct mem *mem,
		   const struct arch_entry *entry);

/*
 * Writes the firmware tables into mem. *ret_gpa is what the boot protocol
 * passes on (the RSDP). -errno.
 */
int arch_describe(const struct mem *mem, const struct arch_devices *devices, uint64_t *ret_gpa);

/* One line about a vCPU's registers, for a report of an internal error. */
void arch_vcpu_dump(int vcpu_fd, char *buffer, size_t len);

/*
 * A tiny guest of kernel-mode code that runs long enough to be timed, for
 * microvm check: writes it at gpa 0x1000 of a page-backed memory slot and sets
 * the vCPU on it. It ends with a write to debug_exit after loops rounds.
 */
int arch_probe_guest(int vcpu_fd, uint8_t *ram, size_t len, uint32_t loops);

#endif
