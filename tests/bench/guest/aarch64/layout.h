/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's machine, as far as both VMMs have it at the same place. */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define GICD 0x08000000
#define ITS 0x08080000
#define GICR 0x080a0000
#define SERIAL 0x09000000
#define RAM 0x40000000

#define INTID_SPECIAL 1020 /* and the three that follow: there is no interrupt */

#endif
