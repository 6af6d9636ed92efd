// SPDX-License-Identifier: Apache-2.0
/*
 * vCPUs. KVM is the guest's PSCI firmware: it starts and stops vCPUs itself,
 * and tells us of power-off and reset. KVM_ARM_VCPU_INIT is the way to the
 * state after power-on, the first time and each time after.
 */
#include <linux/kvm.h>
#include <linux/psci.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "arch/arch.h"

/* 1 TiB of addresses, as far as every KVM goes unless its processor has less. */
#define ADDRESS_BITS 40

#define CORE_REG(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(name))
#define ESR_EL1 ARM64_SYS_REG(3, 0, 5, 2, 0)
#define FAR_EL1 ARM64_SYS_REG(3, 0, 6, 0, 0)

const char arch_no_kvm[] = "this kernel has no KVM (CONFIG_KVM), or was not started at the "
	"processor's EL2: see dmesg | grep -i kvm; in a virtual machine, have virtualization turned on";

const struct arch_capability arch_capabilities[] = {
	{ KVM_CAP_DEVICE_CTRL, "DEVICE_CTRL", "interrupt controllers with MSIs" },
	{ KVM_CAP_ONE_REG, "ONE_REG", "registers of a processor" },
	{ KVM_CAP_ARM_PSCI_0_2, "ARM_PSCI_0_2", "power-off, reset and more than one processor" },
	{ 0 }
};

int arch_vm_create(int kvm_fd)
{
	int bits = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE), fd;

	/* 0 stands for 40 bits, also for kernels that do not know the capability. */
	fd = ioctl(kvm_fd, KVM_CREATE_VM,
		   bits > 0 && bits < ADDRESS_BITS ? KVM_VM_TYPE_ARM_IPA_SIZE((unsigned long)bits) : 0);
	return fd < 0 ? -errno : fd;
}

static bool has(int vm_fd, long capability)
{
	return ioctl(vm_fd, KVM_CHECK_EXTENSION, capability) > 0;
}

bool vcpu_has_pmu(int vm_fd)
{
	return has(vm_fd, KVM_CAP_ARM_PMU_V3);
}

/* Everything that the host's processor has and KVM passes on. */
static int power_on(int vm_fd, int vcpu_fd, unsigned int index)
{
	struct kvm_vcpu_init init;

	if (ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		return -errno;
	init.features[0] |= 1u << KVM_ARM_VCPU_PSCI_0_2;
	if (index)
		init.features[0] |= 1u << KVM_ARM_VCPU_POWER_OFF;
	if (vcpu_has_pmu(vm_fd))
		init.features[0] |= 1u << KVM_ARM_VCPU_PMU_V3;
	if (has(vm_fd, KVM_CAP_ARM_SVE))
		init.features[0] |= 1u << KVM_ARM_VCPU_SVE;
	if (has(vm_fd, KVM_CAP_ARM_PTRAUTH_ADDRESS) && has(vm_fd, KVM_CAP_ARM_PTRAUTH_GENERIC))
		init.features[0] |= 1u << KVM_ARM_VCPU_PTRAUTH_ADDRESS |
				    1u << KVM_ARM_VCPU_PTRAUTH_GENERIC;
	return ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init) < 0 ? -errno : 0;
}

int arch_vcpu_init(int kvm_fd, int vm_fd, int vcpu_fd, unsigned int index, unsigned int cpus)
{
	int feature = KVM_ARM_VCPU_SVE, err = power_on(vm_fd, vcpu_fd, index);

	(void)kvm_fd;
	(void)cpus;
	if (err || !has(vm_fd, KVM_CAP_ARM_SVE))
		return err;
	/* Of all vector lengths that there are. */
	return ioctl(vcpu_fd, KVM_ARM_VCPU_FINALIZE, &feature) < 0 ? -errno : 0;
}

int arch_vcpu_reset(int vm_fd, int vcpu_fd, unsigned int index)
{
	return power_on(vm_fd, vcpu_fd, index);
}

/* Gives the performance monitor its interrupt, once. It takes an interrupt controller that is started. */
static int start_pmu(int vcpu_fd)
{
	int ppi = LAYOUT_PMU_PPI + 16; /* behind the software-generated ones */
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VCPU_PMU_V3_CTRL,
		.attr = KVM_ARM_VCPU_PMU_V3_IRQ,
		.addr = (uintptr_t)&ppi,
	};

	if (ioctl(vcpu_fd, KVM_HAS_DEVICE_ATTR, &attr) < 0)
		return 0;
	if (ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
		return errno == EBUSY ? 0 : -errno;
	attr.attr = KVM_ARM_VCPU_PMU_V3_INIT;
	return ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}

static int set_reg(int vcpu_fd, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	return ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg) < 0 ? -errno : 0;
}

int arch_vcpu_boot(int vcpu_fd, unsigned int index, const struct mem *mem,
		   const struct arch_entry *entry)
{
	int err = start_pmu(vcpu_fd);

	(void)mem;
	/* The others get their registers when the guest starts them. */
	if (err || index)
		return err;
	err = set_reg(vcpu_fd, CORE_REG(regs.pc), entry->pc);
	if (!err)
		err = set_reg(vcpu_fd, CORE_REG(regs.regs[0]), entry->info);
	return err;
}

bool arch_reset_by_panic(const struct mem *mem, int flags)
{
	(void)mem;
	return flags & KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2;
}

void arch_vcpu_dump(int vcpu_fd, char *buffer, size_t len)
{
	static const struct {
		const char *name;
		uint64_t id;
	} regs[] = {
		{ "pc", CORE_REG(regs.pc) },   { "pstate", CORE_REG(regs.pstate) },
		{ "sp", CORE_REG(sp_el1) },    { "lr", CORE_REG(regs.regs[30]) },
		{ "esr", ESR_EL1 },            { "far", FAR_EL1 },
	};

	*buffer = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		uint64_t value = 0;
		struct kvm_one_reg reg = { .id = regs[i].id, .addr = (uintptr_t)&value };
		size_t at = strlen(buffer);

		if (ioctl(vcpu_fd, KVM_GET_ONE_REG, &reg) == 0)
			snprintf(buffer + at, len - at, "%s%s %#llx", at ? " " : "", regs[i].name,
				 (unsigned long long)value);
	}
}
