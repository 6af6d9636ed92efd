/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_GIC_H
#define GUEST_GIC_H

/* The distributor, this processor's interface, the ITS. */
void gic_init(void);

#endif
