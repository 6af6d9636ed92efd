// SPDX-License-Identifier: Apache-2.0
#include "arch/aarch64/layout.h"

#include "arch/arch.h"

/* No pin is shared and all are edge-triggered. */
const struct arch_layout arch_layout = {
	.uart = { .base = 0x09000000, .pin = 1 },
	.clock = { .base = 0x09010000 },
	.gpio = { .base = 0x09030000, .pin = 3 },
	.panic = { .base = 0x09040000 },
	.debug_exit = { .base = 0x09050000 },
	.pci_ecam = 0x3f000000,
	.pci_window = { 0x10000000, MIB(512) },
	.mmio_base = 0x0a000000,
	.mmio_stride = 0x1000,
	.mmio_first_pin = 16,
	.mmio_pin_count = 32,
	.irq_chip = 0, /* Arm's have no names */
	.irq_pins = LAYOUT_PINS,
	.serial_words = "8250.nr_uarts=1 console=ttyS0",
	.no_serial_words = "8250.nr_uarts=0",
	/*
	 * panic=-1 reboot=panic_warm: a kernel that panics resets the machine at once, and by PSCI's
	 * SYSTEM_RESET2, by which arch_reset_by_panic() knows it: no driver is needed for that.
	 * cma=0: no device here wants memory in one piece; Debian's kernel sets 64 MiB aside for such.
	 * cryptomgr.notests: self-tests of ciphers that nobody has used yet.
	 */
	.cmdline = "panic=-1 reboot=panic_warm cma=0 cryptomgr.notests",
};

size_t arch_ram_ranges(uint64_t size, struct mem_range ranges[2])
{
	ranges[0] = (struct mem_range){ LAYOUT_RAM, size };
	return 1;
}
