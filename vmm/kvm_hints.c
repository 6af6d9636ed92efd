// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm_hints.h"

#include "arch/arch.h"

static const char no_permission[] = "permission denied: join the group that owns it (usually kvm), "
	"or run as root";
static const char no_processor[] = "the processor's virtualization is off or in use: enable it in "
	"the firmware's settings, or stop the other hypervisor";

const struct hint kvm_hints[] = {
	{ ENOENT, arch_no_kvm },
	{ EACCES, no_permission },
	{ EPERM, no_permission },
	{ ENODEV, no_processor },
	{ EBUSY, no_processor },
	{ 0 },
};
