// SPDX-License-Identifier: Apache-2.0
/*
 * The GIC that the host has: a GICv3, whose ITS takes MSIs, or a GICv2. There
 * MSIs go to a GICv2m's frame, which is nothing but an address: core/irq.h
 * makes them pins. Offsets are those of GICv3 (IHI 0069) and GICv2 (IHI 0048).
 *
 * KVM has no reset for a GIC: each register gets its value after power-on. Of
 * those that GICv2 and GICv3 write in two ways for the same end (what is
 * pending), both ways are gone: the other one is ignored.
 */
#include "arch/aarch64/irqchip.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "arch/arch.h"

#define GICV2M_SETSPI 0x40

#define GICD_CTLR 0x000
#define GICD_IGROUPR 0x080
#define GICD_ISENABLER 0x100
#define GICD_ICFGR 0xc00

#define GICR_CTLR 0x00
#define GICR_PROPBASER 0x70
#define GICR_PENDBASER 0x78
#define GICR_SGI_FRAME 0x10000

#define GICC_CTLR 0x00
#define GICC_PMR 0x04
#define GICC_BPR 0x08
#define GICC_ABPR 0x1c
#define GICC_APR0 0xd0

#define ICC(crn, crm, op2) (ARM64_SYS_REG(3, 0, crn, crm, op2) & KVM_DEV_ARM_VGIC_SYSREG_INSTR_MASK)
#define ICC_PMR ICC(4, 6, 0)
#define ICC_BPR0 ICC(12, 8, 3)
#define ICC_BPR1 ICC(12, 12, 3)
#define ICC_AP0R(n) ICC(12, 8, 4 + (n))
#define ICC_AP1R(n) ICC(12, 9, (n))
#define ICC_CTLR ICC(12, 12, 4)
#define ICC_IGRPEN0 ICC(12, 12, 6)
#define ICC_IGRPEN1 ICC(12, 12, 7)
#define ICC_CTLR_CBPR_EOIMODE 3

/* ---- KVM's devices ---- */

/* Returns an fd, or -errno. */
static int create_device(int vm_fd, uint32_t type)
{
	struct kvm_create_device device = { .type = type };

	return ioctl(vm_fd, KVM_CREATE_DEVICE, &device) < 0 ? -errno : (int)device.fd;
}

static int set_attr(int fd, uint32_t group, uint64_t attr, const void *value)
{
	struct kvm_device_attr request = {
		.group = group,
		.attr = attr,
		.addr = (uintptr_t)value,
	};

	return ioctl(fd, KVM_SET_DEVICE_ATTR, &request) < 0 ? -errno : 0;
}

static int set_address(int fd, uint64_t type, uint64_t base)
{
	return set_attr(fd, KVM_DEV_ARM_VGIC_GRP_ADDR, type, &base);
}

static int init_v3(struct arch_irqchip *irqchip)
{
	int err = create_device(irqchip->vm_fd, KVM_DEV_TYPE_ARM_VGIC_V3);

	if (err < 0)
		return err;
	irqchip->gic_fd = err;
	irqchip->v3 = true;
	irqchip->interrupts = LAYOUT_SPI_FIRST + LAYOUT_PINS;
	err = set_address(irqchip->gic_fd, KVM_VGIC_V3_ADDR_TYPE_DIST, LAYOUT_GICD);
	if (!err)
		err = set_address(irqchip->gic_fd, KVM_VGIC_V3_ADDR_TYPE_REDIST, LAYOUT_GICR);
	if (!err)
		err = create_device(irqchip->vm_fd, KVM_DEV_TYPE_ARM_VGIC_ITS);
	if (err < 0)
		return err;
	irqchip->its_fd = err;
	return set_address(irqchip->its_fd, KVM_VGIC_ITS_ADDR_TYPE, LAYOUT_ITS);
}

static int init_v2(struct arch_irqchip *irqchip)
{
	int err = create_device(irqchip->vm_fd, KVM_DEV_TYPE_ARM_VGIC_V2);

	if (err < 0)
		return err;
	irqchip->gic_fd = err;
	irqchip->interrupts = IRQCHIP_V2M_FIRST + IRQCHIP_V2M_COUNT;
	err = set_address(irqchip->gic_fd, KVM_VGIC_V2_ADDR_TYPE_DIST, LAYOUT_GICD);
	if (!err)
		err = set_address(irqchip->gic_fd, KVM_VGIC_V2_ADDR_TYPE_CPU, LAYOUT_GICC);
	return err;
}

static void freep(struct arch_irqchip **irqchip)
{
	arch_irqchip_free(*irqchip);
}

int arch_irqchip_new(int vm_fd, unsigned int cpus, struct arch_irqchip **ret_irqchip)
{
	_cleanup_(freep) struct arch_irqchip *irqchip = malloc(sizeof(*irqchip));
	int err;

	if (!irqchip)
		return -ENOMEM;
	*irqchip = (struct arch_irqchip){ .vm_fd = vm_fd, .gic_fd = -1, .its_fd = -1, .cpus = cpus };
	err = init_v3(irqchip);
	/* The host's processor decides which one KVM can make. */
	if (err == -ENODEV && irqchip->gic_fd < 0)
		err = init_v2(irqchip);
	if (!err)
		err = set_attr(irqchip->gic_fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0,
			       &irqchip->interrupts);
	if (!err)
		*ret_irqchip = util_steal_ptr(&irqchip);
	return err;
}

int arch_irqchip_start(struct arch_irqchip *irqchip)
{
	int err = set_attr(irqchip->gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT,
			   NULL);

	if (!err && irqchip->v3)
		err = set_attr(irqchip->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
			       KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
	return err;
}

struct irq_msi_pins arch_irqchip_msi_pins(const struct arch_irqchip *irqchip)
{
	if (irqchip->v3)
		return (struct irq_msi_pins){ 0 };
	return (struct irq_msi_pins){ LAYOUT_GICV2M + GICV2M_SETSPI, LAYOUT_SPI_FIRST };
}

void arch_irqchip_free(struct arch_irqchip *irqchip)
{
	if (!irqchip)
		return;
	util_closep(&irqchip->its_fd);
	util_closep(&irqchip->gic_fd);
	free(irqchip);
}

/* ---- reset ---- */

/* A group of registers as KVM addresses them; the first error sticks. */
struct registers {
	int fd, err;
	uint32_t group;
	uint64_t owner; /* of banked ones: the vCPU, in bits 32 to 63 */
};

static void put(struct registers *registers, uint64_t offset, uint32_t value)
{
	if (!registers->err)
		registers->err = set_attr(registers->fd, registers->group,
					  registers->owner | offset, &value);
}

/* The state of interrupts first to end - 1, in the registers that begin at offset. */
static void forget_interrupts(struct registers *registers, uint64_t offset, unsigned int first,
			      unsigned int end, bool v3)
{
	static const struct {
		uint16_t offset;
		uint8_t bits; /* for each interrupt */
		uint32_t value;
	} banks[] = {
		{ 0x180, 1, UINT32_MAX }, /* ICENABLER: none is enabled, */
		{ 0x200, 1, 0 },          /* ISPENDR: none is pending (GICv3), */
		{ 0x280, 1, UINT32_MAX }, /* ICPENDR: none is pending (GICv2), */
		{ 0x380, 1, UINT32_MAX }, /* ICACTIVER: none is active, */
		{ 0x400, 8, 0 },          /* IPRIORITYR */
		{ GICD_ICFGR, 2, 0xaaaaaaaa }, /* edges: what KVM begins with */
	};

	for (size_t i = 0; i < ARRAY_SIZE(banks); i++)
		for (unsigned int bit = first * banks[i].bits; bit < end * banks[i].bits; bit += 32)
			put(registers, offset + banks[i].offset + bit / 8, banks[i].value);
	for (unsigned int bit = first; bit < end; bit += 32)
		put(registers, offset + GICD_IGROUPR + bit / 8, v3 ? UINT32_MAX : 0);
	/* Software-generated ones need not be enabled. */
	if (first == 0)
		put(registers, offset + GICD_ISENABLER, 0xffff);
}

static int reset_distributor(const struct arch_irqchip *irqchip)
{
	struct registers gicd = { .fd = irqchip->gic_fd, .group = KVM_DEV_ARM_VGIC_GRP_DIST_REGS };

	put(&gicd, GICD_CTLR, 0);
	forget_interrupts(&gicd, 0, LAYOUT_SPI_FIRST, irqchip->interrupts, irqchip->v3);
	return gicd.err;
}

static int reset_v2_cpu(const struct arch_irqchip *irqchip, unsigned int index)
{
	const uint64_t owner = (uint64_t)index << KVM_DEV_ARM_VGIC_CPUID_SHIFT;
	struct registers gicd = { .fd = irqchip->gic_fd, .owner = owner,
				  .group = KVM_DEV_ARM_VGIC_GRP_DIST_REGS };
	struct registers gicc = { .fd = irqchip->gic_fd, .owner = owner,
				  .group = KVM_DEV_ARM_VGIC_GRP_CPU_REGS };

	forget_interrupts(&gicd, 0, 0, LAYOUT_SPI_FIRST, false);
	put(&gicc, GICC_CTLR, 0);
	put(&gicc, GICC_PMR, 0);
	put(&gicc, GICC_BPR, 0);
	put(&gicc, GICC_ABPR, 0);
	put(&gicc, GICC_APR0, 0);
	return gicd.err ? gicd.err : gicc.err;
}

/* The CPU interface, which a GICv3 has in system registers. */
static int reset_v3_interface(const struct arch_irqchip *irqchip, uint64_t owner)
{
	static const uint16_t zero[] = {
		ICC_PMR, ICC_BPR0, ICC_BPR1, ICC_IGRPEN0, ICC_IGRPEN1, ICC_AP0R(0), ICC_AP1R(0),
	};
	uint64_t value = 0;
	struct kvm_device_attr attr = {
		.group = KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
		.attr = owner | ICC_CTLR,
		.addr = (uintptr_t)&value,
	};
	int err = ioctl(irqchip->gic_fd, KVM_GET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;

	/* The rest of it says what the host has, and must stay. */
	value &= ~(uint64_t)ICC_CTLR_CBPR_EOIMODE;
	if (!err)
		err = set_attr(irqchip->gic_fd, attr.group, attr.attr, &value);
	value = 0;
	for (size_t i = 0; !err && i < ARRAY_SIZE(zero); i++)
		err = set_attr(irqchip->gic_fd, attr.group, owner | zero[i], &value);
	/* Those of processors with many priorities; others do not have them. */
	for (unsigned int n = 1; !err && n < 4; n++) {
		(void)set_attr(irqchip->gic_fd, attr.group, owner | ICC_AP0R(n), &value);
		(void)set_attr(irqchip->gic_fd, attr.group, owner | ICC_AP1R(n), &value);
	}
	return err;
}

static int reset_v3_cpu(const struct arch_irqchip *irqchip, unsigned int index)
{
	const uint64_t owner = vcpu_affinity(index) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
	struct registers gicr = { .fd = irqchip->gic_fd, .owner = owner,
				  .group = KVM_DEV_ARM_VGIC_GRP_REDIST_REGS };

	/* The tables of LPIs can only be forgotten while LPIs are off. */
	put(&gicr, GICR_CTLR, 0);
	for (uint64_t half = 0; half < 8; half += 4) {
		put(&gicr, GICR_PROPBASER + half, 0);
		put(&gicr, GICR_PENDBASER + half, 0);
	}
	forget_interrupts(&gicr, GICR_SGI_FRAME, 0, LAYOUT_SPI_FIRST, true);
	return gicr.err ? gicr.err : reset_v3_interface(irqchip, owner);
}

int arch_irqchip_reset(struct arch_irqchip *irqchip)
{
	int err = 0;

	if (irqchip->v3)
		err = set_attr(irqchip->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_CTRL_RESET,
			       NULL);
	if (!err)
		err = reset_distributor(irqchip);
	for (unsigned int i = 0; !err && i < irqchip->cpus; i++)
		err = irqchip->v3 ? reset_v3_cpu(irqchip, i) : reset_v2_cpu(irqchip, i);
	return err;
}
