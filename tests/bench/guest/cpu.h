/* SPDX-License-Identifier: Apache-2.0 */
/* The processor: registers, time, interrupts, the serial port. Each architecture has its own cpu.c. */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_MS 1000000ULL

/* Counted by the architecture's start.S, and how many of them the sleeper knew of. */
extern volatile uint32_t interrupt_count, interrupts_seen;

/* Memory beyond the image, for the data of requests (guest.ld). */
extern uint8_t buffers[];

struct msi {
	uint64_t address;
	uint32_t data;
};

static inline uint64_t read64(uintptr_t at)
{
	return *(volatile uint64_t *)at;
}

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

static inline void write64(uintptr_t at, uint64_t value)
{
	*(volatile uint64_t *)at = value;
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

/* Interrupts, the clock, the serial port. False without a clock. */
bool cpu_init(void);
void cpu_connect_pin(uint32_t pin);
/* What a function of PCI's bus 0 is to write where. */
struct msi cpu_connect_msi(uint32_t function);
/* Only PCs do. */
bool cpu_has_ports(void);
void cpu_out16(uint16_t port, uint16_t value);
void cpu_pause(void);
/* Until there is an interrupt that interrupts_seen does not count. */
void cpu_sleep(void);
/* Since some time. */
uint64_t cpu_ns(void);
__attribute__((noreturn)) void cpu_exit(void);
void *memset(void *to, int byte, size_t len);

void serial_put(char byte);
char serial_get(void);
/* serial.c */
void serial_text(const char *text);
void serial_number(uint64_t number);
/* A line, without its end; what does not fit is lost. */
void serial_line(char *line, size_t size);

#endif
