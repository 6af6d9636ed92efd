/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's machine, as far as both VMMs have it at the same place. */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define SERIAL 0x3f8
#define DEBUG_EXIT 0xf4
#define IOAPIC 0xfec00000
#define LAPIC 0xfee00000
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_EOI 0xb0

#define IDT_LEN 4096
#define VECTOR_SLEEP 3
#define VECTOR_DEVICE 0x40
#define VECTOR_SPURIOUS 0xff

#endif
