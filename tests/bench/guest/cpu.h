/* SPDX-License-Identifier: Apache-2.0 */
/* The processor: instructions, time, interrupts, the serial port. */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "layout.h"

#define NS_PER_MS 1000000ULL

/* Counted at CPL 0, and how many of them the sleeper knew of (start.S). */
extern volatile uint32_t interrupt_count, interrupts_seen;

static inline uint32_t read32(uintptr_t at)
{
	return *(volatile uint32_t *)at;
}

static inline uint16_t read16(uintptr_t at)
{
	return *(volatile uint16_t *)at;
}

static inline uint8_t read8(uintptr_t at)
{
	return *(volatile uint8_t *)at;
}

static inline void write32(uintptr_t at, uint32_t value)
{
	*(volatile uint32_t *)at = value;
}

static inline void write16(uintptr_t at, uint16_t value)
{
	*(volatile uint16_t *)at = value;
}

static inline void write8(uintptr_t at, uint8_t value)
{
	*(volatile uint8_t *)at = value;
}

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Until there is an interrupt that interrupts_seen does not count. */
static inline void cpu_sleep(void)
{
	__asm__ volatile("int3" : : : "memory");
}

/* Gates, the local APIC, the clock, the serial port. False without a clock. */
bool cpu_init(void);
void cpu_connect_pin(uint32_t pin);
/* Since some time. */
uint64_t cpu_ns(void);
__attribute__((noreturn)) void cpu_exit(void);
void *memset(void *to, int byte, size_t len);

void serial_text(const char *text);
void serial_number(uint64_t number);
/* A line, without its end; what does not fit is lost. */
void serial_line(char *line, size_t size);

#endif
