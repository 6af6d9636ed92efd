// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that goes back to the host: a balloon's pages, and what is free.
 *
 * What is given back reads as zeroes when the guest takes it again; it does
 * not have to say so, except where the host's pages are larger than the
 * balloon's of 4 KiB: there all parts of one have to be in the balloon, which a
 * bitmap knows, and none may be used before it is told (MUST_TELL_HOST).
 *
 * Only RAM is given back: a number or a range that is anything else, such as
 * a window of files, is counted and ignored. What else uses a page meanwhile, a
 * disk or the rings themselves, finds zeroes, which the guest wanted so.
 * madvise() is in the base set of system calls.
 */
#include "core/mem.h"
#include "devices/balloon_device.h"

#define BALLOON_BATCH 256
/* Of one list; drivers send 4 KiB at the most. More would keep resets waiting. */
#define BALLOON_LIST_MAX KIB(64)

/* A range that grows as long as what comes touches it, so that one call is enough for it. */
struct balloon_run {
	struct balloon *balloon;
	enum balloon_counter counter;
	uint64_t gpa, len;
};

static void run_end(struct balloon_run *run)
{
	const struct mem *mem = run->balloon->dev.mem;
	ssize_t n = run->counter == BALLOON_HINTED ? mem_cool(mem, run->gpa, run->len) :
						     mem_discard(mem, run->gpa, run->len);

	balloon_count(run->balloon, n < 0 ? BALLOON_ERRORS : run->counter, n < 0 ? 1 : (uint64_t)n);
	run->len = 0;
}

/* Linux' balloon grows down as often as up. */
static void run_add(struct balloon_run *run, uint64_t gpa, uint64_t len)
{
	const bool below = gpa + len == run->gpa, above = run->gpa + run->len == gpa;

	if (!below && !above)
		run_end(run);
	if (!run->len || below)
		run->gpa = gpa;
	run->len += len;
}

/* ---- pages of the host's that are larger ---- */

static bool gathered_flip(struct balloon_gathered *gathered, uint64_t pfn, bool given)
{
	uint64_t *word = &gathered->given[pfn / 64];
	const uint64_t bit = 1ULL << pfn % 64;

	if (!!(*word & bit) == given)
		return false;
	*word ^= bit;
	return true;
}

static void gathered_add(struct balloon_run *run, uint64_t gpa)
{
	struct balloon_gathered *gathered = &run->balloon->gathered;
	const uint64_t page = gpa / gathered->page;

	/* Without the promise that we are told first, a part may be in use again. */
	if (!virtio_has(&run->balloon->dev, VIRTIO_BALLOON_F_MUST_TELL_HOST) ||
	    !gathered_flip(gathered, gpa / BALLOON_PAGE, true))
		return;
	if (++gathered->count[page] == gathered->page / BALLOON_PAGE)
		run_add(run, page * gathered->page, gathered->page);
}

static void gathered_remove(struct balloon_gathered *gathered, uint64_t gpa)
{
	if (gathered_flip(gathered, gpa / BALLOON_PAGE, false))
		gathered->count[gpa / gathered->page]--;
}

int balloon_gathered_init(struct balloon_gathered *gathered, const struct mem *mem)
{
	const struct mem_region *last = &mem->regions[mem->count - 1];

	gathered->page = mem_page(mem);
	if (gathered->page <= BALLOON_PAGE) {
		gathered->page = 0;
		return 0;
	}
	gathered->pages = (last->gpa + last->len) / gathered->page + 1;
	gathered->words = gathered->pages * (gathered->page / BALLOON_PAGE) / 64 + 1;
	gathered->count = calloc(gathered->pages, sizeof(*gathered->count));
	gathered->given = calloc(gathered->words, sizeof(*gathered->given));
	return gathered->given && gathered->count ? 0 : -ENOMEM;
}

void balloon_gathered_forget(struct balloon_gathered *gathered)
{
	if (!gathered->page)
		return;
	memset(gathered->count, 0, gathered->pages * sizeof(*gathered->count));
	memset(gathered->given, 0, gathered->words * sizeof(*gathered->given));
}

void balloon_gathered_free(struct balloon_gathered *gathered)
{
	free(gathered->given);
	free(gathered->count);
}

/* ---- chains ---- */

static void take_page(struct balloon_run *run, enum balloon_role role, uint32_t pfn)
{
	const uint64_t gpa = (uint64_t)pfn << VIRTIO_BALLOON_PFN_SHIFT;
	struct balloon_gathered *gathered = &run->balloon->gathered;

	if (!mem_ptr(run->balloon->dev.mem, gpa, BALLOON_PAGE))
		balloon_count(run->balloon, BALLOON_REFUSED, 1);
	else if (role == BALLOON_DEFLATE && gathered->page)
		gathered_remove(gathered, gpa);
	else if (role == BALLOON_INFLATE && gathered->page)
		gathered_add(run, gpa);
	else if (role == BALLOON_INFLATE)
		run_add(run, gpa, BALLOON_PAGE);
}

const char *balloon_take_list(struct balloon *balloon, enum balloon_role role, struct chain *chain)
{
	struct balloon_run run = { balloon, BALLOON_RELEASED, 0, 0 };
	uint32_t pfns[BALLOON_BATCH];
	size_t n;

	if (!chain->out.left || chain->out.left % sizeof(*pfns) || chain->out.left > BALLOON_LIST_MAX)
		return "a list of pages that is empty, too long, or ends within a number";
	while ((n = chain_pull(chain, pfns, sizeof(pfns))))
		for (size_t i = 0; i < n / sizeof(*pfns); i++)
			take_page(&run, role, pfns[i]);
	run_end(&run);
	return NULL;
}

void balloon_take_buffers(struct balloon *balloon, enum balloon_counter counter,
			 const struct chain *chain)
{
	struct balloon_run run = { balloon, counter, 0, 0 };

	for (unsigned int i = 0; i < chain->in.count; i++) {
		const struct iovec *iov = &chain->in.iov[i];
		uint64_t gpa;

		if (mem_gpa(balloon->dev.mem, iov->iov_base, &gpa))
			balloon_count(balloon, BALLOON_REFUSED, 1);
		else
			run_add(&run, gpa, iov->iov_len);
	}
	run_end(&run);
}

const char *balloon_take_report(struct balloon *balloon, const struct chain *chain)
{
	if (!chain->in.left)
		return "a report without pages";
	/* If they were filled with something they are to stay so. */
	if (!virtio_has(&balloon->dev, VIRTIO_BALLOON_F_PAGE_POISON) || !balloon->poison)
		balloon_take_buffers(balloon, BALLOON_REPORTED, chain);
	return NULL;
}
