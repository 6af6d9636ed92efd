// SPDX-License-Identifier: Apache-2.0
/* The device tree as a guest finds it: read back by libfdt, and by dtc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libfdt.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include "arch/aarch64/irqchip.h"
#include "arch/aarch64/layout.h"
#include "arch/arch.h"
#include "devices/platform/platform.h"

#define RAM_SIZE MIB(4)
#define CMDLINE_MAX 2047
#define RANGES_MAX 128

static const struct arch_devices bare_machine = { .cpus = 1 };
static const struct arch_devices pci_machine = {
	.cpus = 2, .uart = true, .panic = true, .pci = true,
};
static const struct arch_devices mmio_machine = {
	.cpus = 8, .uart = true, .panic = true, .debug_exit = true, .mmio_count = 3,
};
/* No guest gets both transports; whatever a guest gets, it is a part of this. */
static const struct arch_devices whole_machine = {
	.cpus = 8, .uart = true, .panic = true, .debug_exit = true, .pci = true, .mmio_count = 32,
};

static const struct boot_kernel kernel = {
	.entry = LAYOUT_KERNEL + 0x80000, .cmdline_max = CMDLINE_MAX, .protocol = 5,
};
static const struct boot_info no_initrd = { .cmdline = "console=hvc0 quiet" };

static int setup(void **state)
{
	struct mem *mem = calloc(1, sizeof(*mem));

	*state = mem;
	return mem ? mem_add(mem, LAYOUT_RAM, RAM_SIZE, &(struct mem_backing){ 0 }) : -1;
}

static int teardown(void **state)
{
	mem_free(*state);
	free(*state);
	return 0;
}

static int try_describe(const struct mem *mem, bool v3, struct arch_devices devices,
			const struct boot_info *info, struct arch_entry *entry)
{
	const struct arch_irqchip irqchip = {
		.vm_fd = -1, .gic_fd = -1, .its_fd = -1, .v3 = v3, .cpus = devices.cpus,
	};

	devices.irqchip = &irqchip;
	return arch_describe(&devices, mem, &kernel, info, entry);
}

static const void *describe(const struct mem *mem, bool v3, struct arch_devices devices,
			    const struct boot_info *info)
{
	struct arch_entry entry;
	const void *fdt;

	assert_int_equal(try_describe(mem, v3, devices, info, &entry), 0);
	assert_int_equal(entry.pc, kernel.entry);
	assert_int_equal(entry.protocol, kernel.protocol);
	fdt = mem_ptr(mem, entry.info, LAYOUT_FDT_MAX);
	assert_non_null(fdt);
	assert_int_equal(entry.info % 8, 0);
	assert_int_equal(fdt_check_full(fdt, LAYOUT_FDT_MAX), 0);
	return fdt;
}

static int node_at(const void *fdt, const char *path)
{
	int node = fdt_path_offset(fdt, path);

	if (node < 0)
		fail_msg("there is no %s: %s", path, fdt_strerror(node));
	return node;
}

/* "/name@base" */
static int device_at(const void *fdt, const char *name, uint64_t base)
{
	char path[64];

	snprintf(path, sizeof(path), "/%s@%llx", name, (unsigned long long)base);
	return node_at(fdt, path);
}

static bool has(const void *fdt, int node, const char *name)
{
	return fdt_getprop(fdt, node, name, NULL) != NULL;
}

/* How many cells a property has. */
static size_t cells(const void *fdt, int node, const char *name)
{
	int len;

	if (!fdt_getprop(fdt, node, name, &len))
		return 0;
	assert_int_equal(len % 4, 0);
	return (size_t)len / 4;
}

static uint32_t cell(const void *fdt, int node, const char *name, size_t index)
{
	assert_true(index < cells(fdt, node, name));
	return fdt32_ld((const fdt32_t *)fdt_getprop(fdt, node, name, NULL) + index);
}

static uint64_t wide(const void *fdt, int node, const char *name, size_t index)
{
	return (uint64_t)cell(fdt, node, name, index) << 32 | cell(fdt, node, name, index + 1);
}

static const char *text(const void *fdt, int node, const char *name)
{
	const char *value = fdt_stringlist_get(fdt, node, name, 0, NULL);

	assert_non_null(value);
	return value;
}

static void assert_compatible(const void *fdt, int node, const char *with)
{
	assert_int_equal(fdt_node_check_compatible(fdt, node, with), 0);
}

static void assert_place(const void *fdt, int node, uint64_t base, uint64_t len)
{
	assert_int_equal(cells(fdt, node, "reg"), 4);
	assert_int_equal(wide(fdt, node, "reg", 0), base);
	assert_int_equal(wide(fdt, node, "reg", 2), len);
}

static void assert_pin(const void *fdt, int node, uint32_t pin)
{
	assert_int_equal(cells(fdt, node, "interrupts"), 3);
	assert_int_equal(cell(fdt, node, "interrupts", 0), 0);
	assert_int_equal(cell(fdt, node, "interrupts", 1), pin);
	assert_int_equal(cell(fdt, node, "interrupts", 2), 1); /* a rising edge */
}

/* The node that a cell refers to, which is marked as such a controller. */
static int controller(const void *fdt, int node, const char *name, size_t index, const char *mark)
{
	int found = fdt_node_offset_by_phandle(fdt, cell(fdt, node, name, index));

	assert_true(found >= 0);
	assert_true(has(fdt, found, mark));
	return found;
}

/* ---- of any machine ---- */

/* What the nodes so far take. */
struct claims {
	struct mem_range ranges[RANGES_MAX];
	size_t count;
	uint64_t pins, private_pins;
};

static void claim_range(struct claims *claims, uint64_t gpa, uint64_t len)
{
	assert_true(len > 0 && gpa + len > gpa);
	for (size_t i = 0; i < claims->count; i++) {
		const struct mem_range *other = &claims->ranges[i];

		assert_true(gpa + len <= other->gpa || other->gpa + other->len <= gpa);
	}
	assert_true(claims->count < RANGES_MAX);
	claims->ranges[claims->count++] = (struct mem_range){ gpa, len };
}

static void claim_pin(uint64_t *pins, uint32_t pin, uint32_t end)
{
	assert_true(pin < end && end <= 64);
	assert_false(*pins & UINT64_C(1) << pin);
	*pins |= UINT64_C(1) << pin;
}

static void claim_registers(struct claims *claims, const void *fdt, int node)
{
	const char *unit = strchr(fdt_get_name(fdt, node, NULL), '@');
	size_t count = cells(fdt, node, "reg");

	assert_int_equal(count % 4, 0);
	if (!count)
		return;
	assert_non_null(unit);
	assert_int_equal(strtoull(unit + 1, NULL, 16), wide(fdt, node, "reg", 0));
	for (size_t i = 0; i < count; i += 4)
		claim_range(claims, wide(fdt, node, "reg", i), wide(fdt, node, "reg", i + 2));
}

static void claim_interrupts(struct claims *claims, const void *fdt, int node)
{
	size_t count = cells(fdt, node, "interrupts");

	assert_int_equal(count % 3, 0);
	for (size_t i = 0; i < count; i += 3) {
		uint32_t number = cell(fdt, node, "interrupts", i + 1);

		if (cell(fdt, node, "interrupts", i))
			claim_pin(&claims->private_pins, number, 16);
		else
			claim_pin(&claims->pins, number, arch_layout.irq_pins);
	}
}

static void check_claims(const struct mem *mem, const void *fdt)
{
	struct claims claims = { 0 };
	int pci = fdt_node_offset_by_compatible(fdt, -1, "pci-host-ecam-generic");

	for (int node = 0; node >= 0; node = fdt_next_node(fdt, node, NULL)) {
		if (fdt_address_cells(fdt, fdt_parent_offset(fdt, node)) != 2)
			continue;
		claim_registers(&claims, fdt, node);
		claim_interrupts(&claims, fdt, node);
	}
	if (pci >= 0)
		claim_range(&claims, wide(fdt, pci, "ranges", 3), wide(fdt, pci, "ranges", 5));
	/* What is not RAM lies below it. */
	for (size_t i = 0; i < claims.count; i++)
		assert_true(claims.ranges[i].gpa + claims.ranges[i].len <= LAYOUT_RAM ||
			    mem_ptr(mem, claims.ranges[i].gpa, claims.ranges[i].len));
}

/* dtc knows what a tree has to look like; each of its warnings is an error. */
static void check_by_dtc(const void *fdt)
{
	char path[] = "/tmp/test_fdt.XXXXXX", command[128];
	size_t size = fdt_totalsize(fdt);
	int fd = mkstemp(path), status;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, fdt, size), size);
	close(fd);
	snprintf(command, sizeof(command), "dtc -I dtb -O dts -o /dev/null %s 2>&1 | (! grep .)",
		 path);
	status = system(command);
	unlink(path);
	assert_int_equal(status, 0);
}

/* Calls check for each machine. */
static void for_each_machine(const struct mem *mem,
			     void (*check)(const struct mem *mem, const void *fdt))
{
	static const struct arch_devices *const machines[] = {
		&bare_machine, &pci_machine, &mmio_machine, &whole_machine,
	};
	static const unsigned int cpus[] = { 1, 2, 8, 32 };

	for (size_t i = 0; i < 2 * ARRAY_SIZE(machines) * ARRAY_SIZE(cpus); i++) {
		bool v3 = i % 2;
		struct arch_devices devices = *machines[i / 2 % ARRAY_SIZE(machines)];

		devices.cpus = cpus[i / 2 / ARRAY_SIZE(machines)];
		if (v3 || devices.cpus <= 8) /* more than a GICv2 can have */
			check(mem, describe(mem, v3, devices, &no_initrd));
	}
}

static void nothing_is_there_twice(void **state)
{
	for_each_machine(*state, check_claims);
}

static void check_syntax(const struct mem *mem, const void *fdt)
{
	(void)mem;
	check_by_dtc(fdt);
}

static void dtc_has_no_complaint(void **state)
{
	if (system("dtc --version >/dev/null 2>&1")) {
		print_message("skipped: dtc (device-tree-compiler) is not installed\n");
		skip();
	}
	for_each_machine(*state, check_syntax);
}

/* ---- processors, memory, interrupts ---- */

static void check_cpus(const struct mem *mem, unsigned int count)
{
	const void *fdt = describe(mem, true, (struct arch_devices){ .cpus = count }, &no_initrd);
	unsigned int found = 0;
	int cpus = node_at(fdt, "/cpus"), node;

	fdt_for_each_subnode(node, fdt, cpus) {
		assert_string_equal(text(fdt, node, "device_type"), "cpu");
		assert_string_equal(text(fdt, node, "enable-method"), "psci");
		assert_int_equal(cells(fdt, node, "reg"), 1);
		/* Sixteen to a cluster, as KVM numbers them. */
		assert_int_equal(cell(fdt, node, "reg", 0), found % 16 + found / 16 * 256);
		found++;
	}
	assert_int_equal(found, count);
}

static void cpus_are_those_of_kvm(void **state)
{
	const void *fdt = describe(*state, true, bare_machine, &no_initrd);

	assert_string_equal(text(fdt, node_at(fdt, "/psci"), "method"), "hvc");
	assert_compatible(fdt, node_at(fdt, "/psci"), "arm,psci-0.2");
	check_cpus(*state, 1);
	check_cpus(*state, 2);
	check_cpus(*state, 17);
	check_cpus(*state, 32);
}

static void memory_is_all_there(void **state)
{
	const struct mem *mem = *state;
	const void *fdt = describe(mem, true, bare_machine, &no_initrd);
	_cleanup_(mem_free) struct mem big = { 0 };
	int node = device_at(fdt, "memory", LAYOUT_RAM);

	assert_string_equal(text(fdt, node, "device_type"), "memory");
	assert_place(fdt, node, LAYOUT_RAM, RAM_SIZE);

	assert_int_equal(mem_add(&big, LAYOUT_RAM, GIB(5), &(struct mem_backing){ 0 }), 0);
	fdt = describe(&big, true, bare_machine, &no_initrd);
	assert_place(fdt, device_at(fdt, "memory", LAYOUT_RAM), LAYOUT_RAM, GIB(5));
}

static void gicv3_has_redistributors_and_an_its(void **state)
{
	const void *fdt = describe(*state, true, mmio_machine, &no_initrd);
	int gic = controller(fdt, 0, "interrupt-parent", 0, "interrupt-controller"), its;

	assert_compatible(fdt, gic, "arm,gic-v3");
	assert_int_equal(cell(fdt, gic, "#interrupt-cells", 0), 3);
	assert_true(has(fdt, gic, "ranges")); /* its children's addresses are everybody's */
	assert_int_equal(cells(fdt, gic, "reg"), 8);
	assert_int_equal(wide(fdt, gic, "reg", 0), LAYOUT_GICD);
	assert_int_equal(wide(fdt, gic, "reg", 2), KIB(64));
	assert_int_equal(wide(fdt, gic, "reg", 4), LAYOUT_GICR);
	assert_int_equal(wide(fdt, gic, "reg", 6), 8 * KIB(128));
	its = fdt_first_subnode(fdt, gic);
	assert_compatible(fdt, its, "arm,gic-v3-its");
	assert_place(fdt, its, LAYOUT_ITS, KIB(128));
	assert_true(has(fdt, its, "msi-controller"));
}

static void gicv2_has_a_frame_for_msis(void **state)
{
	const void *fdt = describe(*state, false, mmio_machine, &no_initrd);
	int gic = controller(fdt, 0, "interrupt-parent", 0, "interrupt-controller"), frame;
	uint32_t first, count;

	assert_compatible(fdt, gic, "arm,cortex-a15-gic");
	assert_true(has(fdt, gic, "ranges"));
	assert_int_equal(cells(fdt, gic, "reg"), 8);
	assert_int_equal(wide(fdt, gic, "reg", 0), LAYOUT_GICD);
	assert_int_equal(wide(fdt, gic, "reg", 4), LAYOUT_GICC);
	frame = fdt_first_subnode(fdt, gic);
	assert_compatible(fdt, frame, "arm,gic-v2m-frame");
	assert_place(fdt, frame, LAYOUT_GICV2M, KIB(4));
	assert_true(has(fdt, frame, "msi-controller"));
	first = cell(fdt, frame, "arm,msi-base-spi", 0);
	count = cell(fdt, frame, "arm,msi-num-spis", 0);
	/* Behind the pins of devices, and no more than a GICv2 has. */
	assert_true(first >= LAYOUT_SPI_FIRST + arch_layout.irq_pins);
	assert_in_range(count, 32, 1020 - first);
}

/* The private interrupts of a GICv2 say whose they are. */
static void timers_reach_every_cpu(void **state)
{
	static const uint32_t numbers[] = { 13, 14, 11, 10 };

	for (int v3 = 0; v3 < 2; v3++) {
		const void *fdt = describe(*state, v3, mmio_machine, &no_initrd);
		int timer = node_at(fdt, "/timer");

		assert_compatible(fdt, timer, "arm,armv8-timer");
		assert_int_equal(cells(fdt, timer, "interrupts"), 12);
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
			assert_int_equal(cell(fdt, timer, "interrupts", 3 * i), 1);
			assert_int_equal(cell(fdt, timer, "interrupts", 3 * i + 1), numbers[i]);
			assert_int_equal(cell(fdt, timer, "interrupts", 3 * i + 2),
					 v3 ? 4 : 0xff04);
		}
	}
}

/* ---- devices ---- */

static void platform_devices_are_where_they_are(void **state)
{
	const void *fdt = describe(*state, true, mmio_machine, &no_initrd);
	int uart = device_at(fdt, "serial", arch_layout.uart.base);
	int clock = device_at(fdt, "rtc", arch_layout.clock.base);
	int panic = device_at(fdt, "pvpanic", arch_layout.panic.base);

	assert_compatible(fdt, uart, "ns16550a");
	assert_place(fdt, uart, arch_layout.uart.base, UART_LEN);
	assert_pin(fdt, uart, arch_layout.uart.pin);
	assert_compatible(fdt, clock, "arm,pl031");
	assert_compatible(fdt, clock, "arm,primecell");
	assert_place(fdt, clock, arch_layout.clock.base, PL031_LEN);
	controller(fdt, clock, "clocks", 0, "#clock-cells");
	assert_compatible(fdt, panic, "qemu,pvpanic-mmio");
	assert_place(fdt, device_at(fdt, "debug-exit", arch_layout.debug_exit.base),
		     arch_layout.debug_exit.base, DEBUG_EXIT_LEN);
}

static void the_power_button_is_a_line_of_the_pl061(void **state)
{
	const void *fdt = describe(*state, true, bare_machine, &no_initrd);
	int button = node_at(fdt, "/gpio-keys/power-button"), gpio;

	assert_int_equal(cell(fdt, button, "linux,code", 0), KEY_POWER);
	assert_int_equal(cells(fdt, button, "gpios"), 3);
	assert_int_equal(cell(fdt, button, "gpios", 1), PL061_BUTTON);
	assert_int_equal(cell(fdt, button, "gpios", 2), 0); /* pressed is high */
	gpio = controller(fdt, button, "gpios", 0, "gpio-controller");
	assert_compatible(fdt, gpio, "arm,pl061");
	assert_compatible(fdt, gpio, "arm,primecell");
	assert_place(fdt, gpio, arch_layout.gpio.base, PL061_LEN);
	assert_pin(fdt, gpio, arch_layout.gpio.pin);
	controller(fdt, gpio, "clocks", 0, "#clock-cells");
}

static void what_is_not_there_is_not_described(void **state)
{
	const void *fdt = describe(*state, true, bare_machine, &no_initrd);
	static const char *const absent[] = {
		"ns16550a", "qemu,pvpanic-mmio", "microvm,debug-exit", "pci-host-ecam-generic",
		"virtio,mmio", "arm,gic-v2m-frame", "arm,armv8-pmuv3",
	};

	for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
		assert_int_equal(fdt_node_offset_by_compatible(fdt, -1, absent[i]),
				 -FDT_ERR_NOTFOUND);
	assert_false(has(fdt, node_at(fdt, "/chosen"), "stdout-path"));
}

static void pci_has_one_bus_and_its_msis(void **state)
{
	for (int v3 = 0; v3 < 2; v3++) {
		const void *fdt = describe(*state, v3, pci_machine, &no_initrd);
		int pci = device_at(fdt, "pcie", arch_layout.pci_ecam), msi;

		assert_compatible(fdt, pci, "pci-host-ecam-generic");
		assert_string_equal(text(fdt, pci, "device_type"), "pci");
		assert_place(fdt, pci, arch_layout.pci_ecam, MIB(1));
		assert_int_equal(cell(fdt, pci, "bus-range", 0), 0);
		assert_int_equal(cell(fdt, pci, "bus-range", 1), 0);
		assert_int_equal(cells(fdt, pci, "ranges"), 7);
		assert_int_equal(cell(fdt, pci, "ranges", 0), 0x02000000); /* memory, of 32 bits */
		assert_int_equal(wide(fdt, pci, "ranges", 1), arch_layout.pci_window.gpa);
		assert_int_equal(wide(fdt, pci, "ranges", 3), arch_layout.pci_window.gpa);
		assert_int_equal(wide(fdt, pci, "ranges", 5), arch_layout.pci_window.len);
		/* A requester id is the sender of an MSI. */
		assert_int_equal(cells(fdt, pci, "msi-map"), 4);
		assert_int_equal(cell(fdt, pci, "msi-map", 0), 0);
		assert_int_equal(cell(fdt, pci, "msi-map", 2), 0);
		assert_int_equal(cell(fdt, pci, "msi-map", 3), 0x10000);
		msi = controller(fdt, pci, "msi-map", 1, "msi-controller");
		assert_compatible(fdt, msi, v3 ? "arm,gic-v3-its" : "arm,gic-v2m-frame");
	}
}

/* Shared memory of devices is above RAM. */
static void pci_has_a_window_of_64_bits(void **state)
{
	struct arch_devices devices = pci_machine;
	const void *fdt;
	int pci;

	devices.pci_high = (struct mem_range){ GIB(4), MIB(8) };
	fdt = describe(*state, true, devices, &no_initrd);
	pci = device_at(fdt, "pcie", arch_layout.pci_ecam);
	assert_int_equal(cells(fdt, pci, "ranges"), 14);
	assert_int_equal(cell(fdt, pci, "ranges", 7), 0x43000000);
	assert_int_equal(wide(fdt, pci, "ranges", 8), GIB(4));
	assert_int_equal(wide(fdt, pci, "ranges", 10), GIB(4));
	assert_int_equal(wide(fdt, pci, "ranges", 12), MIB(8));
}

static void mmio_devices_follow_each_other(void **state)
{
	const void *fdt = describe(*state, true, mmio_machine, &no_initrd);
	unsigned int found = 0;

	for (int node = fdt_node_offset_by_compatible(fdt, -1, "virtio,mmio"); node >= 0;
	     node = fdt_node_offset_by_compatible(fdt, node, "virtio,mmio")) {
		assert_place(fdt, node, arch_layout.mmio_base + found * arch_layout.mmio_stride,
			     arch_layout.mmio_stride);
		assert_pin(fdt, node, arch_layout.mmio_first_pin + found);
		found++;
	}
	assert_int_equal(found, 3);
	/* Linux gives such devices coherent DMA only when it is told so. */
	assert_true(has(fdt, 0, "dma-coherent"));
}

/* ---- what the kernel is told ---- */

static void chosen_says_what_to_boot(void **state)
{
	const struct boot_info info = {
		.cmdline = "console=ttyS0 root=/dev/vda",
		.initrd_gpa = 0x1234567000, .initrd_len = 0x89abc,
	};
	const void *fdt = describe(*state, true, pci_machine, &info);
	int chosen = node_at(fdt, "/chosen");

	assert_string_equal(text(fdt, chosen, "bootargs"), info.cmdline);
	assert_int_equal(cells(fdt, chosen, "linux,initrd-start"), 2);
	assert_int_equal(wide(fdt, chosen, "linux,initrd-start", 0), info.initrd_gpa);
	assert_int_equal(wide(fdt, chosen, "linux,initrd-end", 0),
			 info.initrd_gpa + info.initrd_len);
	assert_compatible(fdt, node_at(fdt, text(fdt, chosen, "stdout-path")), "ns16550a");
	assert_int_equal(cell(fdt, chosen, "linux,pci-probe-only", 0), 1);

	fdt = describe(*state, true, pci_machine, &no_initrd);
	assert_false(has(fdt, node_at(fdt, "/chosen"), "linux,initrd-start"));
	assert_false(has(fdt, node_at(fdt, "/chosen"), "linux,initrd-end"));
}

static void every_guest_gets_other_seeds(void **state)
{
	uint8_t seeds[2][32];
	uint64_t offsets[2];

	for (size_t i = 0; i < 2; i++) {
		const void *fdt = describe(*state, true, bare_machine, &no_initrd);
		int chosen = node_at(fdt, "/chosen");

		assert_int_equal(cells(fdt, chosen, "rng-seed"), 8);
		assert_int_equal(cells(fdt, chosen, "kaslr-seed"), 2);
		memcpy(seeds[i], fdt_getprop(fdt, chosen, "rng-seed", NULL), sizeof(seeds[i]));
		offsets[i] = wide(fdt, chosen, "kaslr-seed", 0);
	}
	assert_memory_not_equal(seeds[0], seeds[1], sizeof(seeds[0]));
	assert_true(offsets[0] != offsets[1]);
}

/* ---- limits ---- */

static void what_does_not_fit_is_refused(void **state)
{
	const struct mem *mem = *state;
	char line[CMDLINE_MAX + 2] = "";
	const struct boot_info info = { .cmdline = line };
	const struct arch_devices many = {
		.cpus = 1, .mmio_count = arch_layout.mmio_pin_count + 1,
	};
	const struct mem_backing backing = { 0 };
	_cleanup_(mem_free) struct mem tiny = { 0 };
	struct arch_entry entry = { .pc = 12345 };

	memset(line, 'x', CMDLINE_MAX + 1);
	assert_int_equal(try_describe(mem, true, bare_machine, &info, &entry), -E2BIG);
	assert_int_equal(try_describe(mem, true, many, &no_initrd, &entry), -ENOSPC);
	assert_int_equal(mem_add(&tiny, LAYOUT_RAM, LAYOUT_FDT_MAX - KIB(4), &backing), 0);
	assert_int_equal(try_describe(&tiny, true, bare_machine, &no_initrd, &entry), -EFAULT);
	assert_int_equal(entry.pc, 12345);
}

static void too_many_regions_are_refused(void **state)
{
	_cleanup_(mem_free) struct mem mem = { 0 };
	static uint8_t page[4096];
	struct arch_entry entry = { .pc = 12345 };

	(void)state;
	assert_int_equal(mem_add(&mem, LAYOUT_RAM, RAM_SIZE, &(struct mem_backing){ 0 }), 0);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(mem_add_at(&mem, GIB(4) + MIB(i), sizeof(page), page), 0);
	assert_int_equal(try_describe(&mem, true, bare_machine, &no_initrd, &entry), -ENOSPC);
	assert_int_equal(entry.pc, 12345);
}

static void the_tree_stays_in_its_place(void **state)
{
	const struct mem *mem = *state;
	uint8_t *ram = mem_ptr(mem, LAYOUT_RAM, RAM_SIZE);
	char line[CMDLINE_MAX + 1] = "";
	const struct boot_info info = { .cmdline = line, .initrd_gpa = GIB(2), .initrd_len = 1 };
	struct arch_devices devices = whole_machine;
	const void *fdt;

	devices.cpus = 32;
	memset(line, 'x', CMDLINE_MAX);
	memset(ram, 0xa5, RAM_SIZE);
	fdt = describe(mem, true, devices, &info);
	assert_string_equal(text(fdt, node_at(fdt, "/chosen"), "bootargs"), line);
	assert_true(LAYOUT_FDT + LAYOUT_FDT_MAX <= LAYOUT_KERNEL);
	for (size_t i = LAYOUT_FDT - LAYOUT_RAM + LAYOUT_FDT_MAX; i < RAM_SIZE; i++)
		assert_int_equal(ram[i], 0xa5);
}

static void ram_is_in_one_piece(void **state)
{
	static const uint64_t sizes[] = { MIB(16), GIB(3), GIB(512) };
	struct mem_range ranges[2];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(arch_ram_ranges(sizes[i], ranges), 1);
		assert_int_equal(ranges[0].gpa, LAYOUT_RAM);
		assert_int_equal(ranges[0].len, sizes[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_there_twice),
		cmocka_unit_test(dtc_has_no_complaint),
		cmocka_unit_test(cpus_are_those_of_kvm),
		cmocka_unit_test(memory_is_all_there),
		cmocka_unit_test(gicv3_has_redistributors_and_an_its),
		cmocka_unit_test(gicv2_has_a_frame_for_msis),
		cmocka_unit_test(timers_reach_every_cpu),
		cmocka_unit_test(platform_devices_are_where_they_are),
		cmocka_unit_test(the_power_button_is_a_line_of_the_pl061),
		cmocka_unit_test(what_is_not_there_is_not_described),
		cmocka_unit_test(pci_has_one_bus_and_its_msis),
		cmocka_unit_test(pci_has_a_window_of_64_bits),
		cmocka_unit_test(mmio_devices_follow_each_other),
		cmocka_unit_test(chosen_says_what_to_boot),
		cmocka_unit_test(every_guest_gets_other_seeds),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(too_many_regions_are_refused),
		cmocka_unit_test(the_tree_stays_in_its_place),
		cmocka_unit_test(ram_is_in_one_piece),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
