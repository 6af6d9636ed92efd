/* SPDX-License-Identifier: Apache-2.0 */
/* What a run can say about itself: a line for people, and one of JSON for scripts. */
#ifndef VMM_SUMMARY_H
#define VMM_SUMMARY_H

#include <stddef.h>

struct machine;

struct summary {
	const char *end; /* why it ended */
	int status;
	double seconds;
	unsigned int restarts;
};

/* "up 12.3 s, 2 vCPUs, 512 MiB; blk0 reads 10 ...": counters that are zero are left out. */
void summary_line(const struct machine *machine, double seconds, char *buffer, size_t len);

/* Writes the JSON line to fd; a failure is reported. */
void summary_write(int fd, const struct machine *machine, const struct summary *summary);

#endif
