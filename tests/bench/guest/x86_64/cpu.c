// SPDX-License-Identifier: Apache-2.0
#include "cpu.h"

#include <linux/serial_reg.h>
#include "layout.h"

#define GATE_PRESENT (1ULL << 47)
#define GATE_INTERRUPT (0xeULL << 40)
#define GATE_CPL3 (3ULL << 45)
#define GATE_CODE0 (0x08ULL << 16)
#define LAPIC_ENABLED 0x100

struct gate {
	uint64_t low, high;
};

/* What KVM tells about the TSC (Documentation/virt/kvm/x86/msr.rst). */
struct pvclock {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad2[2];
};

extern struct gate idt[IDT_LEN / sizeof(struct gate)];
extern volatile struct pvclock clock;
extern const char on_interrupt[], on_spurious[], on_sleep[], on_fault[];

static void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void set_gate(unsigned int vector, const char *handler, uint64_t who)
{
	uint64_t at = (uintptr_t)handler;

	idt[vector] = (struct gate){
		.low = (at & 0xffff) | GATE_CODE0 | GATE_INTERRUPT | who | GATE_PRESENT |
		       (at & 0xffff0000) << 32,
	};
}

bool cpu_init(void)
{
	for (unsigned int i = 0; i < sizeof(idt) / sizeof(*idt); i++)
		set_gate(i, on_fault, 0);
	set_gate(VECTOR_SLEEP, on_sleep, GATE_CPL3);
	set_gate(VECTOR_DEVICE, on_interrupt, 0);
	set_gate(VECTOR_SPURIOUS, on_spurious, 0);
	write32(LAPIC + LAPIC_SPURIOUS, LAPIC_ENABLED | VECTOR_SPURIOUS);
	outb(SERIAL + UART_FCR, UART_FCR_ENABLE_FIFO);
	return clock.tsc_to_system_mul;
}

/* Edge-triggered, to this processor. */
void cpu_connect_pin(uint32_t pin)
{
	write32(IOAPIC, 0x11 + 2 * pin);
	write32(IOAPIC + 0x10, 0);
	write32(IOAPIC, 0x10 + 2 * pin);
	write32(IOAPIC + 0x10, VECTOR_DEVICE);
}

/* The same for all. */
struct msi cpu_connect_msi(uint32_t function)
{
	(void)function;
	return (struct msi){ LAPIC, VECTOR_DEVICE };
}

bool cpu_has_ports(void)
{
	return true;
}

void cpu_out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

void cpu_sleep(void)
{
	__asm__ volatile("int3" : : : "memory");
}

uint64_t cpu_ns(void)
{
	int8_t shift = clock.tsc_shift;
	uint32_t low, high;
	uint64_t cycles;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	cycles = (uint64_t)high << 32 | low;
	cycles = shift < 0 ? cycles >> -shift : cycles << shift;
	return (uint64_t)((unsigned __int128)cycles * clock.tsc_to_system_mul >> 32);
}

/* The compiler calls it. */
void *memset(void *to, int byte, size_t len)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(byte) : "memory");
	return to;
}

void cpu_exit(void)
{
	for (;;)
		outl(DEBUG_EXIT, 1);
}

void serial_put(char byte)
{
	outb(SERIAL + UART_TX, (uint8_t)byte);
}

char serial_get(void)
{
	while (!(inb(SERIAL + UART_LSR) & UART_LSR_DR))
		cpu_pause();
	return (char)inb(SERIAL + UART_RX);
}
