// SPDX-License-Identifier: Apache-2.0
/*
 * The device tree (Devicetree Specification 0.4, and the bindings in Linux'
 * Documentation/devicetree/bindings). It is built where the guest finds it.
 */
#include <libfdt.h>
#include <linux/input-event-codes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include "arch/aarch64/irqchip.h"
#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "arch/arch.h"
#include "devices/platform/platform.h"

/* What other nodes refer to. */
enum { PHANDLE_GIC = 1, PHANDLE_MSI, PHANDLE_CLOCK, PHANDLE_GPIO };

/* The first cell of an interrupt, and the last. */
enum { IRQ_SPI = 0, IRQ_PPI = 1 };
enum { IRQ_EDGE_RISING = 1, IRQ_LEVEL_HIGH = 4 };

#define TIMER_INTERRUPTS 4
#define PCI_MEMORY_32 0x02000000
#define PCI_MEMORY_64 0x43000000 /* prefetchable */
#define UART_CLOCK 1843200
#define SEED_LEN 32

/* The tree so far; the first error sticks. */
struct tree {
	void *fdt;
	int err;
};

static void note(struct tree *tree, int err)
{
	if (!tree->err)
		tree->err = err;
}

__attribute__((format(printf, 2, 3))) static void begin(struct tree *tree, const char *format, ...)
{
	char name[64];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	note(tree, fdt_begin_node(tree->fdt, name));
}

static void end(struct tree *tree)
{
	note(tree, fdt_end_node(tree->fdt));
}

static void put_empty(struct tree *tree, const char *name)
{
	note(tree, fdt_property(tree->fdt, name, NULL, 0));
}

static void put_string(struct tree *tree, const char *name, const char *value)
{
	note(tree, fdt_property_string(tree->fdt, name, value));
}

static void put_strings(struct tree *tree, const char *name, const char *first, const char *second)
{
	char both[64];
	size_t len = strlen(first) + 1;

	snprintf(both, sizeof(both), "%s", first);
	snprintf(both + len, sizeof(both) - len, "%s", second);
	note(tree, fdt_property(tree->fdt, name, both, (int)(len + strlen(second) + 1)));
}

static void put_cells(struct tree *tree, const char *name, const uint32_t *cells, size_t count)
{
	void *at = NULL;

	note(tree, fdt_property_placeholder(tree->fdt, name, (int)(count * sizeof(*cells)), &at));
	for (size_t i = 0; !tree->err && i < count; i++)
		fdt32_st((uint32_t *)at + i, cells[i]);
}

#define PUT_CELLS(tree, name, ...) \
	put_cells(tree, name, (const uint32_t[]){ __VA_ARGS__ }, \
		  sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

/* A 64-bit number in two cells. */
#define WIDE(value) (uint32_t)((uint64_t)(value) >> 32), (uint32_t)(value)

static void put_pin(struct tree *tree, uint32_t pin)
{
	PUT_CELLS(tree, "interrupts", IRQ_SPI, pin, IRQ_EDGE_RISING);
}

/* ---- processors, memory, interrupts ---- */

static void add_cpus(struct tree *tree, unsigned int count)
{
	begin(tree, "cpus");
	PUT_CELLS(tree, "#address-cells", 1);
	PUT_CELLS(tree, "#size-cells", 0);
	for (unsigned int i = 0; i < count; i++) {
		begin(tree, "cpu@%x", (unsigned int)vcpu_affinity(i));
		put_string(tree, "device_type", "cpu");
		put_string(tree, "compatible", "arm,armv8");
		PUT_CELLS(tree, "reg", (uint32_t)vcpu_affinity(i));
		put_string(tree, "enable-method", "psci");
		end(tree);
	}
	end(tree);

	begin(tree, "psci");
	put_strings(tree, "compatible", "arm,psci-1.0", "arm,psci-0.2");
	put_string(tree, "method", "hvc");
	end(tree);
}

static void add_memory(struct tree *tree, const struct mem *mem)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];

		begin(tree, "memory@%llx", (unsigned long long)region->gpa);
		put_string(tree, "device_type", "memory");
		PUT_CELLS(tree, "reg", WIDE(region->gpa), WIDE(region->len));
		end(tree);
	}
}

/* Interrupts of a GICv2 name the vCPUs that get them, those of a GICv3 do not. */
static uint32_t private_flags(const struct arch_irqchip *irqchip)
{
	return IRQ_LEVEL_HIGH | (irqchip->v3 ? 0 : ((1u << irqchip->cpus) - 1) << 8);
}

static void add_timer(struct tree *tree, const struct arch_irqchip *irqchip)
{
	/* Secure, non-secure, virtual, hypervisor; KVM's timers are the second and the third. */
	static const uint32_t numbers[TIMER_INTERRUPTS] = { 13, 14, 11, 10 };
	uint32_t cells[3 * TIMER_INTERRUPTS];

	for (size_t i = 0; i < TIMER_INTERRUPTS; i++) {
		cells[3 * i] = IRQ_PPI;
		cells[3 * i + 1] = numbers[i];
		cells[3 * i + 2] = private_flags(irqchip);
	}
	begin(tree, "timer");
	put_string(tree, "compatible", "arm,armv8-timer");
	put_cells(tree, "interrupts", cells, ARRAY_SIZE(cells));
	put_empty(tree, "always-on");
	end(tree);

	if (!vcpu_has_pmu(irqchip->vm_fd))
		return;
	begin(tree, "pmu");
	put_string(tree, "compatible", "arm,armv8-pmuv3");
	PUT_CELLS(tree, "interrupts", IRQ_PPI, LAYOUT_PMU_PPI, private_flags(irqchip));
	end(tree);
}

static void add_its(struct tree *tree)
{
	begin(tree, "msi-controller@%x", LAYOUT_ITS);
	put_string(tree, "compatible", "arm,gic-v3-its");
	put_empty(tree, "msi-controller");
	PUT_CELLS(tree, "#msi-cells", 1);
	PUT_CELLS(tree, "reg", WIDE(LAYOUT_ITS), WIDE(IRQCHIP_ITS_LEN));
	PUT_CELLS(tree, "phandle", PHANDLE_MSI);
	end(tree);
}

static void add_v2m(struct tree *tree)
{
	begin(tree, "v2m@%x", LAYOUT_GICV2M);
	put_string(tree, "compatible", "arm,gic-v2m-frame");
	put_empty(tree, "msi-controller");
	PUT_CELLS(tree, "reg", WIDE(LAYOUT_GICV2M), WIDE(IRQCHIP_V2M_LEN));
	PUT_CELLS(tree, "arm,msi-base-spi", IRQCHIP_V2M_FIRST);
	PUT_CELLS(tree, "arm,msi-num-spis", IRQCHIP_V2M_COUNT);
	PUT_CELLS(tree, "phandle", PHANDLE_MSI);
	end(tree);
}

static void add_gic(struct tree *tree, const struct arch_irqchip *irqchip)
{
	begin(tree, "interrupt-controller@%x", LAYOUT_GICD);
	put_string(tree, "compatible", irqchip->v3 ? "arm,gic-v3" : "arm,cortex-a15-gic");
	put_empty(tree, "interrupt-controller");
	PUT_CELLS(tree, "#interrupt-cells", 3);
	PUT_CELLS(tree, "#address-cells", 2);
	PUT_CELLS(tree, "#size-cells", 2);
	put_empty(tree, "ranges");
	if (irqchip->v3)
		PUT_CELLS(tree, "reg", WIDE(LAYOUT_GICD), WIDE(IRQCHIP_V3_GICD_LEN),
			  WIDE(LAYOUT_GICR), WIDE((uint64_t)irqchip->cpus * IRQCHIP_V3_GICR_LEN));
	else
		PUT_CELLS(tree, "reg", WIDE(LAYOUT_GICD), WIDE(IRQCHIP_V2_GICD_LEN),
			  WIDE(LAYOUT_GICC), WIDE(IRQCHIP_V2_GICC_LEN));
	PUT_CELLS(tree, "phandle", PHANDLE_GIC);
	if (irqchip->v3)
		add_its(tree);
	else
		add_v2m(tree);
	end(tree);
}

/* ---- devices ---- */

static void begin_device(struct tree *tree, const char *name, const char *compatible,
			 const struct arch_place *place, uint64_t len)
{
	begin(tree, "%s@%llx", name, (unsigned long long)place->base);
	put_string(tree, "compatible", compatible);
	PUT_CELLS(tree, "reg", WIDE(place->base), WIDE(len));
}

static void put_clock(struct tree *tree)
{
	PUT_CELLS(tree, "clocks", PHANDLE_CLOCK);
	put_string(tree, "clock-names", "apb_pclk");
}

/* The PrimeCells; the button's line goes through one of them. */
static void add_primecells(struct tree *tree)
{
	begin(tree, "apb-pclk");
	put_string(tree, "compatible", "fixed-clock");
	PUT_CELLS(tree, "#clock-cells", 0);
	PUT_CELLS(tree, "clock-frequency", 24000000);
	PUT_CELLS(tree, "phandle", PHANDLE_CLOCK);
	end(tree);

	begin(tree, "rtc@%llx", (unsigned long long)arch_layout.clock.base);
	put_strings(tree, "compatible", "arm,pl031", "arm,primecell");
	PUT_CELLS(tree, "reg", WIDE(arch_layout.clock.base), WIDE(PL031_LEN));
	put_clock(tree);
	end(tree);

	begin(tree, "gpio@%llx", (unsigned long long)arch_layout.gpio.base);
	put_strings(tree, "compatible", "arm,pl061", "arm,primecell");
	PUT_CELLS(tree, "reg", WIDE(arch_layout.gpio.base), WIDE(PL061_LEN));
	put_pin(tree, arch_layout.gpio.pin);
	put_clock(tree);
	put_empty(tree, "gpio-controller");
	PUT_CELLS(tree, "#gpio-cells", 2);
	put_empty(tree, "interrupt-controller");
	PUT_CELLS(tree, "#interrupt-cells", 2);
	PUT_CELLS(tree, "#address-cells", 0);
	PUT_CELLS(tree, "phandle", PHANDLE_GPIO);
	end(tree);

	begin(tree, "gpio-keys");
	put_string(tree, "compatible", "gpio-keys");
	begin(tree, "power-button");
	put_string(tree, "label", "Power Button");
	PUT_CELLS(tree, "linux,code", KEY_POWER);
	PUT_CELLS(tree, "gpios", PHANDLE_GPIO, PL061_BUTTON, 0);
	end(tree);
	end(tree);
}

static void add_platform(struct tree *tree, const struct arch_devices *devices)
{
	if (devices->uart) {
		begin_device(tree, "serial", "ns16550a", &arch_layout.uart, UART_LEN);
		put_pin(tree, arch_layout.uart.pin);
		PUT_CELLS(tree, "clock-frequency", UART_CLOCK);
		end(tree);
	}
	if (devices->panic) {
		begin_device(tree, "pvpanic", "qemu,pvpanic-mmio", &arch_layout.panic, 2);
		end(tree);
	}
	if (devices->debug_exit) {
		begin_device(tree, "debug-exit", "microvm,debug-exit", &arch_layout.debug_exit,
			     DEBUG_EXIT_LEN);
		end(tree);
	}
	add_primecells(tree);
}

/* BARs are placed already, and stay: see linux,pci-probe-only. */
static void add_pci(struct tree *tree, const struct mem_range *high)
{
	const struct mem_range *window = &arch_layout.pci_window;
	const uint32_t ranges[] = {
		PCI_MEMORY_32, WIDE(window->gpa), WIDE(window->gpa), WIDE(window->len),
		PCI_MEMORY_64, WIDE(high->gpa), WIDE(high->gpa), WIDE(high->len),
	};

	begin(tree, "pcie@%llx", (unsigned long long)arch_layout.pci_ecam);
	put_string(tree, "compatible", "pci-host-ecam-generic");
	put_string(tree, "device_type", "pci");
	PUT_CELLS(tree, "#address-cells", 3);
	PUT_CELLS(tree, "#size-cells", 2);
	PUT_CELLS(tree, "reg", WIDE(arch_layout.pci_ecam), WIDE(MIB(1)));
	PUT_CELLS(tree, "bus-range", 0, 0);
	put_cells(tree, "ranges", ranges, ARRAY_SIZE(ranges) / (high->len ? 1 : 2));
	PUT_CELLS(tree, "msi-map", 0, PHANDLE_MSI, 0, 0x10000);
	end(tree);
}

static void add_mmio(struct tree *tree, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct arch_place place = {
			.base = arch_layout.mmio_base + (uint64_t)i * arch_layout.mmio_stride,
		};

		begin_device(tree, "virtio_mmio", "virtio,mmio", &place, arch_layout.mmio_stride);
		put_pin(tree, arch_layout.mmio_first_pin + i);
		end(tree);
	}
}

/* ---- the whole ---- */

static void add_chosen(struct tree *tree, const struct arch_devices *devices,
		       const struct boot_info *info)
{
	struct {
		uint8_t rng[SEED_LEN];
		uint32_t kaslr[2];
	} seeds;

	begin(tree, "chosen");
	put_string(tree, "bootargs", info->cmdline);
	if (devices->uart) {
		char path[32];

		snprintf(path, sizeof(path), "/serial@%llx",
			 (unsigned long long)arch_layout.uart.base);
		put_string(tree, "stdout-path", path);
	}
	if (info->initrd_len) {
		PUT_CELLS(tree, "linux,initrd-start", WIDE(info->initrd_gpa));
		PUT_CELLS(tree, "linux,initrd-end", WIDE(info->initrd_gpa + info->initrd_len));
	}
	PUT_CELLS(tree, "linux,pci-probe-only", 1);
	/* Without them the kernel still starts, only with less chance. */
	if (getrandom(&seeds, sizeof(seeds), GRND_NONBLOCK) == sizeof(seeds)) {
		note(tree, fdt_property(tree->fdt, "rng-seed", seeds.rng, sizeof(seeds.rng)));
		put_cells(tree, "kaslr-seed", seeds.kaslr, ARRAY_SIZE(seeds.kaslr));
	}
	end(tree);
}

static int write_tree(void *at, size_t len, const struct arch_devices *devices,
		      const struct mem *mem, const struct boot_info *info)
{
	struct tree tree = { .fdt = at };

	note(&tree, fdt_create(at, (int)len));
	note(&tree, fdt_finish_reservemap(at));
	begin(&tree, "%s", "");
	put_string(&tree, "compatible", "linux,dummy-virt");
	put_string(&tree, "model", "microvm");
	PUT_CELLS(&tree, "#address-cells", 2);
	PUT_CELLS(&tree, "#size-cells", 2);
	PUT_CELLS(&tree, "interrupt-parent", PHANDLE_GIC);
	put_empty(&tree, "dma-coherent");
	add_chosen(&tree, devices, info);
	add_cpus(&tree, devices->cpus);
	add_memory(&tree, mem);
	add_gic(&tree, devices->irqchip);
	add_timer(&tree, devices->irqchip);
	add_platform(&tree, devices);
	if (devices->pci)
		add_pci(&tree, &devices->pci_high);
	add_mmio(&tree, devices->mmio_count);
	end(&tree);
	note(&tree, fdt_finish(at));
	if (!tree.err)
		return 0;
	return tree.err == -FDT_ERR_NOSPACE ? -ENOSPC : -EINVAL;
}

int arch_describe(const struct arch_devices *devices, const struct mem *mem,
		  const struct boot_kernel *kernel, const struct boot_info *info,
		  struct arch_entry *ret_entry)
{
	void *at = mem_ptr(mem, LAYOUT_FDT, LAYOUT_FDT_MAX);
	int err;

	if (!at)
		return -EFAULT;
	if (devices->mmio_count > arch_layout.mmio_pin_count)
		return -ENOSPC;
	if (strlen(info->cmdline) > kernel->cmdline_max)
		return -E2BIG;
	err = write_tree(at, LAYOUT_FDT_MAX, devices, mem, info);
	if (!err)
		*ret_entry = (struct arch_entry){ kernel->entry, LAYOUT_FDT, kernel->protocol };
	return err;
}
