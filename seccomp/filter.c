// SPDX-License-Identifier: Apache-2.0
/*
 * A refused call traps (SIGSYS) instead of killing: a VM that ends without a
 * word cannot be told from one that crashed, and after an update of the C
 * library the name of the new call is all that the repair needs. The handler
 * runs under the very filter that tripped, so all it does is in the base set.
 *
 * A signal handler has no argument: what it needs to know is static.
 */
#include "seccomp/filter.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include "core/util.h"

#define FILTER_EXIT_STATUS 103

static const char *const syscall_names[] = {
#include "syscall-names.h"
};

/* Where libc moved from one call to another, both are here. */
static const struct sandbox_rule base[] = {
	/* A loop: wait, be woken, use what is open. */
#ifdef SYS_epoll_wait
	SC(epoll_wait),
#endif
	SC(epoll_pwait),     /* epoll_wait() where there is no such call (aarch64) */
	SC(epoll_pwait2),    /* the same for newer libcs */
	SC(epoll_ctl),       /* devices watch and unwatch as they fill up and drain */
	SC(timerfd_settime), /* timer_set() */
	SC(read),
	SC(write),
	SC(readv),
	SC(writev),
	SC(close),
	SC(ppoll), /* log_at() looks whether anybody reads; irq_line_pending() whether there is one */

	/* Time, where the vDSO passes it on to the kernel. */
	SC(clock_gettime),
	SC(gettimeofday),
	SC(clock_nanosleep), /* nanosleep() since glibc 2.28 */
	SC(nanosleep),
	SC(restart_syscall), /* how the kernel resumes a sleep after a stop */

	/* malloc. Nothing becomes executable. */
	SC(brk),
	SC_MASK(mmap, 2, PROT_EXEC, 0),
	SC_MASK(mprotect, 2, PROT_EXEC, 0),
	SC(mremap),
	SC(munmap),
	SC(madvise),   /* malloc gives pages back; so does a thread that ends, from its stack */
	SC(getrandom), /* malloc's keys */

	/* Locks, and the end of a thread or of all. */
	SC(futex),
	SC(sched_yield),
	SC(rseq),            /* a thread unregisters */
	SC(set_robust_list), /* the same */
	SC(exit),
	SC(exit_group),

	/* abort() and assert(), pthread_kill(), a handler's return. */
	SC(rt_sigprocmask),
	SC_ARG(rt_sigaction, 0, SIGABRT),
	SC(rt_sigreturn),
	SC(sigaltstack), /* a sanitizer's threads give theirs back */
	SC(getpid),
	SC(gettid),

	/* Every way out puts the terminal back: tcsetattr() looks first; the last two since 2.42. */
	SC_ARG(ioctl, 1, TCGETS),
	SC_ARG(ioctl, 1, TCSETS),
	SC_ARG(ioctl, 1, TCGETS2),
	SC_ARG(ioctl, 1, TCSETS2),
};

static void (*filter_before_exit)(void);
static _Thread_local const char *filter_thread = "main";

static struct iovec filter_text(const char *text)
{
	return (struct iovec){ .iov_base = (char *)text, .iov_len = strlen(text) };
}

static const char *filter_call_name(const siginfo_t *info)
{
	if (info->si_arch != seccomp_arch_native() || info->si_syscall < 0 ||
	    (size_t)info->si_syscall >= ARRAY_SIZE(syscall_names) ||
	    !syscall_names[info->si_syscall])
		return "unknown";
	return syscall_names[info->si_syscall];
}

static void filter_violated(int signal, siginfo_t *info, void *context)
{
	char number[sizeof("4294967295")], *digits = number + sizeof(number) - 1;
	unsigned int rest = (unsigned int)info->si_syscall;

	(void)signal;
	(void)context;
	*digits = '\0';
	do
		*--digits = (char)('0' + rest % 10);
	while (rest /= 10);

	const struct iovec line[] = {
		filter_text("microvm: thread "),
		filter_text(filter_thread),
		filter_text(" was stopped at system call "),
		filter_text(filter_call_name(info)),
		filter_text(" ("),
		filter_text(digits),
		filter_text("): this is a bug or an attack; please report it with this line\n"),
	};

	if (filter_before_exit)
		filter_before_exit();
	(void)!writev(STDERR_FILENO, line, ARRAY_SIZE(line)); /* the status tells, too */
	_exit(FILTER_EXIT_STATUS);
}

int filter_report_violations(void (*before_exit)(void))
{
	struct sigaction action = {
		.sa_sigaction = filter_violated,
		.sa_flags = SA_SIGINFO,
	};

	/* Level 1 has all that filter_enter() asks for; finding the real one takes nine calls. */
	if (seccomp_api_set(1) < 0)
		return -EOPNOTSUPP;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	filter_before_exit = before_exit;
	sigfillset(&action.sa_mask);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

void filter_name_thread(const char *name)
{
	filter_thread = name;
	prctl(PR_SET_NAME, name);
}

static int filter_allow(scmp_filter_ctx filter, const struct sandbox_rule *rules, size_t count)
{
	for (const struct sandbox_rule *rule = rules; rule < rules + count; rule++) {
		struct scmp_arg_cmp cmp = {
			.arg = (unsigned int)rule->arg,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = rule->mask,
			.datum_b = rule->value,
		};
		int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->nr,
						rule->arg >= 0, &cmp);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static void filter_releasep(scmp_filter_ctx *filter)
{
	if (*filter)
		seccomp_release(*filter);
}

int filter_enter(const struct sandbox *extra)
{
	_cleanup_(filter_releasep) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	/* Signals only to threads of this process: a child whose parent has a filter as well sends none. */
	const struct sandbox_rule own_threads = SC_ARG(tgkill, 0, (uint64_t)getpid());
	int rc;

	if (!filter)
		return -ENOMEM;

	rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
	if (rc == 0)
		/* Done once, for all threads, by filter_report_violations(). */
		rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
	if (rc == 0)
		/* A binary tree: both loading the filter and each call take less time. */
		rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (rc == 0)
		rc = filter_allow(filter, base, ARRAY_SIZE(base));
	if (rc == 0)
		rc = filter_allow(filter, &own_threads, 1);
	if (rc == 0 && extra)
		rc = filter_allow(filter, extra->rules, extra->count);
	return rc < 0 ? rc : seccomp_load(filter);
}
