/* SPDX-License-Identifier: Apache-2.0 */
/* What the device tree and the interrupt controllers want to know of vCPUs. */
#ifndef ARCH_AARCH64_VCPU_H
#define ARCH_AARCH64_VCPU_H

#include <stdbool.h>
#include <stdint.h>

/* The affinity fields of MPIDR_EL1 that KVM gives vCPU number index: Aff0 has 16 values, as in a GICv3. */
static inline uint64_t vcpu_affinity(unsigned int index)
{
	return (index & 0xf) | (uint64_t)(index >> 4) << 8;
}

/* Whether vCPUs of this VM have a performance monitor, with the interrupt LAYOUT_PMU_PPI. */
bool vcpu_has_pmu(int vm_fd);

#endif
