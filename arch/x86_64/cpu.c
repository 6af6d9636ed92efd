// SPDX-License-Identifier: Apache-2.0
/*
 * vCPUs and interrupt controllers. KVM makes them in the state after power-on;
 * a reset undoes whatever the last guest kernel left of it.
 */
#include <asm/kvm_para.h>
#include <asm/mtrr.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/layout.h"

#define CPUID_MAX 256
#define TOPOLOGY_LEVELS 2

#define LEAF1_ECX_X2APIC (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_HTT (1u << 28)
#define LEAF6_EAX_ARAT (1u << 2)

#define CR0_PE (1u << 0)
#define CR0_ET (1u << 4)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define RFLAGS_FIXED 2
#define PAGE_PRESENT_WRITE 3
#define PAGE_LARGE (1u << 7)

#define MSR_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRINGS 1
#define MSR_PAT 0x277
#define PAT_RESET 0x0007040600070406ULL
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED_WRITE_BACK (1u << 11 | MTRR_TYPE_WRBACK)

#define APIC_BASE_ENABLE (1u << 11)
#define APIC_BASE_BSP (1u << 8)
#define APIC_ID 0x20
#define APIC_VERSION 0x30
#define APIC_DFR 0xe0
#define APIC_SPIV 0xf0
#define APIC_LVT_FIRST 0x320
#define APIC_LVT_LAST 0x370
#define APIC_LVT_MASKED (1u << 16)
#define APIC_VERSION_KVM 0x50014

/* ---- the VM ---- */

struct arch_irqchip {
	int vm_fd;
};

int arch_vm_create(int kvm_fd)
{
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);

	return fd < 0 ? -errno : fd;
}

int arch_irqchip_new(int vm_fd, unsigned int cpus, struct arch_irqchip **ret_irqchip)
{
	struct arch_irqchip *irqchip;

	(void)cpus;
	if (ioctl(vm_fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_KVM_TSS) < 0 ||
	    ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return -errno;
	irqchip = malloc(sizeof(*irqchip));
	if (!irqchip)
		return -ENOMEM;
	irqchip->vm_fd = vm_fd;
	*ret_irqchip = irqchip;
	return 0;
}

int arch_irqchip_start(struct arch_irqchip *irqchip)
{
	/* They are complete without vCPUs. */
	(void)irqchip;
	return 0;
}

int arch_irqchip_reset(struct arch_irqchip *irqchip)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	if (ioctl(irqchip->vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
		return -errno;
	chip.chip.ioapic.irr = 0;
	for (size_t pin = 0; pin < ARRAY_SIZE(chip.chip.ioapic.redirtbl); pin++) {
		chip.chip.ioapic.redirtbl[pin].bits = 0;
		chip.chip.ioapic.redirtbl[pin].fields.mask = 1;
	}
	return ioctl(irqchip->vm_fd, KVM_SET_IRQCHIP, &chip) < 0 ? -errno : 0;
}

struct irq_msi_pins arch_irqchip_msi_pins(const struct arch_irqchip *irqchip)
{
	(void)irqchip;
	return (struct irq_msi_pins){ 0 };
}

void arch_irqchip_free(struct arch_irqchip *irqchip)
{
	free(irqchip);
}

const char arch_no_kvm[] = "this kernel has no KVM, or its module is not loaded: modprobe kvm-intel or "
	"kvm-amd; in a virtual machine, have nested virtualization turned on";

const struct arch_capability arch_capabilities[] = {
	{ KVM_CAP_EXT_CPUID, "EXT_CPUID", "the features that a processor tells about" },
	{ 0 }
};

bool arch_reset_by_panic(const struct mem *mem, int flags)
{
	/* The BIOS' warm boot flag; see reboot=panic_warm in layout.c. */
	uint16_t flag;

	(void)flags;
	return !mem_read(mem, 0x472, &flag, sizeof(flag)) && flag == 0x1234;
}

/* ---- features and topology ---- */

/* The bits of an APIC id that tell cpus apart. */
static uint32_t id_bits(uint32_t cpus)
{
	uint32_t bits = 0;

	while (1u << bits < cpus)
		bits++;
	return bits;
}

/* Caches of level 3 are shared by all, those below by none; all cores are in one package. */
static void set_cache_sharing(struct kvm_cpuid_entry2 *entry, uint32_t cpus)
{
	uint32_t level = entry->eax >> 5 & 7;

	if (!(entry->eax & 0x1f))
		return;
	entry->eax &= ~(0xfffu << 14);
	if (level >= 3)
		entry->eax |= (cpus - 1) << 14;
	if (entry->function == 4)
		entry->eax = (entry->eax & 0x03ffffff) | (cpus - 1) << 26;
}

/* Leaf 0xb: one thread in each core, then all cores. */
static struct kvm_cpuid_entry2 topology_level(uint32_t level, uint32_t index, uint32_t cpus)
{
	return (struct kvm_cpuid_entry2){
		.function = 0xb,
		.index = level,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = level ? id_bits(cpus) : 0,
		.ebx = level ? cpus : 1,
		.ecx = level | (level + 1) << 8,
		.edx = index,
	};
}

static void adjust(struct kvm_cpuid_entry2 *entry, uint32_t index, uint32_t cpus, bool deadline)
{
	switch (entry->function) {
	case 1:
		entry->ebx = (entry->ebx & 0xffff) | index << 24 | cpus << 16;
		entry->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
		if (deadline)
			entry->ecx |= LEAF1_ECX_TSC_DEADLINE;
		entry->edx &= ~LEAF1_EDX_HTT;
		if (cpus > 1)
			entry->edx |= LEAF1_EDX_HTT;
		break;
	case 4:
	case 0x8000001d:
		set_cache_sharing(entry, cpus);
		break;
	case 6:
		/* No thermal or power management but a timer that always runs. */
		entry->eax = LEAF6_EAX_ARAT;
		entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case 0x80000008:
		entry->ecx = (cpus - 1) | id_bits(cpus) << 12;
		break;
	case 0x8000001e:
		entry->eax = index;
		entry->ebx = index;
		entry->ecx = 0;
		break;
	default:
		break;
	}
}

int arch_vcpu_init(int kvm_fd, int vm_fd, int vcpu_fd, unsigned int index, unsigned int cpus)
{
	bool deadline = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + (CPUID_MAX + TOPOLOGY_LEVELS) * sizeof(cpuid->entries[0]));
	uint32_t kept = 0;

	(void)vm_fd;
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = CPUID_MAX;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return -errno;
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		/* Dies and modules of the host, and what may be left of its cores: Linux 6.2 clears that. */
		if (cpuid->entries[i].function == 0x1f || cpuid->entries[i].function == 0xb)
			continue;
		adjust(&cpuid->entries[i], index, cpus, deadline);
		cpuid->entries[kept++] = cpuid->entries[i];
	}
	for (uint32_t level = 0; level < TOPOLOGY_LEVELS; level++)
		cpuid->entries[kept++] = topology_level(level, index, cpus);
	cpuid->nent = kept;
	return ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
}

/* ---- the state after power-on ---- */

/*
 * What a kernel finds, and the places in memory that KVM would go on writing
 * to for the kernel before. A host may refuse some; those it does not have.
 */
static void set_msrs(int vcpu_fd)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} values[] = {
		{ MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS },
		{ MSR_PAT, PAT_RESET },
		{ MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK },
		{ MSR_KVM_SYSTEM_TIME, 0 },
		{ MSR_KVM_SYSTEM_TIME_NEW, 0 },
		{ MSR_KVM_ASYNC_PF_EN, 0 },
		{ MSR_KVM_STEAL_TIME, 0 },
		{ MSR_KVM_PV_EOI_EN, 0 },
	};
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) +
			     ARRAY_SIZE(values) * sizeof(struct kvm_msr_entry)];
	} msrs = { .room = { 0 } };
	int set;

	/* KVM stops at the first one that it refuses: go on behind it. */
	for (size_t done = 0; done < ARRAY_SIZE(values); done += (size_t)set + 1) {
		msrs.head.nmsrs = (uint32_t)(ARRAY_SIZE(values) - done);
		for (size_t i = done; i < ARRAY_SIZE(values); i++)
			msrs.head.entries[i - done] = (struct kvm_msr_entry){
				.index = values[i].index,
				.data = values[i].value,
			};
		set = ioctl(vcpu_fd, KVM_SET_MSRS, &msrs);
		if (set < 0)
			return;
	}
}

static void store32(struct kvm_lapic_state *lapic, unsigned int offset, uint32_t value)
{
	memcpy(lapic->regs + offset, &value, sizeof(value));
}

static int reset_lapic(int vcpu_fd, uint32_t index)
{
	struct kvm_lapic_state lapic = { 0 };

	store32(&lapic, APIC_ID, index << 24);
	store32(&lapic, APIC_VERSION, APIC_VERSION_KVM);
	store32(&lapic, APIC_DFR, UINT32_MAX);
	store32(&lapic, APIC_SPIV, 0xff);
	for (unsigned int lvt = APIC_LVT_FIRST; lvt <= APIC_LVT_LAST; lvt += 0x10)
		store32(&lapic, lvt, APIC_LVT_MASKED);
	return ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic) < 0 ? -errno : 0;
}

/* Flat segments, as both boot protocols want them: selectors 0x10 and 0x18 of the table at LAYOUT_GDT. */
static void set_segments(struct kvm_sregs *sregs, bool long_mode)
{
	struct kvm_segment code = {
		.limit = UINT32_MAX,
		.selector = 0x10,
		.type = 11,
		.present = 1,
		.db = !long_mode,
		.s = 1,
		.l = long_mode,
		.g = 1,
	};
	struct kvm_segment data = code;

	data.selector = 0x18;
	data.type = 3;
	data.db = 1;
	data.l = 0;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->ss = sregs->fs = sregs->gs = data;
	sregs->tr = (struct kvm_segment){ .limit = 0x67, .type = 11, .present = 1 };
	sregs->ldt = (struct kvm_segment){ .type = 2, .present = 1, .limit = UINT16_MAX };
	sregs->gdt = (struct kvm_dtable){ .base = LAYOUT_GDT, .limit = 4 * 8 - 1 };
	sregs->idt = (struct kvm_dtable){ 0 };
}

/* The descriptors that set_segments() names, and the first 4 GiB mapped one to one. */
static int write_tables(const struct mem *mem)
{
	static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	const uint64_t pml4 = LAYOUT_PAGE_TABLES, pdpt = pml4 + KIB(4), pd = pdpt + KIB(4);
	uint64_t entries[512] = { pdpt | PAGE_PRESENT_WRITE };
	int err = mem_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));

	if (!err)
		err = mem_write(mem, pml4, entries, sizeof(entries));
	for (unsigned int i = 0; i < 4; i++)
		entries[i] = (pd + i * KIB(4)) | PAGE_PRESENT_WRITE;
	if (!err)
		err = mem_write(mem, pdpt, entries, sizeof(entries));
	for (unsigned int gib = 0; !err && gib < 4; gib++) {
		for (unsigned int i = 0; i < 512; i++)
			entries[i] = (gib * 512ULL + i) * MIB(2) | PAGE_LARGE | PAGE_PRESENT_WRITE;
		err = mem_write(mem, pd + gib * KIB(4), entries, sizeof(entries));
	}
	return err;
}

static int set_sregs(int vcpu_fd, unsigned int index, bool long_mode)
{
	struct kvm_sregs sregs = {
		.cr0 = CR0_PE | CR0_ET,
		.apic_base = LAYOUT_LAPIC | APIC_BASE_ENABLE | (index ? 0 : APIC_BASE_BSP),
	};

	set_segments(&sregs, long_mode);
	if (long_mode) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = LAYOUT_PAGE_TABLES;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	return ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0 ? -errno : 0;
}

static int reset_rest(int vcpu_fd, unsigned int index)
{
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = 1 } } };
	struct kvm_debugregs debug = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	/* Without these flags an NMI that is pending would meet a kernel that has no handler yet. */
	struct kvm_vcpu_events events = {
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
			 KVM_VCPUEVENT_VALID_SMM,
	};
	struct kvm_mp_state state = {
		.mp_state = index ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE,
	};

	/* A host without XSAVE has no XCR0 to set. */
	(void)ioctl(vcpu_fd, KVM_SET_XCRS, &xcrs);
	if (ioctl(vcpu_fd, KVM_SET_FPU, &fpu) < 0 || ioctl(vcpu_fd, KVM_SET_DEBUGREGS, &debug) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &events) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_MP_STATE, &state) < 0)
		return -errno;
	return 0;
}

int arch_vcpu_reset(int vm_fd, int vcpu_fd, unsigned int index)
{
	int err;

	(void)vm_fd;
	/* First of all the APIC's mode, by which its registers are read. */
	err = set_sregs(vcpu_fd, index, false);
	if (!err)
		err = reset_lapic(vcpu_fd, index);
	return err ? err : reset_rest(vcpu_fd, index);
}

int arch_vcpu_boot(int vcpu_fd, unsigned int index, const struct mem *mem,
		   const struct arch_entry *entry)
{
	bool long_mode = entry->protocol == KERNEL_LINUX64;
	struct kvm_regs regs = {
		.rip = entry->pc,
		.rflags = RFLAGS_FIXED,
		/* hvm_start_info is expected in ebx, boot_params in rsi. */
		.rbx = long_mode ? 0 : entry->info,
		.rsi = long_mode ? entry->info : 0,
	};
	int err;

	set_msrs(vcpu_fd);
	/* The others wait for an INIT, which gives them the registers they start with. */
	if (index)
		return 0;
	err = long_mode ? write_tables(mem) : 0;
	if (!err)
		err = set_sregs(vcpu_fd, index, long_mode);
	/*
	 * KVM opens LINT0 for its 8259, which nobody masks: an interrupt that comes before the kernel
	 * sets its APIC up would arrive as an exception, since its vector is the number of the pin.
	 */
	if (!err)
		err = reset_lapic(vcpu_fd, index);
	if (err)
		return err;
	return ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}

void arch_vcpu_dump(int vcpu_fd, char *buffer, size_t len)
{
	struct kvm_regs regs = { 0 };
	struct kvm_sregs sregs = { 0 };

	if (ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0 || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		snprintf(buffer, len, "registers unknown");
	else
		snprintf(buffer, len, "rip %#llx rsp %#llx rflags %#llx cs %#x cr0 %#llx cr3 %#llx cr4 %#llx efer %#llx",
			 regs.rip, regs.rsp, regs.rflags, sregs.cs.selector, sregs.cr0, sregs.cr3,
			 sregs.cr4, sregs.efer);
}
