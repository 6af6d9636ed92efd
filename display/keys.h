/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DISPLAY_KEYS_H
#define DISPLAY_KEYS_H

#include <stdint.h>

/* The key of a US keyboard (KEY_... of <linux/input-event-codes.h>) that has an X keysym on it; 0: none. */
uint16_t keys_find(uint32_t keysym);

#endif
