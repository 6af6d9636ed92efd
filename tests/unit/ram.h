/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory for tests of rings: two regions that touch, with pages in
 * between that nobody may touch, and one page with nothing behind it.
 */
#ifndef TESTS_UNIT_RAM_H
#define TESTS_UNIT_RAM_H

#include <signal.h>
#include <sys/mman.h>
#include "core/mem.h"
#include "core/util.h"

#define RAM_PAGE 0x1000
#define RAM_A 0x10000
#define RAM_B 0x20000 /* right behind A */
#define RAM_LEN 0x10000
#define RAM_LAST 0x40000

struct ram {
	struct mem mem;
	uint8_t *mapping;
};

#define RAM_MAPPING (2 * (RAM_LEN + RAM_PAGE) + 2 * RAM_PAGE)

/* len bytes of the mapping at offset become RAM at gpa; the page behind stays out of reach. */
static inline void ram_add(struct ram *ram, uint64_t gpa, size_t offset, size_t len)
{
	assert_int_equal(mprotect(ram->mapping + offset, len, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(mem_add_at(&ram->mem, gpa, len, ram->mapping + offset), 0);
}

static inline void ram_init(struct ram *ram)
{
	ram->mem = (struct mem){ 0 };
	ram->mapping = mmap(NULL, RAM_MAPPING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(ram->mapping, MAP_FAILED);
	/* B before A, so that a copy which runs over the end of A does not find B. */
	ram_add(ram, RAM_B, 0, RAM_LEN);
	ram_add(ram, RAM_A, RAM_LEN + RAM_PAGE, RAM_LEN);
	ram_add(ram, RAM_LAST, 2 * (RAM_LEN + RAM_PAGE), RAM_PAGE);
}

static inline void ram_free(struct ram *ram)
{
	munmap(ram->mapping, RAM_MAPPING);
	mem_free(&ram->mem);
}

/* The host's side of gpa. */
static inline void *ram_at(struct ram *ram, uint64_t gpa)
{
	return mem_ptr(&ram->mem, gpa, 1);
}

/* Whoever acts in the middle of the device's turn. A signal's handler has no argument. */
static struct {
	void *page;
	void (*act)(void *arg);
	void *arg;
} ram_moment;

static inline void ram_on_fault(int signal)
{
	(void)signal;
	mprotect(ram_moment.page, RAM_PAGE, PROT_READ | PROT_WRITE);
	ram_moment.act(ram_moment.arg);
}

/* act(arg) happens just before the next write to the page, whose fault is the moment. */
static inline void ram_at_next_write(void *page, void (*act)(void *arg), void *arg)
{
	struct sigaction action = { .sa_handler = ram_on_fault, .sa_flags = (int)SA_RESETHAND };

	ram_moment.page = page;
	ram_moment.act = act;
	ram_moment.arg = arg;
	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
	assert_int_equal(mprotect(page, RAM_PAGE, PROT_READ), 0);
}

#endif
