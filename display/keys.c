// SPDX-License-Identifier: Apache-2.0
/*
 * A viewer says which character it has, with the modifiers that its user holds
 * pressed of their own: so a character just stands for the key that it is on.
 */
#include "display/keys.h"

#include <linux/input-event-codes.h>
#include <rfb/keysym.h>
#include "core/util.h"

/* Keysyms of ASCII are its codes. */
static const uint16_t characters[] = {
	['a'] = KEY_A, ['A'] = KEY_A, ['b'] = KEY_B, ['B'] = KEY_B, ['c'] = KEY_C, ['C'] = KEY_C,
	['d'] = KEY_D, ['D'] = KEY_D, ['e'] = KEY_E, ['E'] = KEY_E, ['f'] = KEY_F, ['F'] = KEY_F,
	['g'] = KEY_G, ['G'] = KEY_G, ['h'] = KEY_H, ['H'] = KEY_H, ['i'] = KEY_I, ['I'] = KEY_I,
	['j'] = KEY_J, ['J'] = KEY_J, ['k'] = KEY_K, ['K'] = KEY_K, ['l'] = KEY_L, ['L'] = KEY_L,
	['m'] = KEY_M, ['M'] = KEY_M, ['n'] = KEY_N, ['N'] = KEY_N, ['o'] = KEY_O, ['O'] = KEY_O,
	['p'] = KEY_P, ['P'] = KEY_P, ['q'] = KEY_Q, ['Q'] = KEY_Q, ['r'] = KEY_R, ['R'] = KEY_R,
	['s'] = KEY_S, ['S'] = KEY_S, ['t'] = KEY_T, ['T'] = KEY_T, ['u'] = KEY_U, ['U'] = KEY_U,
	['v'] = KEY_V, ['V'] = KEY_V, ['w'] = KEY_W, ['W'] = KEY_W, ['x'] = KEY_X, ['X'] = KEY_X,
	['y'] = KEY_Y, ['Y'] = KEY_Y, ['z'] = KEY_Z, ['Z'] = KEY_Z, ['1'] = KEY_1, ['!'] = KEY_1,
	['2'] = KEY_2, ['@'] = KEY_2, ['3'] = KEY_3, ['#'] = KEY_3, ['4'] = KEY_4, ['$'] = KEY_4,
	['5'] = KEY_5, ['%'] = KEY_5, ['6'] = KEY_6, ['^'] = KEY_6, ['7'] = KEY_7, ['&'] = KEY_7,
	['8'] = KEY_8, ['*'] = KEY_8, ['9'] = KEY_9, ['('] = KEY_9, ['0'] = KEY_0, [')'] = KEY_0,
	['-'] = KEY_MINUS, ['_'] = KEY_MINUS, ['='] = KEY_EQUAL, ['+'] = KEY_EQUAL,
	['['] = KEY_LEFTBRACE, ['{'] = KEY_LEFTBRACE,
	[']'] = KEY_RIGHTBRACE, ['}'] = KEY_RIGHTBRACE,
	['\\'] = KEY_BACKSLASH, ['|'] = KEY_BACKSLASH,
	[';'] = KEY_SEMICOLON, [':'] = KEY_SEMICOLON,
	['\''] = KEY_APOSTROPHE, ['"'] = KEY_APOSTROPHE, ['`'] = KEY_GRAVE, ['~'] = KEY_GRAVE,
	[','] = KEY_COMMA, ['<'] = KEY_COMMA, ['.'] = KEY_DOT, ['>'] = KEY_DOT,
	['/'] = KEY_SLASH, ['?'] = KEY_SLASH, [' '] = KEY_SPACE,
};

/* The keysyms of 0xff00 on. */
static const uint16_t functions[] = {
	[XK_BackSpace & 0xff] = KEY_BACKSPACE, [XK_Tab & 0xff] = KEY_TAB,
	[XK_Linefeed & 0xff] = KEY_LINEFEED, [XK_Return & 0xff] = KEY_ENTER,
	[XK_Pause & 0xff] = KEY_PAUSE, [XK_Scroll_Lock & 0xff] = KEY_SCROLLLOCK,
	[XK_Sys_Req & 0xff] = KEY_SYSRQ, [XK_Escape & 0xff] = KEY_ESC,
	[XK_Home & 0xff] = KEY_HOME, [XK_Left & 0xff] = KEY_LEFT, [XK_Up & 0xff] = KEY_UP,
	[XK_Right & 0xff] = KEY_RIGHT, [XK_Down & 0xff] = KEY_DOWN,
	[XK_Page_Up & 0xff] = KEY_PAGEUP, [XK_Page_Down & 0xff] = KEY_PAGEDOWN,
	[XK_End & 0xff] = KEY_END, [XK_Print & 0xff] = KEY_SYSRQ, [XK_Insert & 0xff] = KEY_INSERT,
	[XK_Menu & 0xff] = KEY_COMPOSE, [XK_Break & 0xff] = KEY_PAUSE,
	[XK_Num_Lock & 0xff] = KEY_NUMLOCK, [XK_KP_Enter & 0xff] = KEY_KPENTER,
	[XK_KP_Home & 0xff] = KEY_KP7, [XK_KP_Left & 0xff] = KEY_KP4, [XK_KP_Up & 0xff] = KEY_KP8,
	[XK_KP_Right & 0xff] = KEY_KP6, [XK_KP_Down & 0xff] = KEY_KP2,
	[XK_KP_Page_Up & 0xff] = KEY_KP9, [XK_KP_Page_Down & 0xff] = KEY_KP3,
	[XK_KP_End & 0xff] = KEY_KP1, [XK_KP_Begin & 0xff] = KEY_KP5,
	[XK_KP_Insert & 0xff] = KEY_KP0, [XK_KP_Delete & 0xff] = KEY_KPDOT,
	[XK_KP_Equal & 0xff] = KEY_KPEQUAL, [XK_KP_Multiply & 0xff] = KEY_KPASTERISK,
	[XK_KP_Add & 0xff] = KEY_KPPLUS, [XK_KP_Separator & 0xff] = KEY_KPCOMMA,
	[XK_KP_Subtract & 0xff] = KEY_KPMINUS, [XK_KP_Decimal & 0xff] = KEY_KPDOT,
	[XK_KP_Divide & 0xff] = KEY_KPSLASH, [XK_KP_0 & 0xff] = KEY_KP0,
	[XK_KP_1 & 0xff] = KEY_KP1, [XK_KP_2 & 0xff] = KEY_KP2, [XK_KP_3 & 0xff] = KEY_KP3,
	[XK_KP_4 & 0xff] = KEY_KP4, [XK_KP_5 & 0xff] = KEY_KP5, [XK_KP_6 & 0xff] = KEY_KP6,
	[XK_KP_7 & 0xff] = KEY_KP7, [XK_KP_8 & 0xff] = KEY_KP8, [XK_KP_9 & 0xff] = KEY_KP9,
	[XK_F1 & 0xff] = KEY_F1, [XK_F2 & 0xff] = KEY_F2, [XK_F3 & 0xff] = KEY_F3,
	[XK_F4 & 0xff] = KEY_F4, [XK_F5 & 0xff] = KEY_F5, [XK_F6 & 0xff] = KEY_F6,
	[XK_F7 & 0xff] = KEY_F7, [XK_F8 & 0xff] = KEY_F8, [XK_F9 & 0xff] = KEY_F9,
	[XK_F10 & 0xff] = KEY_F10, [XK_F11 & 0xff] = KEY_F11, [XK_F12 & 0xff] = KEY_F12,
	[XK_F13 & 0xff] = KEY_F13, [XK_F14 & 0xff] = KEY_F14, [XK_F15 & 0xff] = KEY_F15,
	[XK_F16 & 0xff] = KEY_F16, [XK_F17 & 0xff] = KEY_F17, [XK_F18 & 0xff] = KEY_F18,
	[XK_F19 & 0xff] = KEY_F19, [XK_F20 & 0xff] = KEY_F20, [XK_F21 & 0xff] = KEY_F21,
	[XK_F22 & 0xff] = KEY_F22, [XK_F23 & 0xff] = KEY_F23, [XK_F24 & 0xff] = KEY_F24,
	[XK_Shift_L & 0xff] = KEY_LEFTSHIFT, [XK_Shift_R & 0xff] = KEY_RIGHTSHIFT,
	[XK_Control_L & 0xff] = KEY_LEFTCTRL, [XK_Control_R & 0xff] = KEY_RIGHTCTRL,
	[XK_Caps_Lock & 0xff] = KEY_CAPSLOCK, [XK_Meta_L & 0xff] = KEY_LEFTMETA,
	[XK_Meta_R & 0xff] = KEY_RIGHTMETA, [XK_Alt_L & 0xff] = KEY_LEFTALT,
	[XK_Alt_R & 0xff] = KEY_RIGHTALT, [XK_Super_L & 0xff] = KEY_LEFTMETA,
	[XK_Super_R & 0xff] = KEY_RIGHTMETA, [XK_Delete & 0xff] = KEY_DELETE,
};

#define FUNCTIONS 0xff00
#define ISO_LEFT_TAB 0xfe20 /* what a Tab is with Shift */
#define ISO_LEVEL3_SHIFT 0xfe03

uint16_t keys_find(uint32_t keysym)
{
	if (keysym < ARRAY_SIZE(characters))
		return characters[keysym];
	if (keysym >= FUNCTIONS && keysym - FUNCTIONS < ARRAY_SIZE(functions))
		return functions[keysym - FUNCTIONS];
	if (keysym == ISO_LEFT_TAB)
		return KEY_TAB;
	return keysym == ISO_LEVEL3_SHIFT ? KEY_RIGHTALT : 0;
}
