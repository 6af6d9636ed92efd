// SPDX-License-Identifier: Apache-2.0
/*
 * Process 1 of a guest whose start is timed, all of its root file system but
 * modules: it loads those in the order of their names, says on the console how
 * long the kernel has been up, and powers off if "then=off" is on the kernel's
 * command line.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void load_modules(void)
{
	struct dirent **names;
	int count;

	if (chdir("/modules") < 0)
		return;
	count = scandir(".", &names, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		int fd = open(names[i]->d_name, O_RDONLY);

		syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
}

int main(void)
{
	struct timespec up;
	int fd;

	load_modules();
	/* The console may come up some time after its driver. */
	while ((fd = open("/dev/console", O_WRONLY)) < 0)
		usleep(500);
	clock_gettime(CLOCK_BOOTTIME, &up);
	dprintf(fd, "=> init %ld.%06ld\n", (long)up.tv_sec, up.tv_nsec / 1000);
	if (getenv("then"))
		reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
