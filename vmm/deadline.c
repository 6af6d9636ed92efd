// SPDX-License-Identifier: Apache-2.0
#include "vmm/deadline.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include "core/chardev.h"

/* A signal handler has no argument. */
static volatile sig_atomic_t deadline_status;

static void on_deadline(int signal)
{
	static const char text[] = "microvm: a device's I/O does not end: leaving without it\n";
	struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };

	(void)signal;
	chardev_restore_terminal();
	/* It may be the log that hangs. */
	if (ppoll(&err, 1, &(struct timespec){ 0 }, NULL) == 1)
		(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(deadline_status);
}

void deadline_set(unsigned int seconds, int status)
{
	const struct sigaction action = { .sa_handler = on_deadline };
	const struct itimerval when = { .it_value.tv_sec = (time_t)seconds };

	deadline_status = status;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &when, NULL);
}
