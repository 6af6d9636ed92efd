// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/mem.h"
#include "core/util.h"
#include "tests/lib/child.h"

/*
 * Two regions that touch in the guest's addresses but not in ours, a hole, a
 * small one of odd length, and the highest that there can be.
 */
#define A 0x10000
#define B 0x11000
#define LEN 0x1000
#define ODD 0x40001
#define ODD_LEN 3
#define TOP (UINT64_MAX - LEN)

struct fixture {
	struct mem mem;
	uint8_t *a, *b, *odd, *top;
};

static void setup(struct fixture *f)
{
	/* Each an allocation of its own, so that a sanitizer sees one byte too many. */
	*f = (struct fixture){ .a = malloc(LEN), .b = malloc(LEN), .odd = malloc(ODD_LEN),
				.top = malloc(LEN) };
	memset(f->a, 'a', LEN);
	memset(f->b, 'b', LEN);
	memset(f->odd, 'o', ODD_LEN);
	/* Not in their order. */
	assert_int_equal(mem_add_at(&f->mem, ODD, ODD_LEN, f->odd), 0);
	assert_int_equal(mem_add_at(&f->mem, A, LEN, f->a), 0);
	assert_int_equal(mem_add_at(&f->mem, TOP, LEN, f->top), 0);
	assert_int_equal(mem_add_at(&f->mem, B, LEN, f->b), 0);
}

static void teardown(struct fixture *f)
{
	mem_free(&f->mem);
	free(f->a);
	free(f->b);
	free(f->odd);
	free(f->top);
}

static void test_add(void **state)
{
	struct fixture f;
	uint8_t other[LEN];

	(void)state;
	setup(&f);
	assert_int_equal(mem_size(&f.mem), 3 * LEN + ODD_LEN);
	for (size_t i = 1; i < f.mem.count; i++)
		assert_true(f.mem.regions[i - 1].gpa < f.mem.regions[i].gpa);

	assert_int_equal(mem_add_at(&f.mem, A, LEN, other), -EEXIST);
	assert_int_equal(mem_add_at(&f.mem, A + LEN - 1, 1, other), -EEXIST);
	assert_int_equal(mem_add_at(&f.mem, A - 1, 2, other), -EEXIST);
	assert_int_equal(mem_add_at(&f.mem, A - 1, 1ULL << 60, other), -EEXIST);
	assert_int_equal(mem_add_at(&f.mem, ODD + 1, 1, other), -EEXIST);
	assert_int_equal(mem_add_at(&f.mem, 0, 0, other), -EINVAL);
	assert_int_equal(mem_add_at(&f.mem, UINT64_MAX - 1, 3, other), -EINVAL);
	assert_int_equal(f.mem.count, 4);

	assert_int_equal(mem_add_at(&f.mem, A - 1, 1, other), 0);
	assert_int_equal(mem_add_at(&f.mem, ODD + ODD_LEN, 1, other), 0);
	teardown(&f);
}

/* For I/O alone, and behind all RAM. */
static void test_windows(void **state)
{
	_cleanup_(mem_free) struct mem mem = { 0 };
	uint8_t ram[LEN], window[LEN], byte = 0;
	struct iovec iov[2];

	(void)state;
	assert_int_equal(mem_add_at(&mem, A, LEN, ram), 0);
	assert_int_equal(mem_add_window(&mem, A - LEN, LEN, window), -EEXIST);
	assert_int_equal(mem_add_window(&mem, A + LEN - 1, LEN, window), -EEXIST);
	assert_int_equal(mem_add_window(&mem, A + LEN, 0, window), -EINVAL);
	assert_int_equal(mem_add_window(&mem, A + LEN, LEN, window), 0);
	assert_int_equal(mem_add_window(&mem, A + LEN, LEN, window), -EEXIST);
	assert_int_equal(mem.count, 1);
	assert_int_equal(mem_size(&mem), LEN);

	assert_int_equal(mem_iov(&mem, A + LEN - 1, 2, iov, 2), 2);
	assert_ptr_equal(iov[0].iov_base, ram + LEN - 1);
	assert_ptr_equal(iov[1].iov_base, window);
	assert_int_equal(mem_iov(&mem, A + LEN, LEN + 1, iov, 2), -EFAULT);
	assert_null(mem_ptr(&mem, A + LEN, 1));
	assert_int_equal(mem_read(&mem, A + LEN, &byte, 1), -EFAULT);
	assert_int_equal(mem_write(&mem, A + LEN - 1, ram, 2), -EFAULT);
}

static void test_ptr(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	assert_ptr_equal(mem_ptr(&f.mem, A, LEN), f.a);
	assert_ptr_equal(mem_ptr(&f.mem, A + LEN - 1, 1), f.a + LEN - 1);
	assert_ptr_equal(mem_ptr(&f.mem, B, 1), f.b);
	assert_ptr_equal(mem_ptr(&f.mem, ODD, ODD_LEN), f.odd);
	assert_ptr_equal(mem_ptr(&f.mem, TOP, LEN), f.top);

	assert_null(mem_ptr(&f.mem, A - 1, 1));
	assert_null(mem_ptr(&f.mem, A - 1, 2));
	assert_null(mem_ptr(&f.mem, A, LEN + 1)); /* RAM, but two regions */
	assert_null(mem_ptr(&f.mem, A + 1, UINT64_MAX));
	assert_null(mem_ptr(&f.mem, B + LEN, 1));
	assert_null(mem_ptr(&f.mem, ODD, ODD_LEN + 1));
	assert_null(mem_ptr(&f.mem, TOP + LEN - 1, 2));
	assert_null(mem_ptr(&f.mem, UINT64_MAX, 1));
	assert_null(mem_ptr(&f.mem, 0, UINT64_MAX));
	teardown(&f);
}

static void test_iov(void **state)
{
	struct iovec iov[3] = { 0 };
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(mem_iov(&f.mem, A + 8, 8, iov, 1), 1);
	assert_ptr_equal(iov[0].iov_base, f.a + 8);
	assert_int_equal(iov[0].iov_len, 8);

	assert_int_equal(mem_iov(&f.mem, A + LEN - 1, 3, iov, 3), 2);
	assert_ptr_equal(iov[0].iov_base, f.a + LEN - 1);
	assert_int_equal(iov[0].iov_len, 1);
	assert_ptr_equal(iov[1].iov_base, f.b);
	assert_int_equal(iov[1].iov_len, 2);
	assert_ptr_equal(iov[2].iov_base, NULL);

	assert_int_equal(mem_iov(&f.mem, A, 2 * LEN, iov, 2), 2);
	assert_int_equal(mem_iov(&f.mem, A, 2 * LEN, iov, 1), -ENOBUFS);
	assert_int_equal(mem_iov(&f.mem, A, 1, iov, 0), -ENOBUFS);
	assert_int_equal(mem_iov(&f.mem, A, 0, iov, 0), 0);
	assert_int_equal(mem_iov(&f.mem, A, 2 * LEN + 1, iov, 3), -EFAULT);
	assert_int_equal(mem_iov(&f.mem, A - 1, 1, iov, 3), -EFAULT);
	assert_int_equal(mem_iov(&f.mem, TOP, LEN + 1, iov, 3), -EFAULT);
	assert_int_equal(mem_iov(&f.mem, A, UINT64_MAX, iov, 3), -EFAULT);
	teardown(&f);
}

static void test_copies(void **state)
{
	char buffer[2 * LEN] = { 0 };
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(mem_read(&f.mem, A + LEN - 2, buffer, 4), 0);
	assert_memory_equal(buffer, "aabb", 5);
	assert_int_equal(mem_write(&f.mem, A + LEN - 1, "12", 2), 0);
	assert_int_equal(f.a[LEN - 1], '1');
	assert_int_equal(f.b[0], '2');
	assert_int_equal(f.b[1], 'b');
	assert_int_equal(mem_write(&f.mem, TOP + LEN - 1, "t", 1), 0);
	assert_int_equal(f.top[LEN - 1], 't');

	/* Nothing of what is not wholly there. */
	memset(buffer, 'x', sizeof(buffer));
	assert_int_equal(mem_read(&f.mem, A + 1, buffer, 2 * LEN), -EFAULT);
	assert_int_equal(buffer[0], 'x');
	assert_int_equal(mem_write(&f.mem, A + 1, buffer, 2 * LEN), -EFAULT);
	assert_int_equal(f.a[1], 'a');
	assert_int_equal(mem_write(&f.mem, ODD - 1, "x", 1), -EFAULT);
	assert_int_equal(mem_read(&f.mem, 0, buffer, 0), 0);
	teardown(&f);
}

static void test_backing(void **state)
{
	const struct mem_backing private = { 0 }, shared = { .shared = true, .prealloc = true };
	const struct mem_backing huge = { .hugepage = MIB(2) };
	struct mem mem = { 0 };
	uint8_t *mapping;

	(void)state;
	assert_int_equal(mem_add(&mem, 0, MIB(1), &private), 0);
	assert_int_equal(mem_add(&mem, MIB(1), MIB(1), &shared), 0);
	assert_int_equal(mem_add(&mem, MIB(1), LEN, &shared), -EEXIST);
	assert_int_equal(mem_add(&mem, MIB(4) + 1, LEN, &private), -EINVAL);
	assert_int_equal(mem_add(&mem, MIB(4), LEN - 1, &private), -EINVAL);
	assert_int_equal(mem_add(&mem, MIB(4), 0, &private), -EINVAL);
	assert_int_equal(mem_add(&mem, MIB(3), MIB(2), &huge), -EINVAL);
	assert_int_equal(mem_add(&mem, MIB(4), MIB(1), &huge), -EINVAL);
	assert_int_equal(mem_add(&mem, MIB(4), 1ULL << 62, &private), -ENOMEM);
	assert_int_equal(mem.count, 2);

	assert_int_equal(mem.regions[0].fd, -1);
	mapping = mmap(NULL, MIB(1), PROT_READ, MAP_SHARED, mem.regions[1].fd, 0);
	assert_ptr_not_equal(mapping, MAP_FAILED);
	assert_int_equal(mem_write(&mem, MIB(1) - 1, "12", 2), 0);
	assert_int_equal(mapping[0], '2');
	munmap(mapping, MIB(1));

	mem_free(&mem);
	assert_int_equal(mem_size(&mem), 0);
	assert_null(mem_ptr(&mem, 0, 1));
	mem_free(&mem);
}

/* msync() says what is mapped; a sanitizer may have put something of its own there. */
static void test_children(void **state)
{
	struct mem mem = { 0 };
	int status;
	pid_t pid;

	(void)state;
	if (child_emulator()) {
		print_message("skipped: %s has no MADV_DONTFORK\n", child_emulator());
		skip();
	}
	assert_int_equal(mem_add(&mem, A, LEN, &(struct mem_backing){ 0 }), 0);
	assert_int_equal(mem_write(&mem, A, "guest", 5), 0);
	pid = fork();
	if (pid == 0)
		_exit(msync(mem.regions[0].hva, LEN, MS_ASYNC) == 0 &&
		      memcmp(mem.regions[0].hva, "guest", 5) == 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(msync(mem.regions[0].hva, LEN, MS_ASYNC), 0);
	mem_free(&mem);
}

static bool is_all(const uint8_t *at, size_t len, uint8_t byte)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != byte)
			return false;
	return true;
}

/* Private memory, shared memory behind it, a gap, and a window. */
static void test_discard(void **state)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const struct mem_backing private = { 0 }, shared = { .shared = true };
	_cleanup_(mem_free) struct mem mem = { 0 };
	uint8_t window[16], *at;
	uint64_t gpa;

	(void)state;
	if (child_emulator()) {
		print_message("skipped: %s has no MADV_REMOVE\n", child_emulator());
		skip();
	}
	assert_int_equal(mem_add(&mem, 0, 4 * page, &private), 0);
	assert_int_equal(mem_add(&mem, 4 * page, 4 * page, &shared), 0);
	assert_int_equal(mem_add_window(&mem, 16 * page, sizeof(window), window), 0);
	assert_int_equal(mem_page(&mem), page);
	memset(mem.regions[0].hva, 'p', 4 * page);
	memset(mem.regions[1].hva, 's', 4 * page);

	/* Whole pages only, over both regions. */
	assert_int_equal(mem_discard(&mem, 2 * page + 1, 4 * page), 3 * page);
	at = mem.regions[0].hva;
	assert_true(is_all(at, 3 * page, 'p') && is_all(at + 3 * page, page, 0));
	at = mem.regions[1].hva;
	assert_true(is_all(at, 2 * page, 0) && is_all(at + 2 * page, 2 * page, 's'));
	/* Others who have the file see it, too. */
	at = mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, mem.regions[1].fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	assert_true(is_all(at, 2 * page, 0) && is_all(at + 2 * page, 2 * page, 's'));
	munmap(at, 4 * page);

	assert_int_equal(mem_discard(&mem, page, page - 1), 0);
	assert_int_equal(mem_discard(&mem, 1, 2 * page - 2), 0);
	assert_int_equal(mem_discard(&mem, 0, 0), 0);
	assert_int_equal(mem_discard(&mem, 0, 9 * page), -EFAULT);
	assert_int_equal(mem_discard(&mem, 16 * page, sizeof(window)), -EFAULT);
	assert_int_equal(mem_discard(&mem, UINT64_MAX, 1), -EFAULT);
	assert_true(is_all(mem.regions[0].hva, 3 * page, 'p'));

	assert_int_equal(mem_cool(&mem, 1, 8 * page - 1), 7 * page);
	assert_int_equal(mem_cool(&mem, 0, 8 * page + 1), -EFAULT);
	assert_true(is_all(mem.regions[0].hva, 3 * page, 'p'));

	assert_int_equal(mem_gpa(&mem, mem.regions[1].hva + page + 3, &gpa), 0);
	assert_int_equal(gpa, 5 * page + 3);
	assert_int_equal(mem_gpa(&mem, mem.regions[0].hva - 1, &gpa), -EFAULT);
	assert_int_equal(mem_gpa(&mem, window, &gpa), -EFAULT);
	assert_int_equal(gpa, 5 * page + 3);
}

/* Of memory that is the caller's nothing is known. */
static void test_discard_foreign(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(mem_discard(&f.mem, A, LEN), -EOPNOTSUPP);
	assert_true(is_all(f.a, LEN, 'a'));
	teardown(&f);
}

/* Huge pages, as far as the host has some. */
static void discard_huge(bool shared)
{
	const struct mem_backing huge = { .hugepage = MIB(2), .shared = shared };
	_cleanup_(mem_free) struct mem mem = { 0 };
	uint8_t *at;

	if (mem_add(&mem, 0, MIB(4), &huge)) {
		print_message("skipped: this host has no free huge pages\n");
		skip();
	}
	at = mem.regions[0].hva;
	memset(at, 'h', MIB(4));
	assert_int_equal(mem_page(&mem), MIB(2));
	assert_int_equal(mem_discard(&mem, 0, MIB(2) - LEN), 0);
	assert_int_equal(mem_discard(&mem, LEN, MIB(4) - LEN), MIB(2));
	assert_true(is_all(at, MIB(2), 'h') && is_all(at + MIB(2), MIB(2), 0));
}

static void test_discard_huge(void **state)
{
	(void)state;
	discard_huge(false);
	discard_huge(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_ptr),
		cmocka_unit_test(test_iov),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_backing),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_discard_foreign),
		cmocka_unit_test(test_discard_huge),
		cmocka_unit_test(test_children),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
