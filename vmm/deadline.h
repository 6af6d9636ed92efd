/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last resort against a wait that does not end: for a disk that hangs or
 * has gigabytes to move for a hostile guest, for a log that nobody reads. When
 * the deadline passes the process ends, whatever its threads are doing.
 */
#ifndef VMM_DEADLINE_H
#define VMM_DEADLINE_H

/*
 * The process ends with status in so many seconds, unless this is called again;
 * 0: it does not. On the main thread; the others block SIGALRM.
 */
void deadline_set(unsigned int seconds, int status);

#endif
