/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest and its peer on the tap tell each other: frames of two types. */
#ifndef GUEST_FRAME_H
#define GUEST_FRAME_H

/* IEEE 802's types for experiments. */
#define TYPE_DATA 0x88b5
#define TYPE_ASK 0x88b6 /* asks for ASK_AT_ONCE frames of data, as long as this one */

#define ASK_AT_ONCE 64

#endif
