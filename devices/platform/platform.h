/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that are not virtio: a serial port, a clock, and the ways a guest ends. */
#ifndef DEVICES_PLATFORM_PLATFORM_H
#define DEVICES_PLATFORM_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>
#include "core/bus.h"
#include "core/chardev.h"
#include "core/irq.h"
#include "core/loop.h"

/* What a guest asked for by writing a register. */
enum platform_request {
	PLATFORM_POWER_OFF,
	PLATFORM_REBOOT,
	PLATFORM_PANIC,      /* the kernel panicked */
	PLATFORM_CRASH_LOAD, /* it panicked and goes on into a crash kernel */
	PLATFORM_EXIT,       /* debug-exit: code is the exit status */
};

/* Told on the vCPU thread that wrote. */
struct platform_host {
	void *opaque;
	void (*request)(void *opaque, enum platform_request request, int code);
};

/*
 * pvpanic (QEMU docs/specs/pvpanic): one byte; reading tells the events that are
 * understood, writing reports one. opaque of all three is a struct platform_host.
 */
#define PVPANIC_LEN 1
extern const struct bus_ops pvpanic_ops;

/*
 * isa-debug-exit as QEMU has it: a write of value ends the run with exit
 * status (value << 1 | 1) & 0xff.
 */
#define DEBUG_EXIT_LEN 4
extern const struct bus_ops debug_exit_ops;

/*
 * The ACPI hardware-reduced sleep and reset registers (ACPI 6.4, section
 * 4.8.3.7): at offset 0 sleep control, 1 sleep status, 2 reset.
 */
#define POWER_LEN 3
#define POWER_SLEEP_CONTROL 0
#define POWER_SLEEP_STATUS 1
#define POWER_RESET 2
#define POWER_S5_TYPE 5     /* SLP_TYP of the \_S5 object */
#define POWER_RESET_VALUE 1 /* what the FADT tells the guest to write */
extern const struct bus_ops power_ops;

/*
 * A 16550A. vCPU threads touch its registers under its lock; a loop, which its
 * owner runs, moves bytes between its rings and the chardev. A full transmit
 * ring shows in LSR, so that a slow reader slows the guest and nothing is lost.
 */
struct uart;
#define UART_LEN 8
extern const struct bus_ops uart_ops; /* opaque: struct uart */

/*
 * chardev, line and loop outlive the uart. escape is told, on the loop's
 * thread, what a person at a terminal asked for. -errno.
 */
int uart_new(struct chardev *chardev, const struct irq_line *line, struct loop *loop,
	     void (*escape)(void *opaque, enum chardev_escape escape), void *opaque,
	     struct uart **ret_uart);
/* The fds that the loop's thread needs, its interrupt's among them; returns how many. */
#define UART_FDS_MAX (CHARDEV_FDS_MAX + 2)
size_t uart_fds(const struct uart *uart, int fds[UART_FDS_MAX]);
/* Delivers what the ring still holds, for two seconds at the most; on the loop's thread. */
void uart_drain(struct uart *uart);
/* Back to the state after power-on. */
void uart_reset(struct uart *uart);
void uart_free(struct uart *uart);

/*
 * A PL061 whose one input is the power button. As registers go it is Arm's own,
 * except that its interrupt is an edge. line outlives it.
 */
struct pl061;
#define PL061_LEN 0x1000
#define PL061_BUTTON 3 /* the line that is high while the button is down */
extern const struct bus_ops pl061_ops; /* opaque: struct pl061 */

int pl061_new(const struct irq_line *line, struct pl061 **ret_gpio);
/* From any thread. The button goes up again when the guest has seen it down. */
void pl061_press(struct pl061 *gpio);
/* The registers' state after power-on; a button that nobody has seen yet stays down. */
void pl061_reset(struct pl061 *gpio);
void pl061_free(struct pl061 *gpio);

/* A PL031: the host's real time in seconds, until the guest sets another, and no alarm. */
struct pl031;
#define PL031_LEN 0x1000
extern const struct bus_ops pl031_ops; /* opaque: struct pl031 */

int pl031_new(struct pl031 **ret_rtc);
/* Back to the host's time, as after power-on. */
void pl031_reset(struct pl031 *rtc);
void pl031_free(struct pl031 *rtc);

#endif
