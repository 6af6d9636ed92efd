// SPDX-License-Identifier: Apache-2.0
#include "cpu.h"

#include <linux/psci.h>
#include <linux/serial_reg.h>
#include "gic.h"
#include "layout.h"

#define NS_PER_S 1000000000ULL

/* QEMU's serial port is a PL011, microvm's a 16550. */
#define PL011_DR 0x0
#define PL011_FR 0x18
#define PL011_FR_RXFE 0x10
#define PL011_ID 0xfe0
#define PL011_ID_VALUE 0x11

__attribute__((noreturn)) void on_fault(void);

static bool is_pl011(void)
{
	return read32(SERIAL + PL011_ID) == PL011_ID_VALUE;
}

bool cpu_init(void)
{
	gic_init();
	if (!is_pl011())
		write8(SERIAL + UART_FCR, UART_FCR_ENABLE_FIFO);
	__asm__ volatile("msr daifclr, 2" : : : "memory");
	return true;
}

bool cpu_has_ports(void)
{
	return false;
}

void cpu_out16(uint16_t port, uint16_t value)
{
	(void)port;
	(void)value;
}

void cpu_pause(void)
{
	__asm__ volatile("yield" : : : "memory");
}

/* An interrupt that is pending ends wfi, masked or not. */
void cpu_sleep(void)
{
	__asm__ volatile("msr daifset, 2" : : : "memory");
	if (interrupts_seen == interrupt_count)
		__asm__ volatile("wfi" : : : "memory");
	__asm__ volatile("msr daifclr, 2" : : : "memory");
}

uint64_t cpu_ns(void)
{
	uint64_t cycles, frequency;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tmrs %1, cntfrq_el0"
			 : "=r"(cycles), "=r"(frequency) : : "memory");
	return (uint64_t)((unsigned __int128)cycles * ((NS_PER_S << 32) / frequency) >> 32);
}

/* The compiler calls it; volatile, lest it do so here. */
void *memset(void *to, int byte, size_t len)
{
	volatile uint8_t *at = to;

	while (len--)
		*at++ = (uint8_t)byte;
	return to;
}

void cpu_exit(void)
{
	register uint64_t function __asm__("x0") = PSCI_0_2_FN_SYSTEM_OFF;

	for (;;)
		__asm__ volatile("hvc 0" : "+r"(function) : : "memory");
}

void on_fault(void)
{
	serial_text("! an exception\n");
	cpu_exit();
}

void serial_put(char byte)
{
	write8(SERIAL, (uint8_t)byte);
}

static bool serial_empty(void)
{
	if (is_pl011())
		return read32(SERIAL + PL011_FR) & PL011_FR_RXFE;
	return !(read8(SERIAL + UART_LSR) & UART_LSR_DR);
}

char serial_get(void)
{
	while (serial_empty())
		cpu_pause();
	return (char)read8(SERIAL);
}
