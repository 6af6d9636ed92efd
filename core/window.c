// SPDX-License-Identifier: Apache-2.0
/*
 * SIGBUS comes to the thread that touched a lost page, mostly a worker that
 * copies from or to a guest's buffer. Its handler puts a page there and the
 * access is repeated; so it has to know the windows, and a signal handler has
 * no argument: the list of them is static. It changes only while there is one
 * thread.
 *
 * The handler may meet the owner, who maps something else there at the moment:
 * a guest that takes away what a device works on loses a page of its own.
 */
#include "core/window.h"

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include "core/util.h"

/* Of all windows together: each splits a mapping, of which the kernel allows 65,530 by default, */
#define TEARS_MAX 1024
/* and so does the end of a file in each piece. */
#define ALL_MAX GIB(48)

static struct window *windows;

static int place(const struct window *window, uint64_t offset, uint64_t len, int flags, int fd,
		 uint64_t file_offset)
{
	void *at = mmap(window->hva + offset, len, PROT_READ | PROT_WRITE, MAP_FIXED | flags, fd,
			(off_t)file_offset);

	return at == MAP_FAILED ? -errno : 0;
}

static int place_zeroes(const struct window *window, uint64_t offset, uint64_t len)
{
	return place(window, offset, len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static unsigned int count_tears(void)
{
	unsigned int count = 0;

	for (const struct window *window = windows; window; window = window->next)
		count += window->tears;
	return count;
}

static bool replace_page(struct window *window, uint64_t offset)
{
	const uint64_t len = count_tears() < TEARS_MAX ? window->page : WINDOW_PIECE;

	if (place_zeroes(window, offset & ~(len - 1), len) < 0)
		return false;
	window->tears++;
	window->torn[offset / WINDOW_PIECE] = true;
	window->any_torn = true;
	return true;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	const int saved = errno;

	(void)signal;
	(void)context;
	for (struct window *window = windows; window; window = window->next) {
		uint64_t offset = (uintptr_t)info->si_addr - (uintptr_t)window->hva;

		if (offset < window->len && replace_page(window, offset & ~(window->page - 1))) {
			errno = saved;
			return;
		}
	}
	abort();
}

int window_init(struct window *window, uint64_t len)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	uint8_t *start, *hva;
	uint64_t all = len;

	assert(len && len % WINDOW_PIECE == 0);
	for (const struct window *other = windows; other; other = other->next)
		all += other->len;
	if (all > ALL_MAX)
		return -E2BIG;
	/* Aligned as the guest sees it, for huge pages. */
	start = mmap(NULL, len + WINDOW_PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		     -1, 0);
	if (start == MAP_FAILED)
		return -ENOMEM;
	hva = start + (-(uintptr_t)start & (WINDOW_PIECE - 1));
	if (hva > start)
		munmap(start, (size_t)(hva - start));
	munmap(hva + len, (size_t)(start + WINDOW_PIECE - hva));

	*window = (struct window){ .hva = hva, .len = len, .page = (size_t)sysconf(_SC_PAGESIZE),
				   .next = windows };
	window->torn = calloc(len / WINDOW_PIECE, sizeof(*window->torn));
	if (!window->torn || place_zeroes(window, 0, len) < 0) {
		munmap(hva, len);
		free(window->torn);
		*window = (struct window){ 0 };
		return -ENOMEM;
	}
	windows = window;
	sigaction(SIGBUS, &action, NULL);
	return 0;
}

void window_free(struct window *window)
{
	struct window **link = &windows;

	if (!window->hva)
		return;
	while (*link != window)
		link = &(*link)->next;
	*link = window->next;
	munmap(window->hva, window->len);
	free(window->torn);
	*window = (struct window){ 0 };
}

int window_map(struct window *window, uint64_t offset, uint64_t len, int fd, uint64_t file_offset,
	       bool writable)
{
	int err = place(window, offset, len, writable ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE,
			fd, file_offset);

	/* It may have left a hole, and memory of ours that came there would be the guest's. */
	if (err && place_zeroes(window, offset, len) < 0)
		abort();
	return err;
}

int window_clear(struct window *window, uint64_t offset, uint64_t len)
{
	return place_zeroes(window, offset, len);
}

/* Whether a page in the range is lost, as the kernel tells without a signal. */
static bool is_lost(const struct window *window, uint64_t offset, uint64_t len)
{
	return madvise(window->hva + offset, len, MADV_POPULATE_READ) < 0 &&
	       (errno == EFAULT || errno == EHWPOISON);
}

size_t window_mend(struct window *window, uint64_t offset, uint64_t len)
{
	size_t count = 0;

	if (!is_lost(window, offset, len))
		return 0;
	for (uint64_t end = offset + len; offset < end; offset += window->page)
		count += is_lost(window, offset, window->page) && replace_page(window, offset);
	return count;
}

bool window_next_torn(struct window *window, uint64_t *ret_offset)
{
	/* It is asked before every request. */
	if (!window->any_torn)
		return false;
	/* First: what is torn from here on is found the next time. */
	window->any_torn = false;
	for (size_t i = 0; i < window->len / WINDOW_PIECE; i++) {
		if (!window->torn[i])
			continue;
		window->torn[i] = false;
		window->any_torn = true;
		*ret_offset = (uint64_t)i * WINDOW_PIECE;
		return true;
	}
	window->tears = 0;
	return false;
}
