/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter compiler: a thread's system calls as data, beside the code that
 * makes them.
 *
 *	static const struct sandbox rng_sandbox = SANDBOX(SC(getrandom));
 *
 * The compiler checks the names. What a filter refuses ends the process with a
 * line that names the thread and the call.
 */
#ifndef SECCOMP_FILTER_H
#define SECCOMP_FILTER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

struct sandbox_rule {
	int nr;
	int arg; /* the argument whose bits under mask must equal value; -1: any will do */
	uint64_t mask;
	uint64_t value;
};

struct sandbox {
	const struct sandbox_rule *rules;
	size_t count;
};

/* The call, whatever its arguments. */
#define SC(name) { .nr = SYS_##name, .arg = -1 }
/* The call, only with its argument number index (from 0) equal to want. */
#define SC_ARG(name, index, want) SC_MASK(name, index, UINT64_MAX, want)
/* The same, looking only at the bits in bits. */
#define SC_MASK(name, index, bits, want) \
	{ .nr = SYS_##name, .arg = (index), .mask = (bits), .value = (want) }

#define SANDBOX(...)                                                        \
	{                                                                   \
		.rules = (const struct sandbox_rule[]){ __VA_ARGS__ },      \
		.count = sizeof((const struct sandbox_rule[]){ __VA_ARGS__ }) / \
			 sizeof(struct sandbox_rule),                       \
	}

/*
 * Confines the calling thread to the base set (what the C library and a loop
 * need: see filter.c) and, where extra is not NULL, its rules. Filters only
 * ever narrow. Wants no_new_privs. -errno.
 */
int filter_enter(const struct sandbox *extra);

/*
 * Call it first, and before there are other threads. Sets no_new_privs and
 * installs the SIGSYS handler, which writes "thread NAME was stopped at system
 * call CALL" and ends the process with exit status 103. before_exit, which may
 * be NULL, is called first, on the thread that tripped; it must be
 * async-signal-safe and content with the base set (it restores the terminal).
 */
int filter_report_violations(void (*before_exit)(void));

/* The calling thread's name in reports and in /proc. Not copied. */
void filter_name_thread(const char *name);

#endif
