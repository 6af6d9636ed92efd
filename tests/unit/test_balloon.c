// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_balloon.h>
#include "core/state.h"
#include "devices/balloon.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class balloon_class;

#define PAGE 4096
/* Guest memory behind the rings: lists, and the pages that they name. */
#define LIST (VQ_RAM_BASE + MIB(1))
#define DATA (VQ_RAM_BASE + MIB(4))
#define DATA_LEN MIB(4)
#define PFN(gpa) ((uint32_t)((gpa) / PAGE))
#define FEATURE(name) (1ULL << VIRTIO_BALLOON_F_##name)

enum { INFLATE, DEFLATE, STATS, HINTS, REPORTS };

static int make(struct vq_guest *guest, const char *options)
{
	int r = vq_guest_make(guest, &balloon_class, options);

	memset(vq_ptr(guest, DATA, DATA_LEN), 'g', DATA_LEN);
	return r;
}

/* The same where the host's pages are larger than the balloon's. */
static void make_with_pages(struct vq_guest *guest, const char *options, uint64_t page)
{
	assert_int_equal(make(guest, options), 0);
	virtio_dev_free(guest->dev);
	guest->mem.regions[0].page = page;
	assert_int_equal(vq_plug(guest, guest->conf), 0);
}

/* How many bytes of the data are as they were. */
static size_t kept(struct vq_guest *guest)
{
	const uint8_t *at = vq_ptr(guest, DATA, DATA_LEN);
	size_t count = 0;

	for (size_t i = 0; i < DATA_LEN; i++) {
		assert_true(at[i] == 'g' || at[i] == 0);
		count += at[i] == 'g';
	}
	return count;
}

static void assert_gone(struct vq_guest *guest, size_t bytes)
{
	/* qemu-user has no MADV_REMOVE, and says that it has. */
	if (!child_emulator())
		assert_int_equal(DATA_LEN - kept(guest), bytes);
}

static void give(struct vq_guest *guest, unsigned int queue, const struct vq_buffer *buffers,
		 unsigned int count)
{
	vq_post(guest, queue, buffers, count);
	vq_notify(guest, queue);
	vq_turn(guest);
}

static bool is_used(struct vq_guest *guest, unsigned int queue)
{
	uint16_t head;

	return vq_take(guest, queue, &head, NULL);
}

/* A list of pages, which is used. */
static void list(struct vq_guest *guest, unsigned int queue, const uint32_t *pfns, size_t count)
{
	memcpy(vq_ptr(guest, LIST, count * 4), pfns, count * 4);
	give(guest, queue, &(struct vq_buffer){ LIST, (uint32_t)(count * 4), false }, 1);
	assert_true(is_used(guest, queue));
	assert_false(vq_failed(guest));
}

static struct virtio_balloon_config config(const struct vq_guest *guest)
{
	struct virtio_balloon_config config;

	virtio_config_read(guest->dev, 0, &config, sizeof(config));
	return config;
}

static void write_config(struct vq_guest *guest, size_t offset, uint32_t value)
{
	virtio_config_write(guest->dev, (uint32_t)offset, &value, sizeof(value));
}

/* ---- inflate and deflate ---- */

static void test_inflate(void **state)
{
	uint32_t pfns[1024];
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, 0);
	/* Up, down, one twice, one alone. */
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA), PFN(DATA) + 1, PFN(DATA) + 9, PFN(DATA) + 8,
					    PFN(DATA) + 8, PFN(DATA) + 20 }, 6);
	assert_gone(&guest, 5 * PAGE);
	assert_int_equal(vq_counter(&guest, "released"), 6 * PAGE);

	/* What is taken again is as good as any. */
	memset(vq_ptr(&guest, DATA, PAGE), 'g', PAGE);
	list(&guest, DEFLATE, (uint32_t[]){ PFN(DATA) }, 1);
	assert_gone(&guest, 4 * PAGE);

	/* More of them than a batch, over all that there is. */
	for (uint32_t i = 0; i < ARRAY_SIZE(pfns); i++)
		pfns[i] = PFN(DATA) + i;
	list(&guest, INFLATE, pfns, ARRAY_SIZE(pfns));
	assert_gone(&guest, DATA_LEN);
	assert_int_equal(vq_counter(&guest, "refused"), 0);
	assert_int_equal(vq_counter(&guest, "errors"), 0);
	vq_guest_free(&guest);
}

static void test_what_is_no_ram(void **state)
{
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, 0);
	list(&guest, INFLATE, (uint32_t[]){ 0, PFN(VQ_RAM_BASE) - 1, PFN(VQ_RAM_BASE + VQ_RAM_SIZE),
					    PFN(DATA), UINT32_MAX }, 5);
	assert_gone(&guest, PAGE);
	assert_int_equal(vq_counter(&guest, "released"), PAGE);
	assert_int_equal(vq_counter(&guest, "refused"), 4);
	list(&guest, DEFLATE, (uint32_t[]){ UINT32_MAX }, 1);
	assert_int_equal(vq_counter(&guest, "refused"), 5);
	vq_guest_free(&guest);
}

static void test_bad_lists(void **state)
{
	static const struct vq_buffer bad[] = {
		{ LIST, 5, false }, { LIST, 3, false }, { LIST, KIB(64) + 4, false },
		{ LIST, 64, true },
	};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(bad); i++) {
		struct vq_guest guest;

		assert_int_equal(make(&guest, ""), 0);
		vq_start(&guest, 0);
		give(&guest, i % 2, &bad[i / 2], 1);
		assert_true(vq_failed(&guest));
		assert_false(is_used(&guest, i % 2));
		vq_reset(&guest);
		vq_start(&guest, 0);
		list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) }, 1);
		vq_guest_free(&guest);
	}
}

/* The rings go on as memory that reads as zeroes, which is no harm but the guest's. */
static void test_rings_given_away(void **state)
{
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, 0);
	*(uint32_t *)vq_ptr(&guest, LIST, 4) = PFN(VQ_RAM_BASE);
	give(&guest, INFLATE, &(struct vq_buffer){ LIST, 4, false }, 1);
	vq_notify(&guest, INFLATE);
	vq_turn(&guest);
	vq_reset(&guest);
	memset(vq_ptr(&guest, VQ_RAM_BASE, PAGE), 0, PAGE);
	guest.next = VQ_RAM_BASE;
	vq_start(&guest, 0);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) }, 1);
	vq_guest_free(&guest);
}

/* ---- larger pages of the host's ---- */

static void test_gathered(void **state)
{
	const uint64_t must = FEATURE(MUST_TELL_HOST);
	struct vq_guest guest;

	(void)state;
	make_with_pages(&guest, "", 4 * PAGE);
	assert_true(guest.dev->offered & must);
	vq_start(&guest, must);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA), PFN(DATA) + 2, PFN(DATA) + 1, PFN(DATA) + 1 }, 4);
	assert_gone(&guest, 0);
	/* One that was taken again is in use. */
	list(&guest, DEFLATE, (uint32_t[]){ PFN(DATA) + 2, PFN(DATA) + 2 }, 2);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) + 3 }, 1);
	assert_gone(&guest, 0);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) + 2 }, 1);
	assert_gone(&guest, 4 * PAGE);
	assert_int_equal(vq_counter(&guest, "released"), 4 * PAGE);

	/* A new driver has not given anything. */
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) + 4, PFN(DATA) + 5, PFN(DATA) + 6 }, 3);
	vq_reset(&guest);
	vq_start(&guest, must);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) + 7 }, 1);
	assert_gone(&guest, 4 * PAGE);
	vq_guest_free(&guest);
}

/* A driver that tells nobody may use one of them already. */
static void test_not_gathered(void **state)
{
	struct vq_guest guest;

	(void)state;
	make_with_pages(&guest, "reporting", 4 * PAGE);
	vq_start(&guest, FEATURE(REPORTING));
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA), PFN(DATA) + 1, PFN(DATA) + 2, PFN(DATA) + 3 }, 4);
	assert_gone(&guest, 0);
	/* Without other queues Linux' third is for reports; they are of whole pages. */
	give(&guest, STATS, &(struct vq_buffer){ DATA + PAGE, 8 * PAGE, true }, 1);
	assert_true(is_used(&guest, STATS));
	assert_gone(&guest, 4 * PAGE);
	assert_int_equal(vq_counter(&guest, "reported"), 4 * PAGE);
	vq_guest_free(&guest);
}

/* ---- reporting ---- */

static const uint64_t reporting = FEATURE(REPORTING) | FEATURE(STATS_VQ);

static void test_report(void **state)
{
	const struct vq_buffer pages[] = {
		{ DATA, PAGE / 2, true }, { DATA + PAGE / 2, PAGE / 2 + PAGE, true },
		{ DATA + 16 * PAGE + 1, 2 * PAGE, true }, { DATA + 32 * PAGE, 100, true },
	};
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, "reporting"), 0);
	vq_start(&guest, reporting);
	give(&guest, REPORTS, pages, ARRAY_SIZE(pages));
	assert_true(is_used(&guest, REPORTS));
	assert_gone(&guest, 3 * PAGE);
	assert_int_equal(vq_counter(&guest, "reported"), 3 * PAGE);

	/* A list is no report. */
	give(&guest, REPORTS, &(struct vq_buffer){ LIST, 64, false }, 1);
	assert_true(vq_failed(&guest));
	vq_guest_free(&guest);
}

/* Linux counts only the queues that there are. */
static void test_report_by_number(void **state)
{
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, "reporting"), 0);
	vq_start(&guest, reporting);
	give(&guest, HINTS, &(struct vq_buffer){ DATA, PAGE, true }, 1);
	assert_true(is_used(&guest, HINTS));
	assert_gone(&guest, PAGE);

	/* Nobody agreed on them. */
	vq_reset(&guest);
	vq_start(&guest, 0);
	give(&guest, REPORTS, &(struct vq_buffer){ DATA + PAGE, PAGE, true }, 1);
	assert_false(is_used(&guest, REPORTS));
	assert_gone(&guest, PAGE);
	vq_guest_free(&guest);
}

static void test_poison(void **state)
{
	static const struct {
		uint64_t features;
		uint32_t value;
		size_t gone;
	} table[] = {
		{ FEATURE(PAGE_POISON), 0xaaaaaaaa, 0 }, { FEATURE(PAGE_POISON), 0, PAGE },
		/* Nobody agreed that it means anything. */
		{ 0, 0xaaaaaaaa, PAGE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct vq_guest guest;

		assert_int_equal(make(&guest, "reporting"), 0);
		write_config(&guest, offsetof(struct virtio_balloon_config, poison_val), table[i].value);
		vq_start(&guest, reporting | table[i].features);
		give(&guest, REPORTS, &(struct vq_buffer){ DATA, PAGE, true }, 1);
		assert_true(is_used(&guest, REPORTS));
		assert_gone(&guest, table[i].gone);
		vq_guest_free(&guest);
	}
}

/* ---- hints ---- */

static const uint64_t hinting = FEATURE(FREE_PAGE_HINT) | FEATURE(STATS_VQ);

static void say(struct vq_guest *guest, uint32_t command)
{
	*(uint32_t *)vq_ptr(guest, LIST, sizeof(command)) = command;
	give(guest, HINTS, &(struct vq_buffer){ LIST, sizeof(command), false }, 1);
	assert_true(is_used(guest, HINTS));
}

static void hint(struct vq_guest *guest)
{
	give(guest, HINTS, &(struct vq_buffer){ DATA, 2 * PAGE, true }, 1);
	assert_true(is_used(guest, HINTS));
}

static uint32_t command(const struct vq_guest *guest)
{
	return config(guest).free_page_hint_cmd_id;
}

/* Pages count between the round's number and the driver's end of it, and stay as they are. */
static void test_hints(void **state)
{
	struct vq_guest guest;
	uint32_t first;

	(void)state;
	assert_int_equal(make(&guest, "hinting"), 0);
	assert_int_equal(balloon_hint(guest.dev), -EAGAIN);
	vq_start(&guest, hinting);
	assert_int_equal(command(&guest), VIRTIO_BALLOON_CMD_ID_STOP);
	say(&guest, VIRTIO_BALLOON_CMD_ID_STOP);
	hint(&guest);
	assert_int_equal(balloon_hint(guest.dev), 0);
	assert_int_equal(guest.config_interrupts, 1);
	first = command(&guest);
	assert_true(first > VIRTIO_BALLOON_CMD_ID_DONE);
	hint(&guest);
	say(&guest, first + 1);
	hint(&guest);
	assert_int_equal(vq_counter(&guest, "hinted"), 0);
	say(&guest, first);
	hint(&guest);
	assert_int_equal(vq_counter(&guest, "hinted"), 2 * PAGE);
	assert_gone(&guest, 0);
	assert_int_equal(vq_counter(&guest, "hint_rounds"), 0);

	/* The driver has its pages back as soon as it has named all. */
	say(&guest, VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(command(&guest), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(guest.config_interrupts, 2);
	assert_int_equal(vq_counter(&guest, "hint_rounds"), 1);
	say(&guest, VIRTIO_BALLOON_CMD_ID_DONE);
	say(&guest, first);
	hint(&guest);
	assert_int_equal(vq_counter(&guest, "hinted"), 2 * PAGE);
	assert_int_equal(balloon_hint(guest.dev), 0);
	assert_true(command(&guest) > first);

	give(&guest, HINTS, &(struct vq_buffer){ LIST, 3, false }, 1);
	assert_true(vq_failed(&guest));
	assert_int_equal(balloon_hint(guest.dev), -EAGAIN);
	vq_guest_free(&guest);
}

/* A round does not outlive a pause, nor a reset. */
static void test_hints_life(void **state)
{
	struct vq_guest guest;
	uint32_t first;

	(void)state;
	assert_int_equal(make(&guest, "hinting"), 0);
	vq_start(&guest, hinting);
	assert_int_equal(balloon_hint(guest.dev), 0);
	first = command(&guest);
	say(&guest, first);
	virtio_dev_pause(guest.dev);
	virtio_dev_resume(guest.dev);
	assert_int_equal(command(&guest), VIRTIO_BALLOON_CMD_ID_DONE);
	hint(&guest);
	assert_int_equal(balloon_hint(guest.dev), 0);
	say(&guest, command(&guest));
	vq_reset(&guest);
	assert_int_equal(command(&guest), VIRTIO_BALLOON_CMD_ID_STOP);
	vq_start(&guest, hinting);
	hint(&guest);
	assert_int_equal(vq_counter(&guest, "hinted"), 0);

	vq_reset(&guest);
	vq_start(&guest, FEATURE(STATS_VQ));
	assert_int_equal(balloon_hint(guest.dev), -EAGAIN);
	vq_guest_free(&guest);
}

/* A window shows files, of which nobody may lose a page. */
static void test_window(void **state)
{
	const uint64_t gpa = VQ_RAM_BASE + VQ_RAM_SIZE;
	static uint8_t window[4 * PAGE] __attribute__((aligned(PAGE)));
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, "reporting"), 0);
	assert_int_equal(mem_add_window(&guest.mem, gpa, sizeof(window), window), 0);
	memset(window, 'w', sizeof(window));
	vq_start(&guest, reporting);
	give(&guest, REPORTS, &(struct vq_buffer){ gpa - PAGE, 3 * PAGE, true }, 1);
	assert_true(is_used(&guest, REPORTS));
	list(&guest, INFLATE, (uint32_t[]){ PFN(gpa) }, 1);
	assert_int_equal(vq_counter(&guest, "refused"), 2);
	assert_int_equal(vq_counter(&guest, "reported"), PAGE);
	for (size_t i = 0; i < sizeof(window); i++)
		assert_int_equal(window[i], 'w');
	vq_guest_free(&guest);
}

/* ---- statistics ---- */

static void post_stats(struct vq_guest *guest, const struct virtio_balloon_stat *stats, uint32_t len)
{
	memcpy(vq_ptr(guest, LIST, len), stats, len);
	give(guest, STATS, &(struct vq_buffer){ LIST, len, false }, 1);
}

static void test_stats(void **state)
{
	static const char *const names[VIRTIO_BALLOON_S_NR] = {
		"swap_in", "swap_out", "major_faults", "minor_faults", "free_memory", "total_memory",
		"available_memory", "disk_caches", "hugetlb_allocations", "hugetlb_failures",
	};
	struct virtio_balloon_stat stats[VIRTIO_BALLOON_S_NR + 1] = { { 0x7fff, 1 } };
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	assert_int_equal(balloon_ask(guest.dev), -EAGAIN);
	vq_start(&guest, FEATURE(STATS_VQ));
	for (uint16_t i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		stats[VIRTIO_BALLOON_S_NR - i] = (struct virtio_balloon_stat){ i, 1000u + i };
	post_stats(&guest, stats, sizeof(stats));
	/* It is kept, until we want another. */
	assert_false(is_used(&guest, STATS));
	for (uint16_t i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		assert_int_equal(vq_counter(&guest, names[i]), 1000 + i);
	assert_int_equal(vq_counter(&guest, "stats_updates"), 1);

	assert_int_equal(balloon_ask(guest.dev), 0);
	assert_int_equal(balloon_ask(guest.dev), -EAGAIN);
	/* Less than before, and a part of an entry. */
	stats[0] = (struct virtio_balloon_stat){ VIRTIO_BALLOON_S_MEMFREE, 5 };
	post_stats(&guest, stats, 2 * sizeof(stats[0]) - 1);
	assert_true(is_used(&guest, STATS));
	assert_int_equal(vq_counter(&guest, "free_memory"), 5);
	assert_int_equal(vq_counter(&guest, "total_memory"), 1005);
	assert_int_equal(vq_counter(&guest, "stats_updates"), 2);
	vq_guest_free(&guest);
}

/* What is behind those that are known and some more is not even read. */
static void test_many_stats(void **state)
{
	static struct virtio_balloon_stat stats[10000];
	struct vq_guest guest;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(stats); i++)
		stats[i].tag = (uint16_t)(VIRTIO_BALLOON_S_NR + i);
	stats[0] = (struct virtio_balloon_stat){ VIRTIO_BALLOON_S_MEMFREE, 5 };
	stats[ARRAY_SIZE(stats) - 1] = (struct virtio_balloon_stat){ VIRTIO_BALLOON_S_MEMFREE, 7 };
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, FEATURE(STATS_VQ));
	post_stats(&guest, stats, sizeof(stats));
	assert_int_equal(vq_counter(&guest, "free_memory"), 5);
	assert_int_equal(balloon_ask(guest.dev), 0);
	vq_guest_free(&guest);
}

/* More buffers than one wait for their turn; a pause, a load or a reset does not lose the one that is held. */
static void test_stats_life(void **state)
{
	const struct virtio_balloon_stat stat = { VIRTIO_BALLOON_S_MEMFREE, 5 };
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, FEATURE(STATS_VQ));
	post_stats(&guest, &stat, sizeof(stat));
	post_stats(&guest, &stat, sizeof(stat));
	assert_int_equal(vq_counter(&guest, "stats_updates"), 1);
	assert_int_equal(balloon_ask(guest.dev), 0);
	assert_int_equal(vq_counter(&guest, "stats_updates"), 2);

	virtio_dev_pause(guest.dev);
	assert_int_equal(balloon_ask(guest.dev), -EAGAIN);
	virtio_dev_resume(guest.dev);
	assert_int_equal(vq_counter(&guest, "stats_updates"), 3);
	vq_turn(&guest);
	assert_true(is_used(&guest, STATS));
	assert_int_equal(balloon_ask(guest.dev), 0);

	vq_reset(&guest);
	assert_int_equal(balloon_ask(guest.dev), -EAGAIN);
	vq_start(&guest, FEATURE(STATS_VQ));
	post_stats(&guest, &stat, sizeof(stat));
	assert_int_equal(vq_counter(&guest, "stats_updates"), 4);
	vq_guest_free(&guest);
}

static void test_stats_timer(void **state)
{
	const struct virtio_balloon_stat stat = { VIRTIO_BALLOON_S_MEMFREE, 5 };
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, "stats=1"), 0);
	vq_start(&guest, FEATURE(STATS_VQ));
	post_stats(&guest, &stat, sizeof(stat));
	assert_int_equal(vq_wait(&guest), 1);
	assert_true(is_used(&guest, STATS));
	/* It does not go off again before there is an answer, nor harm a reset. */
	post_stats(&guest, &stat, sizeof(stat));
	vq_reset(&guest);
	assert_int_equal(vq_wait(&guest), 1);
	assert_int_equal(vq_counter(&guest, "stats_updates"), 2);
	vq_guest_free(&guest);
}

/* ---- configuration ---- */

static void test_target(void **state)
{
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, "size=1M"), 0);
	vq_start(&guest, 0);
	assert_int_equal(config(&guest).num_pages, 256);
	assert_int_equal(vq_counter(&guest, "target"), MIB(1));
	assert_int_equal(balloon_resize(guest.dev, MIB(2) + 1), 0);
	assert_int_equal(guest.config_interrupts, 1);
	assert_int_equal(balloon_resize(guest.dev, VQ_RAM_SIZE + PAGE), -ERANGE);
	assert_int_equal(balloon_resize(guest.dev, UINT64_MAX), -ERANGE);
	assert_int_equal(config(&guest).num_pages, 512);

	/* The driver says what it gave, and nothing else. */
	write_config(&guest, offsetof(struct virtio_balloon_config, actual), 300);
	write_config(&guest, offsetof(struct virtio_balloon_config, num_pages), 77);
	write_config(&guest, offsetof(struct virtio_balloon_config, free_page_hint_cmd_id), 78);
	assert_int_equal(config(&guest).actual, 300);
	assert_int_equal(config(&guest).num_pages, 512);
	assert_int_equal(config(&guest).free_page_hint_cmd_id, 0);
	assert_int_equal(vq_counter(&guest, "actual"), 300 * PAGE);
	assert_int_equal(vq_counter(&guest, "target"), MIB(2));

	/* After a reset it has given nothing; what it is to give stays. */
	vq_reset(&guest);
	assert_int_equal(config(&guest).actual, 0);
	assert_int_equal(config(&guest).num_pages, 512);
	assert_int_equal(vq_counter(&guest, "actual"), 0);
	vq_guest_free(&guest);

	assert_int_equal(make(&guest, "size=9M"), -ERANGE);
	vq_guest_free(&guest);
}

/* Linux' driver wants 32 for reports, and for nothing else. */
static void test_small_rings(void **state)
{
	static const struct { const char *options; int r; } table[] = {
		{ "reporting,queue-size=16", -ENOSPC }, { "reporting,queue-size=32", 0 },
		{ "hinting,deflate-on-oom,queue-size=2", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct vq_guest guest;

		assert_int_equal(make(&guest, table[i].options), table[i].r);
		vq_guest_free(&guest);
	}
}

static void test_features(void **state)
{
	static const struct { const char *options; uint64_t features; } table[] = {
		{ "", FEATURE(STATS_VQ) },
		{ "deflate-on-oom", FEATURE(STATS_VQ) | FEATURE(DEFLATE_ON_OOM) },
		{ "hinting", FEATURE(STATS_VQ) | FEATURE(FREE_PAGE_HINT) },
		{ "reporting", FEATURE(STATS_VQ) | FEATURE(REPORTING) | FEATURE(PAGE_POISON) },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct vq_guest guest;

		assert_int_equal(make(&guest, table[i].options), 0);
		assert_int_equal(guest.dev->offered & 0x3f, table[i].features);
		vq_guest_free(&guest);
	}
}

/* What a save has is the target and what the driver said; memory is saved by others. */
static void test_save(void **state)
{
	_cleanup_(state_free) struct state saved = { 0 };
	struct state_reader reader;
	struct vq_guest guest;

	(void)state;
	assert_int_equal(make(&guest, "size=1M"), 0);
	vq_start(&guest, 0);
	assert_int_equal(balloon_resize(guest.dev, MIB(2)), 0);
	write_config(&guest, offsetof(struct virtio_balloon_config, actual), 300);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) }, 1);
	virtio_dev_pause(guest.dev);
	assert_int_equal(virtio_dev_save(guest.dev, &saved), 0);
	virtio_dev_free(guest.dev);
	assert_int_equal(vq_plug(&guest, guest.conf), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(guest.dev, &reader), 0);
	virtio_dev_resume(guest.dev);
	assert_int_equal(vq_counter(&guest, "target"), MIB(2));
	assert_int_equal(vq_counter(&guest, "actual"), 300 * PAGE);
	assert_int_equal(config(&guest).num_pages, 512);
	list(&guest, INFLATE, (uint32_t[]){ PFN(DATA) + 1 }, 1);
	assert_gone(&guest, 2 * PAGE);
	vq_guest_free(&guest);
}

static int confined(void *arg)
{
	struct vq_guest guest;
	uint16_t head;

	(void)arg;
	child_needs_filters();
	CHILD_CHECK(make(&guest, "size=1M,stats=1,reporting") == 0);
	CHILD_CHECK(vq_run(&guest, true) == 0);
	vq_start(&guest, reporting);
	*(uint32_t *)vq_ptr(&guest, LIST, 4) = PFN(DATA);
	vq_post(&guest, INFLATE, &(struct vq_buffer){ LIST, 4, false }, 1);
	vq_notify(&guest, INFLATE);
	CHILD_CHECK(vq_await(&guest, INFLATE, &head, NULL));
	vq_post(&guest, REPORTS, &(struct vq_buffer){ DATA + PAGE, PAGE, true }, 1);
	vq_notify(&guest, REPORTS);
	CHILD_CHECK(vq_await(&guest, REPORTS, &head, NULL));
	/* Used when the second is over. */
	vq_post(&guest, STATS, &(struct vq_buffer){ LIST, 10, false }, 1);
	vq_notify(&guest, STATS);
	CHILD_CHECK(vq_await(&guest, STATS, &head, NULL));
	CHILD_CHECK(balloon_resize(guest.dev, 0) == 0);
	CHILD_CHECK(kept(&guest) == DATA_LEN - 2 * PAGE);
	vq_reset(&guest);
	vq_guest_free(&guest);
	return 0;
}

static void test_confined(void **state)
{
	child_succeeds(geteuid(), confined, *state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inflate),
		cmocka_unit_test(test_what_is_no_ram),
		cmocka_unit_test(test_bad_lists),
		cmocka_unit_test(test_rings_given_away),
		cmocka_unit_test(test_gathered),
		cmocka_unit_test(test_not_gathered),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_report_by_number),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_hints),
		cmocka_unit_test(test_hints_life),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_many_stats),
		cmocka_unit_test(test_stats_life),
		cmocka_unit_test(test_stats_timer),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_small_rings),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
