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
#include "boot/boot.h"
#include "core/irq.h"
#include "core/mem.h"

/* Where a platform device sits: an I/O port or a memory address, and its interrupt pin. */
struct arch_place {
	bool port;
	uint64_t base; /* 0: this machine has no such device */
	uint32_t pin;
};

struct arch_layout {
	struct arch_place uart, panic, debug_exit;
	struct arch_place power; /* ACPI's sleep and reset registers; the power button's pin */
	struct arch_place gpio;  /* a PL061 with the power button on it */
	struct arch_place clock; /* a PL031 */
	uint64_t pci_ecam;                      /* one bus: 1 MiB */
	struct mem_range pci_window;            /* for BARs */
	struct mem_range pci_ports;             /* the same for I/O ports; empty: there are none */
	uint64_t mmio_base;                     /* virtio-mmio devices, mmio_stride apart */
	uint32_t mmio_stride;
	uint32_t mmio_first_pin, mmio_pin_count;
	uint32_t irq_chip, irq_pins;            /* the in-kernel interrupt controller, as KVM names it */
	const char *serial_words;               /* for Linux, with a serial port, */
	const char *no_serial_words;            /* and without */
	const char *cmdline;                    /* arguments that every guest gets */
};

extern const struct arch_layout arch_layout;

/* What of KVM this architecture needs besides what all do: for microvm check. Ended by {0}. */
struct arch_capability {
	int number; /* KVM_CAP_*, */
	const char *name, *use;
};

extern const struct arch_capability arch_capabilities[];

/* What to tell a user whose host has no /dev/kvm, and what kernels there are for --kernel. */
extern const char arch_no_kvm[], arch_kernel_formats[];

/*
 * Splits size bytes of RAM into at most two ranges around what other addresses
 * are for. Returns their number.
 */
size_t arch_ram_ranges(uint64_t size, struct mem_range ranges[2]);

/* ---- the VM ---- */

/* Makes a KVM VM. Returns its fd, or -errno. */
int arch_vm_create(int kvm_fd);

/* The interrupt controllers of a VM, all in the kernel. */
struct arch_irqchip;

/* Before any vCPU. -errno; vm_fd outlives them. */
int arch_irqchip_new(int vm_fd, unsigned int cpus, struct arch_irqchip **ret_irqchip);
/* Once all vCPUs are there: from here on interrupts can be bound. -errno. */
int arch_irqchip_start(struct arch_irqchip *irqchip);
/* Back to where arch_irqchip_start() left them; the vCPUs are reset already. -errno. */
int arch_irqchip_reset(struct arch_irqchip *irqchip);
struct irq_msi_pins arch_irqchip_msi_pins(const struct arch_irqchip *irqchip);
void arch_irqchip_free(struct arch_irqchip *irqchip);

/* ---- vCPUs ---- */

/* How the kernel is entered. */
struct arch_entry {
	uint64_t pc;
	uint64_t info; /* the address of what it is told, for the register that the protocol wants */
	int protocol;  /* boot_kernel's */
};

/* Prepares a new vCPU: features and topology. kvm_fd is /dev/kvm. -errno. */
int arch_vcpu_init(int kvm_fd, int vm_fd, int vcpu_fd, unsigned int index, unsigned int cpus);
/* Puts a vCPU that has run back into its state after power-on. -errno. */
int arch_vcpu_reset(int vm_fd, int vcpu_fd, unsigned int index);
/*
 * Prepares a vCPU after power-on for its kernel: number 0 will run from entry, the others wait to
 * be started. Tables that this takes are written to mem. -errno.
 */
int arch_vcpu_boot(int vcpu_fd, unsigned int index, const struct mem *mem,
		   const struct arch_entry *entry);
/*
 * Whether the guest that just asked for a reset did so because its kernel panicked (see
 * layout.cmdline). flags are those of KVM_SYSTEM_EVENT_RESET when it asked by that, else 0.
 */
bool arch_reset_by_panic(const struct mem *mem, int flags);
/* One line about a vCPU's registers, for a report of an internal error. */
void arch_vcpu_dump(int vcpu_fd, char *buffer, size_t len);

/* ---- the kernel ---- */

/* What to tell a user for the errors of boot_file_open() and arch_load_kernel(). */
extern const struct hint arch_kernel_hints[];

/*
 * Recognises the image by its magic and loads it. -ENOEXEC: not a kernel;
 * -EBADMSG: truncated or contradicting itself; -ENOTSUP: a kernel that cannot
 * be started here; -ENOPKG: packed in a way that is not known here; -E2BIG: does
 * not fit RAM; -ENOMEM.
 */
int arch_load_kernel(const struct boot_file *file, const struct mem *mem,
		     struct boot_kernel *ret_kernel);

/* What the guest's firmware tables (ACPI, or a device tree) describe. */
struct arch_devices {
	const struct arch_irqchip *irqchip;
	unsigned int cpus;
	bool uart, panic, debug_exit, pci;
	struct mem_range pci_high; /* for 64-bit BARs, above RAM; len 0: there are none */
	unsigned int mmio_count; /* virtio-mmio devices: number n sits at mmio_base + n * mmio_stride */
};

/*
 * Writes what the kernel is told about its machine into mem, where the kernel
 * and the initrd are already. -E2BIG: the command line is longer than the
 * kernel takes; -ENOSPC: more devices or memory regions than there is room for.
 */
int arch_describe(const struct arch_devices *devices, const struct mem *mem,
		  const struct boot_kernel *kernel, const struct boot_info *info,
		  struct arch_entry *ret_entry);

/* ---- a probe ---- */

/*
 * A tiny guest of kernel-mode code that runs long enough to be timed, for
 * microvm check: writes it to ram, which a memory slot shows at gpa, and sets
 * the only vCPU of vm_fd on it. It ends with a write to debug_exit after loops rounds.
 */
int arch_probe_guest(int vm_fd, int vcpu_fd, uint8_t *ram, size_t len, uint32_t loops);

#endif
