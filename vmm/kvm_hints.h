/* SPDX-License-Identifier: Apache-2.0 */
/* What a user is told when KVM refuses, in a run and by microvm check. */
#ifndef VMM_KVM_HINTS_H
#define VMM_KVM_HINTS_H

#include "core/util.h"

/* For opening /dev/kvm and making a virtual machine. */
extern const struct hint kvm_hints[];

#endif
