/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a machine, from the configuration to the exit status. */
#ifndef VMM_VM_H
#define VMM_VM_H

struct config;
struct sandbox;

/*
 * What the main thread calls while the guest runs: KVM, all of it, since a reset sets all
 * registers; the terminal's settings; files to remove; the kernel to load again; the deadline; the
 * summary, which stdio seeks in; locks of images, to give them up; the end of the display's program. Wants seccomp/filter.h,
 * <fcntl.h>, <linux/kvm.h>, <signal.h> and <sys/ioctl.h>.
 */
#define MAIN_CALLS \
	SC_MASK(ioctl, 1, 0xff00, KVMIO << 8), \
	SC_ARG(ioctl, 1, TCGETS), SC_ARG(ioctl, 1, TCSETS), SC_ARG(ioctl, 1, TCSETSW), \
	SC_ARG(ioctl, 1, TCSETSF), SC_ARG(ioctl, 1, TIOCGWINSZ), \
	SC(unlinkat), SC(pread64), SC(getrusage), SC(setitimer), \
	SC_ARG(rt_sigaction, 0, SIGALRM), SC(lseek), SC_ARG(fcntl, 1, F_OFD_SETLK), SC(wait4)

/* The sandbox of these. */
extern const struct sandbox main_sandbox;

/*
 * Builds, confines and runs the machine until the guest ends or somebody ends
 * it; puts the terminal back. Returns the process's exit status (the table in
 * vm.c); whatever went wrong was reported.
 */
int vm_run(const struct config *config);

#endif
