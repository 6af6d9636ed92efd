// SPDX-License-Identifier: Apache-2.0
#include "arch/x86_64/layout.h"

#include <linux/kvm.h>
#include "arch/arch.h"

/*
 * No pin is shared and all are edge-triggered. COM1 has the pin that every
 * driver expects; the FADT says that none of the PC's other legacy devices is
 * there, so their pins are free.
 */
const struct arch_layout arch_layout = {
	.uart = { .port = true, .base = 0x3f8, .pin = 4 },
	.panic = { .port = true, .base = 0x505 },
	.debug_exit = { .port = true, .base = 0xf4 },
	.power = { .port = true, .base = 0x600, .pin = 3 },
	.pci_ecam = 0xe8000000,
	.pci_window = { LAYOUT_HOLE, MIB(512) },
	.pci_ports = { 0x1000, 0x2000 },
	.mmio_base = 0xea000000,
	.mmio_stride = 0x1000,
	.mmio_first_pin = 5,
	.mmio_pin_count = 19,
	.irq_chip = KVM_IRQCHIP_IOAPIC,
	.irq_pins = 24,
	/* Ports are told by ACPI; Linux would look for as many as this at the PC's addresses. */
	.serial_words = "8250.nr_uarts=1 console=ttyS0",
	.no_serial_words = "8250.nr_uarts=0",
	/*
	 * panic=-1 reboot=panic_warm: a kernel that panics resets the machine at once and leaves the
	 * BIOS' warm boot flag, by which arch_reset_by_panic() knows it: no driver is needed for that.
	 * tsc=reliable: saves a test of up to 20 ms for each vCPU; kvm-clock stays first where
	 * the TSC is not invariant.
	 * pci=noearly: quirks of real chipsets, which probe ports that always exit and find nothing.
	 * cryptomgr.notests: self-tests of ciphers that nobody has used yet.
	 */
	.cmdline = "panic=-1 reboot=panic_warm tsc=reliable pci=noearly cryptomgr.notests",
};

size_t arch_ram_ranges(uint64_t size, struct mem_range ranges[2])
{
	uint64_t low = util_min(size, LAYOUT_HOLE);

	ranges[0] = (struct mem_range){ 0, low };
	if (low == size)
		return 1;
	ranges[1] = (struct mem_range){ LAYOUT_HIGH, size - low };
	return 2;
}
