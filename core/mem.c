// SPDX-License-Identifier: Apache-2.0
#include "core/mem.h"

#include <assert.h>
#include <sys/mman.h>
#include "core/util.h"

#define PAGE 4096ULL
#define HUGE_PAGE MIB(2)

/* The one of the first so many regions that holds gpa, or NULL. */
static const struct mem_region *find(const struct mem *mem, size_t count, uint64_t gpa)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct mem_region *region = &mem->regions[middle];

		if (gpa < region->gpa)
			high = middle;
		else if (gpa - region->gpa >= region->len)
			low = middle + 1;
		else
			return region;
	}
	return NULL;
}

/* Behind the first so many regions, or among them. */
static int insert(struct mem *mem, size_t first, const struct mem_region *new)
{
	const size_t count = mem->count + mem->windows;
	struct mem_region *regions;
	size_t at = first;

	while (at < count && mem->regions[at].gpa < new->gpa)
		at++;
	if (at > 0 && new->gpa < mem->regions[at - 1].gpa + mem->regions[at - 1].len)
		return -EEXIST;
	if (at < count && mem->regions[at].gpa - new->gpa < new->len)
		return -EEXIST;

	regions = reallocarray(mem->regions, count + 1, sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	memmove(&regions[at + 1], &regions[at], (count - at) * sizeof(*regions));
	regions[at] = *new;
	mem->regions = regions;
	return 0;
}

static bool valid_range(uint64_t gpa, uint64_t len, uint64_t align)
{
	return len && !((gpa | len) & (align - 1)) && gpa <= UINT64_MAX - len;
}

/*
 * Addresses that are aligned as the guest's are, or no huge page could stand
 * for a part of its memory. Before Linux 6.7 mmap() does not see to it.
 */
static void *reserve(size_t len)
{
	size_t all, before;
	uint8_t *start;

	if (__builtin_add_overflow(len, HUGE_PAGE, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	start = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	before = util_align_up((uintptr_t)start, HUGE_PAGE) - (uintptr_t)start;
	if (before)
		munmap(start, before);
	munmap(start + before + len, HUGE_PAGE - before);
	return start + before;
}

static int map(struct mem_region *region, const struct mem_backing *backing)
{
	int prot = PROT_READ | PROT_WRITE, flags = MAP_NORESERVE;
	unsigned int huge = 0;
	void *hva;

	if (backing->hugepage)
		huge = (unsigned int)__builtin_ctzll(backing->hugepage) << MAP_HUGE_SHIFT;
	if (backing->shared) {
		region->fd = memfd_create("guest-ram",
					  MFD_CLOEXEC | (huge ? MFD_HUGETLB | huge : 0));
		if (region->fd < 0)
			return -errno;
		if (ftruncate(region->fd, (off_t)region->len) < 0)
			return -errno;
		flags |= MAP_SHARED;
	} else {
		flags |= MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB | (int)huge : 0);
	}
	/* Without a reservation a missing huge page would kill the guest later instead of failing here. */
	if (huge)
		flags &= ~MAP_NORESERVE;
	if (!huge) {
		region->hva = reserve(region->len);
		if (!region->hva)
			return -errno;
		flags |= MAP_FIXED;
	}
	hva = mmap(region->hva, region->len, prot, flags, region->fd, 0);
	if (hva == MAP_FAILED)
		return -errno;
	region->hva = hva;
	/* Fewer faults while the guest boots; a kernel without transparent huge pages refuses, harmlessly. */
	if (!huge)
		(void)madvise(hva, region->len, MADV_HUGEPAGE);
	/* None of our processes has a use for it, and what they had this one would copy when it writes. */
	(void)madvise(hva, region->len, MADV_DONTFORK);
	if (backing->prealloc && madvise(hva, region->len, MADV_POPULATE_WRITE) < 0)
		return -errno;
	return 0;
}

static void unmap(struct mem_region *region)
{
	if (region->ours && region->hva)
		munmap(region->hva, region->len);
	util_closep(&region->fd);
}

int mem_add(struct mem *mem, uint64_t gpa, uint64_t len, const struct mem_backing *backing)
{
	struct mem_region region = {
		.gpa = gpa,
		.len = len,
		.fd = -1,
		.ours = true,
		.page = backing->hugepage ?: (uint64_t)sysconf(_SC_PAGESIZE),
	};
	int err;

	if (!valid_range(gpa, len, backing->hugepage ? backing->hugepage : PAGE))
		return -EINVAL;
	err = map(&region, backing);
	if (!err)
		err = insert(mem, 0, &region);
	if (err)
		unmap(&region);
	else
		mem->count++;
	return err;
}

static int add_at(struct mem *mem, size_t first, uint64_t gpa, uint64_t len, void *hva,
		  size_t *count)
{
	struct mem_region region = { .gpa = gpa, .len = len, .hva = hva, .fd = -1 };
	int err;

	if (!valid_range(gpa, len, 1))
		return -EINVAL;
	err = insert(mem, first, &region);
	if (!err)
		++*count;
	return err;
}

int mem_add_at(struct mem *mem, uint64_t gpa, uint64_t len, void *hva)
{
	return add_at(mem, 0, gpa, len, hva, &mem->count);
}

int mem_add_window(struct mem *mem, uint64_t gpa, uint64_t len, void *hva)
{
	return add_at(mem, mem->count, gpa, len, hva, &mem->windows);
}

void mem_free(struct mem *mem)
{
	for (size_t i = 0; i < mem->count + mem->windows; i++)
		unmap(&mem->regions[i]);
	free(mem->regions);
	*mem = (struct mem){ 0 };
}

void *mem_ptr(const struct mem *mem, uint64_t gpa, uint64_t len)
{
	const struct mem_region *region = find(mem, mem->count, gpa);

	if (!region || !util_within(gpa - region->gpa, len, region->len))
		return NULL;
	return region->hva + (gpa - region->gpa);
}

/* The longest piece of [gpa, gpa + len) that lies within one of the first so many regions; outside its length is 0. */
static struct iovec piece(const struct mem *mem, size_t regions, uint64_t gpa, uint64_t len)
{
	const struct mem_region *region = find(mem, regions, gpa);
	uint64_t offset;

	if (!region)
		return (struct iovec){ 0 };
	offset = gpa - region->gpa;
	return (struct iovec){ region->hva + offset, util_min(len, region->len - offset) };
}

/* Regions end below 2^64, so gpa cannot wrap round within them. */
bool mem_is_ram(const struct mem *mem, uint64_t gpa, uint64_t len)
{
	while (len) {
		uint64_t part = piece(mem, mem->count, gpa, len).iov_len;

		if (!part)
			return false;
		gpa += part;
		len -= part;
	}
	return true;
}

int mem_iov(const struct mem *mem, uint64_t gpa, uint64_t len, struct iovec *iov, size_t max)
{
	size_t count = 0;

	while (len) {
		struct iovec part = piece(mem, mem->count + mem->windows, gpa, len);

		if (!part.iov_len)
			return -EFAULT;
		if (count == max)
			return -ENOBUFS;
		iov[count++] = part;
		gpa += part.iov_len;
		len -= part.iov_len;
	}
	return (int)count;
}

int mem_read(const struct mem *mem, uint64_t gpa, void *buffer, size_t len)
{
	uint8_t *to = buffer;

	if (!mem_is_ram(mem, gpa, len))
		return -EFAULT;
	while (len) {
		struct iovec part = piece(mem, mem->count, gpa, len);

		assert(part.iov_base);
		memcpy(to, part.iov_base, part.iov_len);
		to += part.iov_len;
		gpa += part.iov_len;
		len -= part.iov_len;
	}
	return 0;
}

int mem_write(const struct mem *mem, uint64_t gpa, const void *buffer, size_t len)
{
	const uint8_t *from = buffer;

	if (!mem_is_ram(mem, gpa, len))
		return -EFAULT;
	while (len) {
		struct iovec part = piece(mem, mem->count, gpa, len);

		assert(part.iov_base);
		memcpy(part.iov_base, from, part.iov_len);
		from += part.iov_len;
		gpa += part.iov_len;
		len -= part.iov_len;
	}
	return 0;
}

static ssize_t advise_region(const struct mem_region *region, uint64_t offset, uint64_t len,
			     int advice)
{
	const uint64_t first = util_align_up(offset, region->page);
	const uint64_t end = (offset + len) & ~(region->page - 1);

	if (!region->ours)
		return -EOPNOTSUPP;
	if (first >= end)
		return 0;
	return madvise(region->hva + first, end - first, advice) < 0 ? -errno : (ssize_t)(end - first);
}

static ssize_t advise(const struct mem *mem, uint64_t gpa, uint64_t len, int private, int shared)
{
	ssize_t sum = 0;

	if (!mem_is_ram(mem, gpa, len))
		return -EFAULT;
	while (len) {
		const struct mem_region *region = find(mem, mem->count, gpa);
		uint64_t offset, part;
		ssize_t n;

		assert(region);
		offset = gpa - region->gpa;
		part = util_min(len, region->len - offset);
		n = advise_region(region, offset, part, region->fd < 0 ? private : shared);
		if (n < 0)
			return n;
		sum += n;
		gpa += part;
		len -= part;
	}
	return sum;
}

ssize_t mem_discard(const struct mem *mem, uint64_t gpa, uint64_t len)
{
	/* What is shared stays in the file unless there is a hole. */
	return advise(mem, gpa, len, MADV_DONTNEED, MADV_REMOVE);
}

ssize_t mem_cool(const struct mem *mem, uint64_t gpa, uint64_t len)
{
	return advise(mem, gpa, len, MADV_COLD, MADV_COLD);
}

int mem_gpa(const struct mem *mem, const void *hva, uint64_t *ret_gpa)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];
		const uint64_t offset = (uintptr_t)hva - (uintptr_t)region->hva;

		if (offset < region->len) {
			*ret_gpa = region->gpa + offset;
			return 0;
		}
	}
	return -EFAULT;
}

uint64_t mem_page(const struct mem *mem)
{
	uint64_t page = 0;

	for (size_t i = 0; i < mem->count; i++)
		page = util_max(page, mem->regions[i].page);
	return page;
}

uint64_t mem_size(const struct mem *mem)
{
	uint64_t size = 0;

	for (size_t i = 0; i < mem->count; i++)
		size += mem->regions[i].len;
	return size;
}
