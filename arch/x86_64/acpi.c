// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI 6.4, hardware-reduced: no SCI, no PM timer, no 8042, no RTC, no VGA, so
 * that a guest probes for none of them. The tables follow one another in the
 * area below 1 MiB that is reserved for them, the RSDP first.
 */
#include <assert.h>
#include <stdio.h>
#include "arch/x86_64/aml.h"
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/layout.h"
#include "core/util.h"

#define PACKED __attribute__((packed))

/* 5.2.3.2 */
struct PACKED acpi_address {
	uint8_t space, bits, offset, access;
	uint64_t address;
};

#define ADDRESS_PORT8(port) { .space = 1, .bits = 8, .access = 1, .address = (port) }

/* 5.2.5.3 */
struct PACKED acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of what ACPI 1.0 had, which ends before length */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
};
static_assert(sizeof(struct acpi_rsdp) == 36, "ABI");

/* 5.2.6 */
struct PACKED acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
};
static_assert(sizeof(struct acpi_header) == 36, "ABI");

/* 5.2.9, with the registers that hardware-reduced ACPI leaves out as bare space */
struct PACKED acpi_fadt {
	struct acpi_header header;
	uint32_t facs, dsdt;
	uint8_t fixed_hardware[65];
	uint16_t boot_flags;
	uint8_t reserved;
	uint32_t flags;
	struct acpi_address reset;
	uint8_t reset_value;
	uint16_t arm_boot_flags;
	uint8_t minor_version;
	uint64_t x_facs, x_dsdt;
	struct acpi_address x_fixed_hardware[8];
	struct acpi_address sleep_control, sleep_status;
	char hypervisor[8];
};
static_assert(offsetof(struct acpi_fadt, boot_flags) == 109, "ABI");
static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "ABI");
static_assert(offsetof(struct acpi_fadt, sleep_control) == 244, "ABI");
static_assert(sizeof(struct acpi_fadt) == 276, "ABI");

#define FADT_WBINVD (1u << 0) /* required */
#define FADT_NO_FIXED_POWER_BUTTON (1u << 4)
#define FADT_NO_FIXED_SLEEP_BUTTON (1u << 5)
#define FADT_RESET_REGISTER (1u << 10)
#define FADT_HARDWARE_REDUCED (1u << 20)

/* An 8042 is absent unless its flag is set. */
#define FADT_BOOT_NO_VGA (1u << 2)
#define FADT_BOOT_NO_ASPM (1u << 4)
#define FADT_BOOT_NO_RTC (1u << 5)

/* 5.2.12 */
struct PACKED acpi_madt {
	struct acpi_header header;
	uint32_t lapic, flags;
};

struct PACKED madt_lapic {
	uint8_t type, length, uid, id;
	uint32_t flags;
};
static_assert(sizeof(struct madt_lapic) == 8, "ABI");

struct PACKED madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, first_gsi;
};
static_assert(sizeof(struct madt_ioapic) == 12, "ABI");

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1 };

#define MADT_ENABLED 1
#define MADT_LAPIC_MAX 255 /* the id 255 is for all of them */

/* PCI Firmware Specification 3.3, 4.1.2 */
struct PACKED acpi_mcfg {
	struct acpi_header header;
	uint8_t reserved[8];
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint8_t reserved2[4];
};
static_assert(sizeof(struct acpi_mcfg) == 60, "ABI");

struct PACKED acpi_xsdt {
	struct acpi_header header;
	uint64_t tables[3];
};

struct tables {
	uint8_t *ram; /* at LAYOUT_ACPI */
	size_t len;
};

#define TABLES_SIZE (LAYOUT_KERNEL - LAYOUT_ACPI)

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	while (len--)
		sum += *bytes++;
	return (uint8_t)-sum;
}

/* Completes the table of len bytes that was written after the others; returns its address. */
static uint64_t seal(struct tables *tables, const char *signature, uint8_t revision, size_t len)
{
	uint64_t gpa = LAYOUT_ACPI + tables->len;
	struct acpi_header *header = (void *)(tables->ram + tables->len);

	*header = (struct acpi_header){
		.length = (uint32_t)len,
		.revision = revision,
		.oem_id = "MICROV",
		.oem_table_id = "MICROVM ",
		.oem_revision = 1,
		.creator_id = "MICR",
		.creator_revision = 1,
	};
	memcpy(header->signature, signature, sizeof(header->signature));
	header->checksum = checksum(header, len);
	tables->len = util_align_up(tables->len + len, 16);
	return gpa;
}

/* Room for a table of len bytes; NULL when there is none left. */
static void *room(const struct tables *tables, size_t len)
{
	return util_within(tables->len, len, TABLES_SIZE) ? tables->ram + tables->len : NULL;
}

static void begin_device(struct aml *aml, const char *name, const char *id, unsigned int uid)
{
	aml_device(aml, name);
	aml_name_id(aml, "_HID", id);
	aml_name_int(aml, "_UID", uid);
}

/* In hardware-reduced ACPI a button has no interrupt: a generic event device has it. */
static void describe_power_button(struct aml *aml)
{
	begin_device(aml, "PWRB", "PNP0C0C", 0);
	aml_end(aml);

	begin_device(aml, "GED", "ACPI0013", 0);
	aml_resources(aml);
	aml_res_interrupt(aml, arch_layout.power.pin);
	aml_end(aml);
	aml_method(aml, "_EVT", 1);
	aml_notify(aml, "\\_SB.PWRB", 0x80);
	aml_end(aml);
	aml_end(aml);
}

static void describe_uart(struct aml *aml)
{
	begin_device(aml, "COM1", "PNP0501", 0);
	aml_resources(aml);
	aml_res_ports(aml, (uint16_t)arch_layout.uart.base, 8);
	aml_res_interrupt(aml, arch_layout.uart.pin);
	aml_end(aml);
	aml_end(aml);
}

static void describe_panic(struct aml *aml)
{
	begin_device(aml, "PEVT", "QEMU0001", 0);
	aml_resources(aml);
	aml_res_ports(aml, (uint16_t)arch_layout.panic.base, 1);
	aml_end(aml);
	aml_end(aml);
}

static void describe_pci(struct aml *aml, const struct mem_range *high)
{
	begin_device(aml, "PCI0", "PNP0A08", 0);
	aml_name_id(aml, "_CID", "PNP0A03");
	aml_name_int(aml, "_SEG", 0);
	aml_name_int(aml, "_BBN", 0);
	aml_resources(aml);
	aml_res_buses(aml, 0, 0);
	aml_res_port_window(aml, (uint16_t)arch_layout.pci_ports.gpa,
			    (uint16_t)arch_layout.pci_ports.len);
	aml_res_window(aml, arch_layout.pci_window.gpa, arch_layout.pci_window.len);
	if (high->len)
		aml_res_window(aml, high->gpa, high->len);
	aml_end(aml);
	aml_end(aml);

	/* Linux uses the ECAM only when a motherboard resource reserves it. */
	begin_device(aml, "ECAM", "PNP0C02", 0);
	aml_resources(aml);
	aml_res_memory(aml, (uint32_t)arch_layout.pci_ecam, MIB(1));
	aml_end(aml);
	aml_end(aml);
}

static void describe_mmio(struct aml *aml, unsigned int number)
{
	uint64_t base = arch_layout.mmio_base + (uint64_t)number * arch_layout.mmio_stride;
	char name[5];

	snprintf(name, sizeof(name), "VR%02X", number & 0xff);
	begin_device(aml, name, "LNRO0005", number);
	aml_name_int(aml, "_CCA", 1);
	aml_resources(aml);
	aml_res_memory(aml, (uint32_t)base, arch_layout.mmio_stride);
	aml_res_interrupt(aml, arch_layout.mmio_first_pin + number);
	aml_end(aml);
	aml_end(aml);
}

static int add_dsdt(struct tables *tables, const struct arch_devices *devices, uint64_t *ret_gpa)
{
	static const uint64_t s5[] = { LAYOUT_S5_TYPE, 0, 0, 0 };
	struct acpi_header *header = room(tables, sizeof(*header));
	struct aml aml;
	size_t len;
	int err;

	if (!header)
		return -ENOSPC;
	aml_init(&aml, header + 1, TABLES_SIZE - tables->len - sizeof(*header));
	aml_name_package(&aml, "\\_S5", s5, ARRAY_SIZE(s5));
	aml_scope(&aml, "\\_SB");
	describe_power_button(&aml);
	if (devices->uart)
		describe_uart(&aml);
	if (devices->panic)
		describe_panic(&aml);
	if (devices->pci)
		describe_pci(&aml, &devices->pci_high);
	for (unsigned int i = 0; i < devices->mmio_count; i++)
		describe_mmio(&aml, i);
	aml_end(&aml);
	err = aml_finish(&aml, &len);
	if (err)
		return err;
	*ret_gpa = seal(tables, "DSDT", 2, sizeof(*header) + len);
	return 0;
}

static int add_fadt(struct tables *tables, uint64_t dsdt, uint64_t *ret_gpa)
{
	struct acpi_fadt *fadt = room(tables, sizeof(*fadt));

	if (!fadt)
		return -ENOSPC;
	*fadt = (struct acpi_fadt){
		.dsdt = (uint32_t)dsdt,
		.boot_flags = FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM | FADT_BOOT_NO_RTC,
		.flags = FADT_WBINVD | FADT_NO_FIXED_POWER_BUTTON | FADT_NO_FIXED_SLEEP_BUTTON |
			 FADT_RESET_REGISTER | FADT_HARDWARE_REDUCED,
		.reset = ADDRESS_PORT8(arch_layout.power.base + LAYOUT_RESET),
		.reset_value = LAYOUT_RESET_VALUE,
		.minor_version = 4,
		.x_dsdt = dsdt,
		.sleep_control = ADDRESS_PORT8(arch_layout.power.base + LAYOUT_SLEEP_CONTROL),
		.sleep_status = ADDRESS_PORT8(arch_layout.power.base + LAYOUT_SLEEP_STATUS),
		.hypervisor = "MICROVM",
	};
	*ret_gpa = seal(tables, "FACP", 6, sizeof(*fadt));
	return 0;
}

static int add_madt(struct tables *tables, unsigned int cpus, uint64_t *ret_gpa)
{
	size_t len = sizeof(struct acpi_madt) + sizeof(struct madt_ioapic) +
		     cpus * sizeof(struct madt_lapic);
	struct acpi_madt *madt = room(tables, len);
	struct madt_ioapic *ioapic;
	struct madt_lapic *lapic;

	if (!madt || cpus > MADT_LAPIC_MAX)
		return -ENOSPC;
	madt->lapic = LAYOUT_LAPIC;
	madt->flags = 0; /* no 8259 */
	ioapic = (void *)(madt + 1);
	*ioapic = (struct madt_ioapic){ MADT_IOAPIC, sizeof(*ioapic), .address = LAYOUT_IOAPIC };
	lapic = (void *)(ioapic + 1);
	for (size_t i = 0; i < cpus; i++)
		lapic[i] = (struct madt_lapic){ MADT_LAPIC, sizeof(*lapic), (uint8_t)i, (uint8_t)i,
						MADT_ENABLED };
	*ret_gpa = seal(tables, "APIC", 5, len);
	return 0;
}

static int add_mcfg(struct tables *tables, uint64_t *ret_gpa)
{
	struct acpi_mcfg *mcfg = room(tables, sizeof(*mcfg));

	if (!mcfg)
		return -ENOSPC;
	*mcfg = (struct acpi_mcfg){ .base = arch_layout.pci_ecam };
	*ret_gpa = seal(tables, "MCFG", 1, sizeof(*mcfg));
	return 0;
}

static int add_xsdt(struct tables *tables, const uint64_t *entries, size_t count, uint64_t *ret_gpa)
{
	struct acpi_xsdt *xsdt = room(tables, sizeof(*xsdt));

	if (!xsdt)
		return -ENOSPC;
	memcpy(xsdt->tables, entries, count * sizeof(*entries));
	*ret_gpa = seal(tables, "XSDT", 1, sizeof(xsdt->header) + count * sizeof(*entries));
	return 0;
}

static int add_tables(struct tables *tables, const struct arch_devices *devices, uint64_t *ret_xsdt)
{
	uint64_t dsdt, entries[3];
	size_t count = 0;
	int err;

	err = add_dsdt(tables, devices, &dsdt);
	if (!err)
		err = add_fadt(tables, dsdt, &entries[count++]);
	if (!err)
		err = add_madt(tables, devices->cpus, &entries[count++]);
	if (!err && devices->pci)
		err = add_mcfg(tables, &entries[count++]);
	if (!err)
		err = add_xsdt(tables, entries, count, ret_xsdt);
	return err;
}

int acpi_write(const struct mem *mem, const struct arch_devices *devices, uint64_t *ret_rsdp)
{
	struct tables tables = { .ram = mem_ptr(mem, LAYOUT_ACPI, TABLES_SIZE) };
	struct acpi_rsdp *rsdp = (void *)tables.ram;
	uint64_t xsdt;
	int err;

	if (!rsdp)
		return -EFAULT;
	if (devices->mmio_count > arch_layout.mmio_pin_count)
		return -ENOSPC;
	tables.len = util_align_up(sizeof(*rsdp), 16);
	err = add_tables(&tables, devices, &xsdt);
	if (err)
		return err;
	*rsdp = (struct acpi_rsdp){
		.signature = "RSD PTR ",
		.oem_id = "MICROV",
		.revision = 2,
		.length = sizeof(*rsdp),
		.xsdt = xsdt,
	};
	rsdp->checksum = checksum(rsdp, offsetof(struct acpi_rsdp, length));
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
	*ret_rsdp = LAYOUT_ACPI;
	return 0;
}
