// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm_hints.h"

static const char no_module[] = "this kernel has no KVM, or its module is not loaded: modprobe "
	"kvm-intel or kvm-amd; in a virtual machine, have nested virtualization turned on";
static const char no_permission[] = "permission denied: join the group that owns it (usually kvm), "
	"or run as root";
static const char no_processor[] = "the processor's virtualization is off or in use: enable it in "
	"the firmware's settings, or stop the other hypervisor";

const struct hint kvm_hints[] = {
	{ ENOENT, no_module },
	{ EACCES, no_permission },
	{ EPERM, no_permission },
	{ ENODEV, no_processor },
	{ EBUSY, no_processor },
	{ 0 },
};
