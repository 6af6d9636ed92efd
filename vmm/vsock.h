/* SPDX-License-Identifier: Apache-2.0 */
/* microvm vsock: standard input and output of a program on the host, at a port of the guest. */
#ifndef VMM_VSOCK_H
#define VMM_VSOCK_H

/* Does what the words behind "vsock" say, and reports on stderr what is wrong. An exit status. */
int vsock_run(int count, char *const *words);

#endif
