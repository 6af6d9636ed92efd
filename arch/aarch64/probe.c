// SPDX-License-Identifier: Apache-2.0
/* Without a memory management unit, as a processor starts. */
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include "arch/arch.h"
#include "core/util.h"

#define CODE 0x1000

static const uint32_t code[] = {
	0xd503201f, /*    nop: KVM steps over an instruction when the last round ended in a write */
	0x71000421, /* 1: subs w1, w1, #1 */
	0x54ffffe1, /*    b.ne 1b */
	0xb9000040, /*    str w0, [x2] */
	0x14000000, /*    b . */
};

int arch_probe_guest(int vm_fd, int vcpu_fd, uint8_t *ram, size_t len, uint32_t loops)
{
	const struct {
		uint64_t reg, value;
	} values[] = {
		{ KVM_REG_ARM_CORE_REG(regs.pc), CODE },
		{ KVM_REG_ARM_CORE_REG(regs.regs[1]), loops },
		{ KVM_REG_ARM_CORE_REG(regs.regs[2]), arch_layout.debug_exit.base },
	};
	struct kvm_vcpu_init init;

	if (len < CODE + sizeof(code) || loops == 0)
		return -EINVAL;
	memcpy(ram + CODE, code, sizeof(code));
	if (ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0 ||
	    ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct kvm_one_reg reg = {
			.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | values[i].reg,
			.addr = (uintptr_t)&values[i].value,
		};

		if (ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg) < 0)
			return -errno;
	}
	return 0;
}
