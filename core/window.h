/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A window: memory at a fixed place into which parts of files are mapped, and
 * taken out again, while a guest and its devices use it. Where no file is, it
 * is memory that starts with zeroes.
 *
 * A page of a file can be lost: the file was cut short, or the disk is broken.
 * Then whoever touches it has a fault, which the kernel reports as EFAULT where
 * it acts for somebody (KVM, read()) and as SIGBUS to this process. A
 * lost page is replaced by one of zeroes, and its piece is said to be torn,
 * until the owner maps the file anew. After too many, wherever, the whole piece is
 * replaced, as a process has only so many mappings.
 */
#ifndef CORE_WINDOW_H
#define CORE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is mapped comes in pieces of this size. */
#define WINDOW_PIECE (1u << 21)

struct window {
	uint8_t *hva; /* NULL: there is none */
	uint64_t len;
	size_t page;
	_Atomic bool *torn; /* each piece */
	_Atomic bool any_torn;
	_Atomic unsigned int tears; /* pages, since nothing was torn */
	struct window *next; /* of all that there are */
};

/*
 * Reserves len bytes, whole pieces, and has SIGBUS handled. Before there are
 * other threads, as the end is behind them. -ENOMEM; -E2BIG: all together they
 * could take more mappings than a process may have.
 */
int window_init(struct window *window, uint64_t len);
/* Accepts a zeroed one. */
void window_free(struct window *window);

/*
 * In what follows ranges are whole pieces within the window, and one thread at a time calls.
 *
 * Maps fd from file_offset on, a multiple of the page size. What is not writable can be written all
 * the same, as a copy, so that no access to it can fail. fd is the caller's. -errno of mmap().
 */
int window_map(struct window *window, uint64_t offset, uint64_t len, int fd, uint64_t file_offset,
	       bool writable);
/* No file any more. -ENOMEM: the process has too many mappings. */
int window_clear(struct window *window, uint64_t offset, uint64_t len);

/* Replaces the pages that are lost, by now; returns how many. May have to read the others from disk. */
size_t window_mend(struct window *window, uint64_t offset, uint64_t len);
/* A torn piece, which is not one from now on; false: there is none. */
bool window_next_torn(struct window *window, uint64_t *ret_offset);

#endif
