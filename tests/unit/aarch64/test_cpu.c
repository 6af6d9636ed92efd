// SPDX-License-Identifier: Apache-2.0
/*
 * vCPUs and the GIC of the machine's own KVM: how they start, where MSIs go,
 * and what a reset leaves of the past.
 */
#include <fcntl.h>
#include <libfdt.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <cmocka.h>
#include "arch/aarch64/irqchip.h"
#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "arch/arch.h"

#define CPUS 2
#define RAM_SIZE MIB(2)
#define ENTRY (LAYOUT_RAM + MIB(1))

#define CORE_REG(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(name))
#define MPIDR_EL1 ARM64_SYS_REG(3, 0, 0, 0, 5)
#define SCTLR_EL1 ARM64_SYS_REG(3, 0, 1, 0, 0)
#define VBAR_EL1 ARM64_SYS_REG(3, 0, 12, 0, 0)
#define PSTATE_EL1H 5
#define PSTATE_MASKED (0xf << 6)

struct kvm {
	int fd, vm, vcpus[CPUS];
	struct arch_irqchip *irqchip;
	struct mem mem;
};

static int setup(void **state)
{
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = LAYOUT_RAM, .memory_size = RAM_SIZE,
	};
	struct kvm *kvm = calloc(1, sizeof(*kvm));

	assert_non_null(kvm);
	*state = kvm;
	kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	/* qemu-user opens it and knows nothing of it. */
	if (ioctl(kvm->fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		util_closep(&kvm->fd);
	if (kvm->fd < 0)
		return 0;
	kvm->vm = arch_vm_create(kvm->fd);
	assert_true(kvm->vm >= 0);
	assert_int_equal(mem_add(&kvm->mem, LAYOUT_RAM, RAM_SIZE, &(struct mem_backing){ 0 }), 0);
	slot.userspace_addr = (uintptr_t)kvm->mem.regions[0].hva;
	assert_int_equal(ioctl(kvm->vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	assert_int_equal(arch_irqchip_new(kvm->vm, CPUS, &kvm->irqchip), 0);
	for (unsigned int i = 0; i < CPUS; i++) {
		kvm->vcpus[i] = ioctl(kvm->vm, KVM_CREATE_VCPU, (unsigned long)i);
		assert_true(kvm->vcpus[i] >= 0);
		assert_int_equal(arch_vcpu_init(kvm->fd, kvm->vm, kvm->vcpus[i], i, CPUS), 0);
	}
	assert_int_equal(arch_irqchip_start(kvm->irqchip), 0);
	return 0;
}

static int teardown(void **state)
{
	struct kvm *kvm = *state;

	if (kvm->fd >= 0) {
		arch_irqchip_free(kvm->irqchip);
		for (unsigned int i = 0; i < CPUS; i++)
			close(kvm->vcpus[i]);
		close(kvm->vm);
		close(kvm->fd);
		mem_free(&kvm->mem);
	}
	free(kvm);
	return 0;
}

static struct kvm *need_kvm(void **state)
{
	struct kvm *kvm = *state;

	if (kvm->fd < 0) {
		print_message("skipped: there is no KVM\n");
		skip();
	}
	return kvm;
}

static struct kvm *need_gic(void **state, bool v3)
{
	struct kvm *kvm = need_kvm(state);

	if (kvm->irqchip->v3 != v3) {
		print_message("skipped: this host has no GICv%d\n", v3 ? 3 : 2);
		skip();
	}
	return kvm;
}

static void boot(struct kvm *kvm)
{
	const struct arch_entry entry = { .pc = ENTRY, .info = LAYOUT_FDT };

	for (unsigned int i = 0; i < CPUS; i++)
		assert_int_equal(arch_vcpu_boot(kvm->vcpus[i], i, &kvm->mem, &entry), 0);
}

/* As at a reboot. */
static void reset(struct kvm *kvm)
{
	for (unsigned int i = 0; i < CPUS; i++)
		assert_int_equal(arch_vcpu_reset(kvm->vm, kvm->vcpus[i], i), 0);
	assert_int_equal(arch_irqchip_reset(kvm->irqchip), 0);
	boot(kvm);
}

/* ---- vCPUs ---- */

static uint64_t get_reg(int vcpu, uint64_t id)
{
	uint64_t value = 0;
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	assert_int_equal(ioctl(vcpu, KVM_GET_ONE_REG, &reg), 0);
	return value;
}

static void set_reg(int vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	assert_int_equal(ioctl(vcpu, KVM_SET_ONE_REG, &reg), 0);
}

static uint32_t power_of(int vcpu)
{
	struct kvm_mp_state power;

	assert_int_equal(ioctl(vcpu, KVM_GET_MP_STATE, &power), 0);
	return power.mp_state;
}

static void assert_is_started(const struct kvm *kvm)
{
	int vcpu = kvm->vcpus[0];

	assert_int_equal(get_reg(vcpu, CORE_REG(regs.pc)), ENTRY);
	assert_int_equal(get_reg(vcpu, CORE_REG(regs.regs[0])), LAYOUT_FDT);
	for (unsigned int i = 1; i < 4; i++)
		assert_int_equal(get_reg(vcpu, CORE_REG(regs.regs[i])), 0);
	/* Without a memory management unit and without interrupts. */
	assert_int_equal(get_reg(vcpu, CORE_REG(regs.pstate)), PSTATE_EL1H | PSTATE_MASKED);
	assert_int_equal(get_reg(vcpu, SCTLR_EL1) & 1, 0);
	assert_int_equal(power_of(vcpu), KVM_MP_STATE_RUNNABLE);
	assert_int_equal(power_of(kvm->vcpus[1]), KVM_MP_STATE_STOPPED);
}

static void the_first_starts_the_others_wait(void **state)
{
	struct kvm *kvm = need_kvm(state);

	boot(kvm);
	assert_is_started(kvm);
}

static void reset_forgets_registers(void **state)
{
	struct kvm *kvm = need_kvm(state);
	struct kvm_mp_state power = { .mp_state = KVM_MP_STATE_RUNNABLE };
	uint64_t sctlr = get_reg(kvm->vcpus[0], SCTLR_EL1);

	boot(kvm);
	for (unsigned int i = 0; i < 31; i++)
		set_reg(kvm->vcpus[0], CORE_REG(regs.regs[i]), i + 1);
	set_reg(kvm->vcpus[0], CORE_REG(regs.pc), ENTRY + 0x1000);
	set_reg(kvm->vcpus[0], CORE_REG(regs.pstate), PSTATE_EL1H);
	set_reg(kvm->vcpus[0], SCTLR_EL1, sctlr | 1);
	set_reg(kvm->vcpus[0], VBAR_EL1, ENTRY);
	assert_int_equal(ioctl(kvm->vcpus[1], KVM_SET_MP_STATE, &power), 0);
	assert_int_equal(power_of(kvm->vcpus[1]), KVM_MP_STATE_RUNNABLE);
	reset(kvm);
	assert_is_started(kvm);
	assert_int_equal(get_reg(kvm->vcpus[0], SCTLR_EL1), sctlr);
}

/* A GICv3's registers are addressed by it. */
static void affinities_are_the_device_trees(void **state)
{
	struct kvm *kvm = need_kvm(state);
	static const unsigned int indexes[] = { 15, 16, 31 };

	assert_int_equal(get_reg(kvm->vcpus[1], MPIDR_EL1) & 0xffffff, vcpu_affinity(1));
	need_gic(state, true); /* a GICv2 has no more than eight */
	for (size_t i = 0; i < ARRAY_SIZE(indexes); i++) {
		int vm = arch_vm_create(kvm->fd);
		int vcpu = ioctl(vm, KVM_CREATE_VCPU, (unsigned long)indexes[i]);

		assert_true(vcpu >= 0);
		assert_int_equal(arch_vcpu_init(kvm->fd, vm, vcpu, indexes[i], 32), 0);
		assert_int_equal(get_reg(vcpu, MPIDR_EL1) & 0xffffff, vcpu_affinity(indexes[i]));
		close(vcpu);
		close(vm);
	}
}

static void a_performance_monitor_interrupts_as_told(void **state)
{
	struct kvm *kvm = need_kvm(state);
	const struct arch_devices devices = { .irqchip = kvm->irqchip, .cpus = CPUS };
	const struct boot_kernel kernel = { .cmdline_max = 1 };
	const struct boot_info info = { .cmdline = "" };
	const fdt32_t *interrupt;
	struct arch_entry entry;
	int number = 0, node;
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VCPU_PMU_V3_CTRL,
		.attr = KVM_ARM_VCPU_PMU_V3_IRQ,
		.addr = (uintptr_t)&number,
	};
	const void *fdt;

	if (ioctl(kvm->vm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_PMU_V3) <= 0) {
		print_message("skipped: this host has no performance monitor\n");
		skip();
	}
	boot(kvm);
	assert_int_equal(ioctl(kvm->vcpus[1], KVM_GET_DEVICE_ATTR, &attr), 0);
	assert_int_equal(arch_describe(&devices, &kvm->mem, &kernel, &info, &entry), 0);
	fdt = mem_ptr(&kvm->mem, entry.info, LAYOUT_FDT_MAX);
	node = fdt_node_offset_by_compatible(fdt, -1, "arm,armv8-pmuv3");
	interrupt = fdt_getprop(fdt, node, "interrupts", NULL);
	assert_non_null(interrupt);
	/* Private ones are told as if they began at 0. */
	assert_int_equal(fdt32_ld(interrupt), 1);
	assert_int_equal(fdt32_ld(interrupt + 1) + 16, number);
}

/* ---- the GIC ---- */

/* A short register is the lower half of value. */
static void ask_gic(int fd, unsigned long request, uint32_t group, uint64_t reg, uint64_t *value)
{
	struct kvm_device_attr attr = { .group = group, .attr = reg, .addr = (uintptr_t)value };

	if (ioctl(fd, request, &attr) < 0)
		fail_msg("group %u, register %#llx: %s", group, (unsigned long long)reg,
			 strerror(errno));
}

static uint64_t get_gic(int fd, uint32_t group, uint64_t reg)
{
	uint64_t value = 0;

	ask_gic(fd, KVM_GET_DEVICE_ATTR, group, reg, &value);
	return value;
}

static void set_gic(int fd, uint32_t group, uint64_t reg, uint64_t value)
{
	ask_gic(fd, KVM_SET_DEVICE_ATTR, group, reg, &value);
}

/* A register, and the bits of it that a guest turns round. */
struct trace {
	uint32_t group;
	uint32_t reg;
	uint64_t flip;
	uint64_t mask; /* of those that a reset puts back; 0: all */
};

enum {
	DIST = KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
	CPU = KVM_DEV_ARM_VGIC_GRP_CPU_REGS,
	REDIST = KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
	SYSREG = KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
	ITS = KVM_DEV_ARM_VGIC_GRP_ITS_REGS,
};

#define TABLE(n) (LAYOUT_RAM + KIB(64) * (n))
#define VALID (UINT64_C(1) << 63)

#define ICC(op0, op1, crn, crm, op2) ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))

/* Of interrupts 64 to 95. */
static const struct trace shared[] = {
	{ DIST, 0x000, 3, 0 },          /* GICD_CTLR */
	{ DIST, 0x108, 0x5, 0 },        /* GICD_ISENABLER */
	{ DIST, 0x208, 0x6, 0 },        /* GICD_ISPENDR */
	{ DIST, 0x308, 0x9, 0 },        /* GICD_ISACTIVER */
	{ DIST, 0x45c, 0xa0a0a0a0, 0 }, /* GICD_IPRIORITYR, of the last four */
	{ DIST, 0xc14, 0xaaaaaaaa, 0 }, /* GICD_ICFGR */
};
static const struct trace v3_shared[] = {
	{ DIST, 0x088, UINT32_MAX, 0 },          /* GICD_IGROUPR */
	{ ITS, 0x080, VALID | TABLE(1), 0 },     /* GITS_CBASER */
	{ ITS, 0x100, VALID | TABLE(2), VALID }, /* GITS_BASER of devices, */
	{ ITS, 0x108, VALID | TABLE(3), VALID }, /* and of collections */
	{ ITS, 0x000, 1, 0 },                    /* GITS_CTLR */
};
/* Numbers 0 to 15 are the software-generated ones. */
static const struct trace v3_private[] = {
	{ REDIST, 0x70, TABLE(4) | 15, 0xfffffffff000 }, /* GICR_PROPBASER */
	{ REDIST, 0x78, TABLE(5), 0xffffffff0000 },      /* GICR_PENDBASER */
	{ REDIST, 0x00, 1, 0 },                          /* GICR_CTLR: LPIs are on */
	{ REDIST, 0x10080, UINT32_MAX, 0 },              /* GICR_IGROUPR0 */
	{ REDIST, 0x10100, 0x08000000, 0 },              /* GICR_ISENABLER0 */
	{ REDIST, 0x10180, 0x0000000f, 0 },              /* GICR_ICENABLER0 */
	{ REDIST, 0x10200, 0x00010002, 0 },              /* GICR_ISPENDR0 */
	{ REDIST, 0x10300, 0x00010002, 0 },              /* GICR_ISACTIVER0 */
	{ REDIST, 0x1041c, 0x80a0a080, 0 },              /* GICR_IPRIORITYR7 */
	{ SYSREG, ICC(3, 0, 4, 6, 0), 0xf0, 0 },         /* ICC_PMR_EL1 */
	{ SYSREG, ICC(3, 0, 12, 8, 3), 5, 0 },           /* ICC_BPR0_EL1 */
	{ SYSREG, ICC(3, 0, 12, 8, 4), 1, 0 },           /* ICC_AP0R0_EL1 */
	{ SYSREG, ICC(3, 0, 12, 9, 0), 1, 0 },           /* ICC_AP1R0_EL1 */
	{ SYSREG, ICC(3, 0, 12, 12, 3), 5, 0 },          /* ICC_BPR1_EL1 */
	{ SYSREG, ICC(3, 0, 12, 12, 4), 3, 0 },          /* ICC_CTLR_EL1: CBPR and EOImode */
	{ SYSREG, ICC(3, 0, 12, 12, 6), 1, 0 },          /* ICC_IGRPEN0_EL1 */
	{ SYSREG, ICC(3, 0, 12, 12, 7), 1, 0 },          /* ICC_IGRPEN1_EL1 */
};
static const struct trace v2_private[] = {
	{ DIST, 0x100, 0x08000000, 0 }, /* GICD_ISENABLER0 */
	{ DIST, 0x180, 0x0000000f, 0 }, /* GICD_ICENABLER0 */
	{ DIST, 0x200, 0x00010000, 0 }, /* GICD_ISPENDR0 */
	{ DIST, 0x300, 0x00010000, 0 }, /* GICD_ISACTIVER0 */
	{ DIST, 0x41c, 0x80a0a080, 0 }, /* GICD_IPRIORITYR7 */
	{ DIST, 0xf20, 0x00030100, 0 }, /* GICD_SPENDSGIR: 1 from vCPU 0, 2 from both */
	{ CPU, 0x00, 1, 0 },            /* GICC_CTLR */
	{ CPU, 0x04, 0x1e, 0 },         /* GICC_PMR, as KVM shifts it */
	{ CPU, 0x08, 5, 0 },            /* GICC_BPR */
	{ CPU, 0x1c, 5, 0 },            /* GICC_ABPR */
	{ CPU, 0xd0, 1, 0 },            /* GICC_APR0 */
};

static int fd_of(const struct kvm *kvm, const struct trace *trace)
{
	return trace->group == ITS ? kvm->irqchip->its_fd : kvm->irqchip->gic_fd;
}

static uint64_t look(const struct kvm *kvm, const struct trace *trace, uint64_t owner)
{
	return get_gic(fd_of(kvm, trace), trace->group, owner | trace->reg) &
	       (trace->mask ? trace->mask : UINT64_MAX);
}

static void leave(const struct kvm *kvm, const struct trace *trace, uint64_t owner, uint64_t clean)
{
	set_gic(fd_of(kvm, trace), trace->group, owner | trace->reg, clean ^ trace->flip);
	if (look(kvm, trace, owner) == clean)
		fail_msg("group %u, register %#x takes nothing", trace->group, trace->reg);
}

/* After a reset each register, of each owner where they are banked, is as in the beginning. */
static void check_traces(struct kvm *kvm, const struct trace *traces, size_t count,
			 const uint64_t *owners, size_t owner_count)
{
	uint64_t clean[40];

	assert_true(count * owner_count <= ARRAY_SIZE(clean));
	for (size_t i = 0; i < count * owner_count; i++)
		clean[i] = look(kvm, &traces[i % count], owners[i / count]);
	for (size_t i = 0; i < count * owner_count; i++)
		leave(kvm, &traces[i % count], owners[i / count], clean[i]);
	reset(kvm);
	for (size_t i = 0; i < count * owner_count; i++) {
		const struct trace *trace = &traces[i % count];
		unsigned long long left = look(kvm, trace, owners[i / count]);

		if (left != clean[i])
			fail_msg("group %u, register %#x: %#llx is left, not %#llx", trace->group,
				 trace->reg, left, (unsigned long long)clean[i]);
	}
}

static void reset_forgets_shared_interrupts(void **state)
{
	struct kvm *kvm = need_kvm(state);

	boot(kvm);
	check_traces(kvm, shared, ARRAY_SIZE(shared), &(uint64_t){ 0 }, 1);
}

static void reset_forgets_what_gicv3s_share(void **state)
{
	struct kvm *kvm = need_gic(state, true);

	boot(kvm);
	check_traces(kvm, v3_shared, ARRAY_SIZE(v3_shared), &(uint64_t){ 0 }, 1);
}

static void reset_forgets_what_each_gicv3_has(void **state)
{
	const uint64_t owners[CPUS] = { vcpu_affinity(0) << 32, vcpu_affinity(1) << 32 };
	struct kvm *kvm = need_gic(state, true);

	boot(kvm);
	check_traces(kvm, v3_private, ARRAY_SIZE(v3_private), owners, CPUS);
}

static void reset_forgets_what_each_gicv2_has(void **state)
{
	static const uint64_t owners[CPUS] = { 0, UINT64_C(1) << 32 };
	struct kvm *kvm = need_gic(state, false);

	boot(kvm);
	check_traces(kvm, v2_private, ARRAY_SIZE(v2_private), owners, CPUS);
}

/* ---- MSIs ---- */

#define LPI 8192
#define DEVICES 2

static bool is_lpi_pending(const struct kvm *kvm, unsigned int lpi)
{
	const uint8_t *table = mem_ptr(&kvm->mem, TABLE(5), KIB(64));

	set_gic(kvm->irqchip->gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
		KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, 0);
	return table[lpi / 8] >> lpi % 8 & 1;
}

static bool is_spi_pending(const struct kvm *kvm, unsigned int spi)
{
	return get_gic(kvm->irqchip->gic_fd, DIST, 0x200 + spi / 32 * 4) >> spi % 32 & 1;
}

/* KVM takes what is written to an eventfd to the GIC in a thread of its own. */
static bool becomes_pending(const struct kvm *kvm, unsigned int number,
			    bool (*is_pending)(const struct kvm *kvm, unsigned int number))
{
	for (unsigned int ms = 0; ms < 5000; ms++) {
		if (is_pending(kvm, number))
			return true;
		usleep(1000);
	}
	return false;
}

static void init_router(const struct kvm *kvm, struct irq_router *router)
{
	assert_int_equal(irq_router_init(router, kvm->vm, arch_layout.irq_chip,
					 arch_layout.irq_pins, arch_irqchip_msi_pins(kvm->irqchip)),
			 0);
}

/* What Linux does: event 0 of each device, whose id is its index, becomes an LPI of vCPU 0. */
static void map_events(const struct kvm *kvm)
{
	static const uint64_t commands[][4] = {
		{ 9, 0, VALID },                         /* MAPC */
		{ 8, 4, VALID | TABLE(6) },              /* MAPD */
		{ 8 | 1ull << 32, 4, VALID | TABLE(7) },
		{ 10, (uint64_t)LPI << 32 },             /* MAPTI */
		{ 10 | 1ull << 32, (LPI + 1ull) << 32 },
	};
	int its = kvm->irqchip->its_fd;

	assert_int_equal(mem_write(&kvm->mem, TABLE(1), commands, sizeof(commands)), 0);
	/* Their priority, and that they are enabled. */
	assert_int_equal(mem_write(&kvm->mem, TABLE(4), "\xa1\xa1", DEVICES), 0);
	for (size_t i = 0; i < 3; i++) /* GICR_PROPBASER, GICR_PENDBASER, GICR_CTLR */
		set_gic(kvm->irqchip->gic_fd, REDIST, v3_private[i].reg, v3_private[i].flip);
	for (size_t i = 1; i < ARRAY_SIZE(v3_shared); i++) /* and the ITS's */
		set_gic(its, ITS, v3_shared[i].reg, v3_shared[i].flip);
	set_gic(its, ITS, 0x88, sizeof(commands)); /* GITS_CWRITER */
	assert_int_equal(get_gic(its, ITS, 0x90), sizeof(commands)); /* GITS_CREADR */
}

/* Devices with the same data for the same address: who sends it tells them apart. */
static void an_its_knows_its_senders(void **state)
{
	struct kvm *kvm = need_gic(state, true);
	struct irq_line lines[DEVICES] = { 0 };
	struct irq_router router;

	map_events(kvm);
	init_router(kvm, &router);
	for (uint32_t i = 0; i < DEVICES; i++) {
		assert_int_equal(irq_line_msi(&router, i, &lines[i]), 0);
		assert_int_equal(irq_line_unmask(&lines[i], LAYOUT_ITS + 0x10040, 0), 0);
	}
	irq_raise(&lines[1]);
	assert_true(becomes_pending(kvm, LPI + 1, is_lpi_pending));
	assert_false(is_lpi_pending(kvm, LPI));
	irq_raise(&lines[0]);
	assert_true(becomes_pending(kvm, LPI, is_lpi_pending));
	for (size_t i = 0; i < DEVICES; i++)
		irq_line_free(&lines[i]);
	irq_router_free(&router);
}

static void a_gicv2_takes_msis_by_its_frame(void **state)
{
	struct kvm *kvm = need_gic(state, false);
	struct irq_line line = { 0 };
	struct irq_router router;

	init_router(kvm, &router);
	assert_int_equal(irq_line_msi(&router, 0, &line), 0);
	for (unsigned int spi = IRQCHIP_V2M_FIRST; spi < IRQCHIP_V2M_FIRST + 2; spi++) {
		assert_int_equal(irq_line_unmask(&line, LAYOUT_GICV2M + 0x40, spi), 0);
		assert_false(is_spi_pending(kvm, spi));
		irq_raise(&line);
		assert_true(becomes_pending(kvm, spi, is_spi_pending));
	}
	/* Past the last one. */
	assert_true(irq_line_unmask(&line, LAYOUT_GICV2M + 0x40, 1020) < 0);
	irq_line_free(&line);
	irq_router_free(&router);
}

static void pins_are_shared_interrupts(void **state)
{
	struct kvm *kvm = need_kvm(state);
	struct irq_line line = { 0 };
	struct irq_router router;

	init_router(kvm, &router);
	assert_int_equal(irq_line_pin(&router, &line, arch_layout.gpio.pin), 0);
	irq_raise(&line);
	assert_true(becomes_pending(kvm, LAYOUT_SPI_FIRST + arch_layout.gpio.pin, is_spi_pending));
	irq_line_free(&line);
	irq_router_free(&router);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_starts_the_others_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(affinities_are_the_device_trees, setup, teardown),
		cmocka_unit_test_setup_teardown(a_performance_monitor_interrupts_as_told, setup,
						teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_shared_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_what_gicv3s_share, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_what_each_gicv3_has, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_what_each_gicv2_has, setup, teardown),
		cmocka_unit_test_setup_teardown(pins_are_shared_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(an_its_knows_its_senders, setup, teardown),
		cmocka_unit_test_setup_teardown(a_gicv2_takes_msis_by_its_frame, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
