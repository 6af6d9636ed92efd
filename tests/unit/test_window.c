// SPDX-License-Identifier: Apache-2.0
/* Files that come and go in a window, and their pages that are lost. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "core/util.h"
#include "core/window.h"

#define LEN (4 * (uint64_t)WINDOW_PIECE)

struct fixture {
	struct window window;
	int fd; /* two pieces of a file, of which one is there */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(window_init(&f->window, LEN), 0);
	f->fd = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, WINDOW_PIECE), 0);
	assert_int_equal(pwrite(f->fd, "text", 4, 0), 4);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	window_free(&f->window);
	assert_null(f->window.hva);
	window_free(&f->window);
	close(f->fd);
	free(f);
	return 0;
}

static void test_files_come_and_go(void **state)
{
	struct fixture *f = *state;
	char text[8] = { 0 };

	assert_int_equal((uintptr_t)f->window.hva % WINDOW_PIECE, 0);
	f->window.hva[LEN - 1] = 'x';
	assert_int_equal(window_map(&f->window, WINDOW_PIECE, WINDOW_PIECE, f->fd, 0, true), 0);
	assert_memory_equal(f->window.hva + WINDOW_PIECE, "text", 4);
	memcpy(f->window.hva + WINDOW_PIECE, "next", 4);
	assert_int_equal(pread(f->fd, text, 4, 0), 4);
	assert_string_equal(text, "next");
	assert_int_equal(f->window.hva[LEN - 1], 'x');
	assert_int_equal(window_clear(&f->window, 0, LEN), 0);
	assert_int_equal(f->window.hva[WINDOW_PIECE] | f->window.hva[LEN - 1], 0);
}

static void test_what_is_not_writable_is_a_copy(void **state)
{
	struct fixture *f = *state;
	char text[8] = { 0 };

	assert_int_equal(window_map(&f->window, 0, WINDOW_PIECE, f->fd, 0, false), 0);
	assert_int_equal(pwrite(f->fd, "more", 4, 0), 4);
	assert_memory_equal(f->window.hva, "more", 4);
	memcpy(f->window.hva, "mine", 4);
	assert_int_equal(pread(f->fd, text, 4, 0), 4);
	assert_string_equal(text, "more");
}

static void test_a_mapping_that_fails_leaves_no_hole(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(window_map(&f->window, 0, WINDOW_PIECE, f->fd, 0, true), 0);
	assert_true(window_map(&f->window, 0, WINDOW_PIECE, -1, 0, true) < 0);
	assert_int_equal(f->window.hva[0], 0);
}

static void test_a_lost_page_is_zeroes(void **state)
{
	struct fixture *f = *state;
	struct window last; /* which has SIGBUS handled again: around each test cmocka has it */
	uint64_t offset = 0;

	assert_int_equal(window_init(&last, WINDOW_PIECE), 0);
	assert_int_equal(window_map(&f->window, WINDOW_PIECE, WINDOW_PIECE, f->fd, 0, true), 0);
	assert_false(window_next_torn(&f->window, &offset));
	assert_int_equal(ftruncate(f->fd, 0), 0);
	errno = 12345;
	assert_int_equal(f->window.hva[WINDOW_PIECE], 0);
	assert_int_equal(errno, 12345);
	f->window.hva[WINDOW_PIECE + 100000] = 'x';
	assert_true(window_next_torn(&f->window, &offset));
	assert_int_equal(offset, WINDOW_PIECE);
	assert_false(window_next_torn(&f->window, &offset));
	window_free(&last);
}

/* What the kernel has in the window. */
static unsigned int count_mappings(const struct window *window)
{
	const uintptr_t start = (uintptr_t)window->hva;
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int count = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		count += strtoul(line, NULL, 16) - start < window->len;
	fclose(maps);
	return count;
}

static void tear(struct window *window)
{
	for (uint64_t at = 0; at < window->len; at += 2 * window->page)
		window->hva[at] = 'x';
}

static void find_torn(struct window *window)
{
	uint64_t offset;

	for (uint64_t at = 0; at < window->len; at += WINDOW_PIECE)
		assert_true(window_next_torn(window, &offset));
	assert_false(window_next_torn(window, &offset));
}

/* Of every other page each would be a mapping, and those between them. */
static void test_mappings_do_not_run_out(void **state)
{
	const uint64_t len = 16 * (uint64_t)WINDOW_PIECE;
	struct fixture *f = *state;
	struct window window;

	assert_int_equal(window_init(&window, len), 0);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(window_map(&window, 0, len, f->fd, 0, true), 0);
	assert_int_equal(window_map(&f->window, 0, LEN, f->fd, 0, true), 0);
	tear(&window);
	tear(&f->window);
	assert_in_range(count_mappings(&window), len / WINDOW_PIECE / 2, 2200);
	/* Those of one window count in the other. */
	assert_in_range(count_mappings(&f->window), 1, 2 * LEN / WINDOW_PIECE);
	find_torn(&window);
	find_torn(&f->window);
	assert_int_equal(window_map(&window, 0, len, f->fd, 0, true), 0);
	window.hva[0] = 'x';
	window.hva[2 * window.page] = 'x';
	assert_in_range(count_mappings(&window), 4, 5);
	window_free(&window);
}

static void test_lost_pages_are_found(void **state)
{
	struct fixture *f = *state;
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint64_t offset;

	assert_int_equal(window_map(&f->window, 0, WINDOW_PIECE, f->fd, 0, true), 0);
	if (madvise(f->window.hva, page, MADV_POPULATE_READ) < 0 ||
	    madvise(NULL, page, MADV_POPULATE_READ) == 0) {
		print_message("Linux before 5.14, or qemu-user, cannot say which pages there are\n");
		skip();
	}
	assert_int_equal(window_mend(&f->window, 0, LEN), 0);
	assert_int_equal(ftruncate(f->fd, WINDOW_PIECE - 3 * (off_t)page + 1), 0);
	assert_int_equal(window_mend(&f->window, 0, LEN), 2);
	assert_int_equal(window_mend(&f->window, 0, LEN), 0);
	assert_memory_equal(f->window.hva, "text", 4);
	assert_true(window_next_torn(&f->window, &offset));
	assert_int_equal(offset, 0);
}

static void test_windows_are_bounded_together(void **state)
{
	struct window more;

	(void)state;
	assert_int_equal(window_init(&more, GIB(48)), -E2BIG);
	assert_int_equal(window_init(&more, WINDOW_PIECE), 0);
	window_free(&more);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files_come_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_writable_is_a_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_mapping_that_fails_leaves_no_hole, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_lost_page_is_zeroes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mappings_do_not_run_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_pages_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_windows_are_bounded_together, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
