// SPDX-License-Identifier: Apache-2.0
/* vCPUs of the machine's own KVM: what a guest is told of them, and what a reset leaves of the past. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <cmocka.h>
#include "arch/arch.h"
#include "core/util.h"

#define CPUS 3
#define CPUID_MAX 256

struct kvm {
	int fd, vm, vcpu;
	struct arch_irqchip *irqchip;
	struct mem mem;
};

static struct kvm kvm_open(unsigned int index)
{
	const struct mem_backing backing = { 0 };
	struct kvm kvm = { .fd = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
	struct kvm_userspace_memory_region slot = { .memory_size = MIB(2) };

	if (kvm.fd < 0) {
		print_message("skipped: /dev/kvm cannot be opened\n");
		skip();
	}
	kvm.vm = arch_vm_create(kvm.fd);
	assert_true(kvm.vm >= 0);
	assert_int_equal(arch_irqchip_new(kvm.vm, CPUS, &kvm.irqchip), 0);
	assert_int_equal(mem_add(&kvm.mem, 0, slot.memory_size, &backing), 0);
	slot.userspace_addr = (uintptr_t)kvm.mem.regions[0].hva;
	assert_int_equal(ioctl(kvm.vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	kvm.vcpu = ioctl(kvm.vm, KVM_CREATE_VCPU, (unsigned long)index);
	assert_true(kvm.vcpu >= 0);
	assert_int_equal(arch_vcpu_init(kvm.fd, kvm.vm, kvm.vcpu, index, CPUS), 0);
	return kvm;
}

static void kvm_close(struct kvm *kvm)
{
	arch_irqchip_free(kvm->irqchip);
	close(kvm->vcpu);
	close(kvm->vm);
	close(kvm->fd);
	mem_free(&kvm->mem);
}

static void kvm_reset(struct kvm *kvm, unsigned int index)
{
	const struct arch_entry entry = { .pc = MIB(1) };

	assert_int_equal(arch_vcpu_reset(kvm->vm, kvm->vcpu, index), 0);
	assert_int_equal(arch_vcpu_boot(kvm->vcpu, index, &kvm->mem, &entry), 0);
}

static void all_cores_are_in_one_package(void **state)
{
	struct kvm kvm = kvm_open(1);
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(cpuid->entries[0]));
	unsigned int levels = 0;

	(void)state;
	assert_non_null(cpuid);
	cpuid->nent = CPUID_MAX;
	assert_int_equal(ioctl(kvm.vcpu, KVM_GET_CPUID2, cpuid), 0);
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function != 0xb)
			continue;
		/* A thread's id needs no bits, a core's needs two. */
		assert_int_equal(entry->index, levels);
		assert_int_equal(entry->eax, levels ? 2 : 0);
		assert_int_equal(entry->ebx, levels ? CPUS : 1);
		assert_int_equal(entry->ecx, levels | (levels + 1) << 8);
		assert_int_equal(entry->edx, 1);
		levels++;
	}
	assert_int_equal(levels, 2);
	free(cpuid);
	kvm_close(&kvm);
}

static void reset_forgets_an_nmi(void **state)
{
	struct kvm_vcpu_events events;
	struct kvm kvm = kvm_open(0);

	(void)state;
	kvm_reset(&kvm, 0);
	assert_int_equal(ioctl(kvm.vcpu, KVM_NMI), 0);
	assert_int_equal(ioctl(kvm.vcpu, KVM_GET_VCPU_EVENTS, &events), 0);
	assert_int_equal(events.nmi.pending, 1);
	kvm_reset(&kvm, 0);
	assert_int_equal(ioctl(kvm.vcpu, KVM_GET_VCPU_EVENTS, &events), 0);
	assert_int_equal(events.nmi.pending, 0);
	kvm_close(&kvm);
}

/* In x2APIC mode the id stands elsewhere in the register. */
static void reset_leaves_x2apic_mode(void **state)
{
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	struct kvm kvm = kvm_open(1);
	uint32_t id;

	(void)state;
	kvm_reset(&kvm, 1);
	assert_int_equal(ioctl(kvm.vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.apic_base |= 1u << 10;
	assert_int_equal(ioctl(kvm.vcpu, KVM_SET_SREGS, &sregs), 0);
	kvm_reset(&kvm, 1);
	assert_int_equal(ioctl(kvm.vcpu, KVM_GET_SREGS, &sregs), 0);
	assert_int_equal(sregs.apic_base, 0xfee00800);
	assert_int_equal(ioctl(kvm.vcpu, KVM_GET_LAPIC, &lapic), 0);
	memcpy(&id, lapic.regs + 0x20, sizeof(id));
	assert_int_equal(id, 1u << 24);
	kvm_close(&kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_cores_are_in_one_package),
		cmocka_unit_test(reset_forgets_an_nmi),
		cmocka_unit_test(reset_leaves_x2apic_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
