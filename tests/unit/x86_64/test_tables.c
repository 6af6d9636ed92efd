// SPDX-License-Identifier: Apache-2.0
/* The processor has two more tables of system calls, by whose numbers a filter must not be passed. */
#include "seccomp/filter.h"
#include "tests/lib/child.h"

#define VIOLATION 103

static int call_as_i386(void *arg)
{
	long result;

	(void)arg;
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(filter_enter(NULL) == 0);
	/* getpid of i386, which is writev's number of x86_64: permitted there. */
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
	return result > 0 ? 0 : 1;
}

static void i386_is_refused(void **state)
{
	struct child child = child_run(geteuid(), call_as_i386, NULL);

	(void)state;
	/* A kernel without IA32 emulation. */
	if (child.status == -SIGSEGV)
		return;
	child_ended(&child, VIOLATION);
	assert_non_null(strstr(child.text, "system call unknown (20)"));
}

static int call_as_x32(void *arg)
{
	(void)arg;
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(filter_enter(NULL) == 0);
	return syscall(0x40000000 + SYS_getpid) > 0 ? 0 : 1;
}

static void x32_is_refused(void **state)
{
	struct child child = child_run(geteuid(), call_as_x32, NULL);

	(void)state;
	child_ended(&child, VIOLATION);
	assert_non_null(strstr(child.text, "system call unknown (1073741863)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(i386_is_refused),
		cmocka_unit_test(x32_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
