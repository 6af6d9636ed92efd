// SPDX-License-Identifier: Apache-2.0
/* The ACPI tables as a guest finds them: from the RSDP on, and through iasl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "arch/arch.h"
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/layout.h"
#include "devices/platform/platform.h"

#define RAM_SIZE MIB(2)

static const struct arch_devices pci_machine = {
	.cpus = 1, .uart = true, .panic = true, .pci = true,
};
static const struct arch_devices mmio_machine = {
	.cpus = 32, .uart = true, .panic = true, .mmio_count = 3,
};

static int setup(void **state)
{
	struct mem *mem = calloc(1, sizeof(*mem));

	*state = mem;
	return mem ? mem_add(mem, 0, RAM_SIZE, &(struct mem_backing){ 0 }) : -1;
}

static int teardown(void **state)
{
	mem_free(*state);
	free(*state);
	return 0;
}

/* Little-endian numbers within a table. */
static uint64_t get(const uint8_t *table, size_t offset, size_t len)
{
	uint64_t value = 0;

	memcpy(&value, table + offset, len);
	return value;
}

static uint8_t sum(const uint8_t *data, size_t len)
{
	uint8_t total = 0;

	while (len--)
		total += *data++;
	return total;
}

static const uint8_t *table_at(const struct mem *mem, uint64_t gpa)
{
	const uint8_t *table = mem_ptr(mem, gpa, 36);
	uint64_t len;

	assert_non_null(table);
	assert_true(gpa >= LAYOUT_ACPI && gpa % 8 == 0);
	len = get(table, 4, 4);
	assert_true(len >= 36 && gpa + len <= LAYOUT_KERNEL);
	assert_int_equal(sum(table, len), 0);
	return table;
}

/* Walks from the RSDP; NULL when there is no such table. */
static const uint8_t *find_table(const struct mem *mem, uint64_t rsdp_gpa, const char *signature)
{
	const uint8_t *rsdp = mem_ptr(mem, rsdp_gpa, 36), *xsdt, *found = NULL;

	assert_non_null(rsdp);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(get(rsdp, 20, 4), 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table_at(mem, get(rsdp, 24, 8));
	assert_memory_equal(xsdt, "XSDT", 4);
	assert_int_equal((get(xsdt, 4, 4) - 36) % 8, 0);
	for (size_t offset = 36; offset < get(xsdt, 4, 4); offset += 8) {
		const uint8_t *table = table_at(mem, get(xsdt, offset, 8));

		if (!memcmp(table, signature, 4)) {
			assert_null(found);
			found = table;
		}
	}
	return found;
}

static uint64_t describe(const struct mem *mem, const struct arch_devices *devices)
{
	uint64_t gpa = 0;

	assert_int_equal(acpi_write(mem, devices, &gpa), 0);
	/* Guests that are not told search this area in steps of 16. */
	assert_true(gpa >= 0xe0000 && gpa < 0x100000 && gpa % 16 == 0);
	return gpa;
}

static void assert_port8(const uint8_t *address, uint64_t port)
{
	assert_memory_equal(address, ((uint8_t[]){ 1, 8, 0, 1 }), 4);
	assert_int_equal(get(address, 4, 8), port);
}

static void fadt_is_hardware_reduced(void **state)
{
	const struct mem *mem = *state;
	const uint8_t *fadt = find_table(mem, describe(mem, &pci_machine), "FACP");

	assert_non_null(fadt);
	assert_int_equal(get(fadt, 4, 4), 276);
	assert_int_equal(fadt[8], 6);
	assert_int_equal(fadt[131], 4);
	/* WBINVD; power and sleep button are no fixed hardware; reset register; hardware-reduced */
	assert_int_equal(get(fadt, 112, 4), 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20);
	/* no VGA, no ASPM, no RTC; and neither an 8042 (1) nor a ban of MSI (3) */
	assert_int_equal(get(fadt, 109, 2), 1 << 2 | 1 << 4 | 1 << 5);
	assert_memory_equal(table_at(mem, get(fadt, 140, 8)), "DSDT", 4);
	assert_int_equal(get(fadt, 40, 4), get(fadt, 140, 8));
}

static void power_registers_match(void **state)
{
	const struct mem *mem = *state;
	const uint8_t *fadt = find_table(mem, describe(mem, &pci_machine), "FACP");

	assert_port8(fadt + 116, arch_layout.power.base + POWER_RESET);
	assert_int_equal(fadt[128], POWER_RESET_VALUE);
	assert_port8(fadt + 244, arch_layout.power.base + POWER_SLEEP_CONTROL);
	assert_port8(fadt + 256, arch_layout.power.base + POWER_SLEEP_STATUS);
	assert_int_equal(LAYOUT_S5_TYPE, POWER_S5_TYPE);
}

/* Counts the enabled CPUs of a MADT and checks that their ids ascend from 0. */
static unsigned int count_cpus(const uint8_t *madt)
{
	unsigned int cpus = 0, ioapics = 0;

	for (size_t offset = 44, len; offset < get(madt, 4, 4); offset += len) {
		const uint8_t *entry = madt + offset;

		len = entry[1];
		assert_true(len >= 8 && offset + len <= get(madt, 4, 4));
		if (entry[0] == 0) {
			assert_int_equal(entry[3], cpus++);
			assert_int_equal(get(entry, 4, 4), 1);
		} else {
			assert_int_equal(entry[0], 1);
			assert_int_equal(entry[2], 0);
			assert_int_equal(get(entry, 4, 4), 0xfec00000);
			assert_int_equal(get(entry, 8, 4), 0);
			ioapics++;
		}
	}
	assert_int_equal(ioapics, 1);
	return cpus;
}

static void madt_lists_the_cpus(void **state)
{
	static const unsigned int counts[] = { 1, 2, 32, 255 };
	const struct mem *mem = *state;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct arch_devices devices = { .cpus = counts[i] };
		const uint8_t *madt = find_table(mem, describe(mem, &devices), "APIC");

		assert_non_null(madt);
		assert_int_equal(get(madt, 36, 4), 0xfee00000);
		assert_int_equal(get(madt, 40, 4), 0);
		assert_int_equal(count_cpus(madt), counts[i]);
	}
}

static void mcfg_comes_with_pci_only(void **state)
{
	const struct mem *mem = *state;
	const uint8_t *mcfg = find_table(mem, describe(mem, &pci_machine), "MCFG");

	assert_non_null(mcfg);
	assert_int_equal(get(mcfg, 4, 4), 60);
	assert_int_equal(get(mcfg, 44, 8), arch_layout.pci_ecam);
	assert_int_equal(get(mcfg, 52, 2), 0);
	assert_int_equal(mcfg[54], 0);
	assert_int_equal(mcfg[55], 0);
	assert_null(find_table(mem, describe(mem, &mmio_machine), "MCFG"));
}

static void what_does_not_fit_is_refused(void **state)
{
	const struct mem *mem = *state;
	_cleanup_(mem_free) struct mem tiny = { 0 };
	uint64_t gpa = 12345;

	assert_int_equal(acpi_write(mem, &(struct arch_devices){ .cpus = 256 }, &gpa),
			 -ENOSPC);
	assert_int_equal(acpi_write(mem, &(struct arch_devices){ .cpus = UINT32_MAX }, &gpa),
			 -ENOSPC);
	assert_int_equal(acpi_write(mem, &(struct arch_devices){
						    .cpus = 1,
						    .mmio_count = arch_layout.mmio_pin_count + 1 },
				       &gpa), -ENOSPC);
	assert_int_equal(mem_add(&tiny, 0, KIB(960), &(struct mem_backing){ 0 }), 0);
	assert_int_equal(acpi_write(&tiny, &pci_machine, &gpa), -EFAULT);
	assert_int_equal(gpa, 12345);
}

static void tables_stay_in_their_place(void **state)
{
	const struct mem *mem = *state;
	uint8_t *ram = mem_ptr(mem, 0, RAM_SIZE);

	memset(ram, 0xa5, RAM_SIZE);
	describe(mem, &(struct arch_devices){ .cpus = 255, .uart = true, .panic = true,
					      .pci = true,
					      .mmio_count = arch_layout.mmio_pin_count });
	for (size_t i = 0; i < RAM_SIZE; i++)
		if (i < 0xe0000 || i >= 0x100000)
			assert_int_equal(ram[i], 0xa5);
}

static void addresses_do_not_collide(void **state)
{
	const struct arch_layout *l = &arch_layout;
	uint64_t mmio_end = l->mmio_base + (uint64_t)l->mmio_pin_count * l->mmio_stride;
	struct mem_range ranges[2];

	(void)state;
	assert_int_equal(arch_ram_ranges(MIB(128), ranges), 1);
	assert_int_equal(ranges[0].len, MIB(128));
	assert_int_equal(arch_ram_ranges(GIB(3), ranges), 1);
	assert_int_equal(arch_ram_ranges(GIB(5), ranges), 2);
	assert_int_equal(ranges[0].gpa, 0);
	assert_int_equal(ranges[1].gpa, GIB(4));
	assert_int_equal(ranges[0].len + ranges[1].len, GIB(5));

	assert_true(l->pci_window.gpa >= ranges[0].len);
	assert_true(l->pci_window.gpa + l->pci_window.len <= l->pci_ecam);
	assert_true(l->pci_ports.gpa > l->power.base + 0xff && l->pci_ports.gpa > l->panic.base);
	assert_true(l->pci_ports.gpa + l->pci_ports.len <= 0x10000);
	assert_true(l->pci_ecam + MIB(1) <= l->mmio_base);
	assert_true(mmio_end <= LAYOUT_IOAPIC);
	assert_true(l->mmio_first_pin + l->mmio_pin_count <= l->irq_pins);
	assert_true(l->uart.pin < l->mmio_first_pin && l->power.pin < l->mmio_first_pin);
	assert_true(l->uart.pin != l->power.pin);
}

static void run(const char *format, const char *folder)
{
	char command[256];

	snprintf(command, sizeof(command), format, folder);
	assert_int_equal(system(command), 0);
}

static void write_table(const uint8_t *table, const char *folder)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/dsdt.aml", folder);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(table, get(table, 4, 4), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

/* The DSDT as source, after a round through the disassembler and the compiler. */
static void decompile(const struct mem *mem, const struct arch_devices *devices, char *text,
		      size_t size)
{
	const uint8_t *fadt = find_table(mem, describe(mem, devices), "FACP");
	char folder[] = "/tmp/test_acpi.XXXXXX", path[128];
	FILE *file;

	if (system("iasl -v >/dev/null 2>&1")) {
		print_message("skipped: iasl (acpica-tools) is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(folder));
	write_table(table_at(mem, get(fadt, 140, 8)), folder);
	run("cd %s && iasl -d dsdt.aml >log 2>&1 && ! grep -i -e error -e warning log", folder);
	run("cd %s && iasl -p again dsdt.dsl >log 2>&1 && grep -q '0 Errors, 0 Warnings' log",
	    folder);
	snprintf(path, sizeof(path), "%s/dsdt.dsl", folder);
	file = fopen(path, "r");
	assert_non_null(file);
	memset(text, 0, size);
	assert_true(fread(text, 1, size - 1, file) > 0);
	fclose(file);
	run("rm -r %s", folder);
}

static void assert_says(const char *text, const char *word)
{
	if (!strstr(text, word))
		fail_msg("the DSDT lacks: %s", word);
}

static void dsdt_of_a_pci_machine(void **state)
{
	static const char *const words[] = {
		"Name (\\_S5, Package (0x04)", "EisaId (\"PNP0A08\")", "EisaId (\"PNP0A03\")",
		"EisaId (\"PNP0C02\")", "0xE8000000", "0x00000000C0000000", "0x00000000DFFFFFFF",
		"EisaId (\"PNP0501\")", "0x03F8", "\"QEMU0001\"", "0x0505", "EisaId (\"PNP0C0C\")",
		"\"ACPI0013\"", "Method (_EVT, 1", "Notify (\\_SB.PWRB, 0x80)",
	};
	static char text[KIB(64)];

	decompile(*state, &pci_machine, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		assert_says(text, words[i]);
	assert_null(strstr(text, "LNRO0005"));
}

/* Shared memory of devices is above RAM. */
static void dsdt_with_a_window_of_64_bits(void **state)
{
	struct arch_devices devices = pci_machine;
	static char text[KIB(64)];

	devices.pci_high = (struct mem_range){ GIB(4), GIB(1) };
	decompile(*state, &devices, text, sizeof(text));
	assert_says(text, "0x0000000100000000");
	assert_says(text, "0x000000013FFFFFFF");
}

static void dsdt_of_an_mmio_machine(void **state)
{
	static const char *const words[] = {
		"Device (VR00)", "Device (VR01)", "Device (VR02)", "\"LNRO0005\"",
		"Name (_CCA, One)", "0xEA000000", "0xEA001000", "0xEA002000",
		"0x00000005,", "0x00000006,", "0x00000007,",
		"Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive",
	};
	static char text[KIB(64)];

	decompile(*state, &mmio_machine, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		assert_says(text, words[i]);
	assert_null(strstr(text, "VR03"));
	assert_null(strstr(text, "PNP0A08"));
}

static void dsdt_of_a_bare_machine(void **state)
{
	static char text[KIB(64)];

	decompile(*state, &(struct arch_devices){ .cpus = 1 }, text, sizeof(text));
	assert_says(text, "PNP0C0C");
	assert_null(strstr(text, "PNP0501"));
	assert_null(strstr(text, "QEMU0001"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(fadt_is_hardware_reduced, setup, teardown),
		cmocka_unit_test_setup_teardown(power_registers_match, setup, teardown),
		cmocka_unit_test_setup_teardown(madt_lists_the_cpus, setup, teardown),
		cmocka_unit_test_setup_teardown(mcfg_comes_with_pci_only, setup, teardown),
		cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(tables_stay_in_their_place, setup, teardown),
		cmocka_unit_test(addresses_do_not_collide),
		cmocka_unit_test_setup_teardown(dsdt_of_a_pci_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(dsdt_with_a_window_of_64_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(dsdt_of_an_mmio_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(dsdt_of_a_bare_machine, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
