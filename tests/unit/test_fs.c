// SPDX-License-Identifier: Apache-2.0
/* Shared directories as a device: what takes long, who waits for locks, and what ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include "core/state.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

#define PRIORITY 0
#define REQUESTS 1
#define LEN 4096
#define WAITERS_MAX (VQ_SIZE / 4)

extern const struct virtio_class fs_class;

/* A request that was made, by the number that it has. */
struct asked {
	uint64_t out, in; /* guest addresses of LEN bytes each, and of a header more */
	uint16_t head;
};

struct test {
	struct vq_guest guest;
	char path[32], file[64];
	int fd; /* the host's, of file */
	uint64_t unique, node;
	struct asked asked[64];
};

/* What fsync() does meanwhile, for helpers. */
static sem_t entered, leave;
static bool slow;

int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd)
{
	if (!slow)
		return __real_fsync(fd);
	sem_post(&entered);
	sem_wait(&leave);
	return 0;
}

/* ---- requests ---- */

/* Returns the request's number, which it has for the device as well. */
static uint64_t post_to(struct test *test, unsigned int queue, uint32_t opcode, const void *in,
			size_t len)
{
	const uint64_t unique = test->unique++;
	struct asked *asked = &test->asked[unique % ARRAY_SIZE(test->asked)];
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + len), .opcode = opcode, .unique = unique,
		.nodeid = test->node ?: FUSE_ROOT_ID, .uid = geteuid(), .gid = getegid(),
	};

	if (!asked->out) {
		asked->out = vq_alloc(&test->guest, LEN + sizeof(header));
		asked->in = vq_alloc(&test->guest, LEN + sizeof(struct fuse_out_header));
	}
	memcpy(vq_ptr(&test->guest, asked->out, sizeof(header)), &header, sizeof(header));
	memcpy(vq_ptr(&test->guest, asked->out + sizeof(header), len), in, len);
	asked->head = vq_post(&test->guest, queue, (struct vq_buffer[]){
		{ asked->out, header.len, false },
		{ asked->in, LEN + sizeof(struct fuse_out_header), true },
	}, 2);
	vq_notify(&test->guest, queue);
	return unique;
}

static uint64_t post(struct test *test, uint32_t opcode, const void *in, size_t len)
{
	return post_to(test, REQUESTS, opcode, in, len);
}

/* What was answered to a request of that number; the next answer has to be that. */
static int answer(struct test *test, uint64_t unique)
{
	const struct asked *asked = &test->asked[unique % ARRAY_SIZE(test->asked)];
	struct fuse_out_header header;
	uint16_t head = 0;

	if (test->guest.running)
		assert_true(vq_await(&test->guest, REQUESTS, &head, NULL));
	else
		assert_true(vq_take(&test->guest, REQUESTS, &head, NULL));
	assert_int_equal(head, asked->head);
	memcpy(&header, vq_ptr(&test->guest, asked->in, sizeof(header)), sizeof(header));
	assert_true(header.unique == unique);
	return header.error;
}

static const void *reply(struct test *test, uint64_t unique)
{
	return vq_ptr(&test->guest, test->asked[unique % ARRAY_SIZE(test->asked)].in +
				    sizeof(struct fuse_out_header), LEN);
}

static int ask(struct test *test, uint32_t opcode, const void *in, size_t len)
{
	uint64_t unique = post(test, opcode, in, len);

	if (!test->guest.running)
		vq_turn(&test->guest);
	return answer(test, unique);
}

static bool answered(struct test *test)
{
	struct vring_used *used = vq_ptr(&test->guest, test->guest.queues[REQUESTS].used,
					 sizeof(*used));

	return __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) != test->guest.queues[REQUESTS].seen;
}

/* One argument, which may have commas. */
#define ASK(test, opcode, ...) \
	ask(test, opcode, (__typeof__(__VA_ARGS__)[]){ __VA_ARGS__ }, sizeof(__VA_ARGS__))
#define POST(test, opcode, ...) \
	post(test, opcode, (__typeof__(__VA_ARGS__)[]){ __VA_ARGS__ }, sizeof(__VA_ARGS__))

static const void *last(struct test *test)
{
	return reply(test, test->unique - 1);
}

static uint64_t open_file(struct test *test, uint32_t flags)
{
	const struct fuse_open_in in = { .flags = flags };

	assert_int_equal(ASK(test, FUSE_OPEN, in), 0);
	return ((const struct fuse_open_out *)last(test))->fh;
}

static int release(struct test *test, uint64_t fh)
{
	return ASK(test, FUSE_RELEASE, (struct fuse_release_in){ .fh = fh });
}

/* ---- the share ---- */

static uint32_t mount_it(struct test *test)
{
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = 36, .flags = ~0u };
	uint32_t flags;

	vq_start(&test->guest, 0);
	test->node = 0;
	assert_int_equal(ASK(test, FUSE_INIT, init), 0);
	flags = ((const struct fuse_init_out *)last(test))->flags;
	assert_int_equal(ask(test, FUSE_LOOKUP, "file", 5), 0);
	test->node = ((const struct fuse_entry_out *)last(test))->nodeid;
	return flags;
}

enum where { INLINE, THREADS, CONFINED };

static uint32_t share(struct test *test, const char *options, enum where where)
{
	char words[128];

	*test = (struct test){ .path = "/tmp/fs.XXXXXX", .unique = 1 };
	assert_non_null(mkdtemp(test->path));
	snprintf(test->file, sizeof(test->file), "%s/file", test->path);
	test->fd = open(test->file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_int_not_equal(test->fd, -1);
	assert_int_equal(ftruncate(test->fd, KIB(128)), 0);
	snprintf(words, sizeof(words), "%s,tag=t%s", test->path, options);
	assert_int_equal(vq_guest_make(&test->guest, &fs_class, words), 0);
	sem_init(&entered, 0, 0);
	sem_init(&leave, 0, 0);
	slow = where == THREADS;
	if (where != INLINE)
		assert_int_equal(vq_run(&test->guest, where == CONFINED), 0);
	return mount_it(test);
}

static void unshare_it(struct test *test)
{
	vq_guest_free(&test->guest);
	close(test->fd);
	assert_int_equal(unlink(test->file), 0);
	assert_int_equal(rmdir(test->path), 0);
}

/* ---- what takes long ---- */

/* Of the file, in this process; the test's own one is among them. */
static unsigned int descriptors_of(const struct test *test)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	struct stat file, st;
	unsigned int count = 0;

	assert_non_null(dir);
	assert_int_equal(fstat(test->fd, &file), 0);
	while ((entry = readdir(dir)))
		count += fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 &&
			 st.st_ino == file.st_ino && st.st_dev == file.st_dev;
	closedir(dir);
	return count;
}

static void test_others_do_not_wait(void **state)
{
	struct test test;
	uint64_t fh, slow_one;
	unsigned int open;

	(void)state;
	share(&test, ",threads=2,cache=never", THREADS);
	fh = open_file(&test, O_RDWR);
	open = descriptors_of(&test);
	slow_one = POST(&test, FUSE_FSYNC, (struct fuse_fsync_in){ .fh = fh });
	sem_wait(&entered);
	assert_int_equal(ASK(&test, FUSE_GETATTR, (struct fuse_getattr_in){ 0 }), 0);
	/* Closed under its hands: gone for the guest, and there until it is over. */
	assert_int_equal(release(&test, fh), 0);
	assert_int_equal(ASK(&test, FUSE_FSYNC, (struct fuse_fsync_in){ .fh = fh }), -EBADF);
	assert_int_equal(descriptors_of(&test), open);
	sem_post(&leave);
	assert_int_equal(answer(&test, slow_one), 0);
	assert_int_equal(descriptors_of(&test), open - 1);
	assert_int_equal(vq_counter(&test.guest, "helped"), 1);
	unshare_it(&test);
}

/* Answers of as many requests, in whatever order they come; returns the last one. */
static uint16_t collect(struct test *test, unsigned int count)
{
	uint16_t head = 0;

	while (count--)
		assert_true(vq_await(&test->guest, REQUESTS, &head, NULL));
	return head;
}

static void test_several_at_a_time(void **state)
{
	struct test test;
	uint64_t fh;

	(void)state;
	share(&test, ",threads=4", THREADS);
	fh = open_file(&test, O_RDWR);
	for (unsigned int i = 0; i < 3; i++)
		POST(&test, FUSE_FSYNC, (struct fuse_fsync_in){ .fh = fh });
	for (unsigned int i = 0; i < 3; i++)
		sem_wait(&entered);
	assert_false(answered(&test));
	/* Whoever unmounts waits for all of them. */
	POST(&test, FUSE_DESTROY, (char){ 0 });
	for (unsigned int i = 0; i < 3; i++)
		sem_post(&leave);
	assert_int_equal(collect(&test, 4), test.asked[test.unique - 1].head);
	assert_int_equal(ASK(&test, FUSE_GETATTR, (struct fuse_getattr_in){ 0 }), -EIO);
	unshare_it(&test);
}

static void test_a_reset_waits(void **state)
{
	struct test test;
	uint64_t fh;

	(void)state;
	share(&test, ",threads=2,locks", THREADS);
	fh = open_file(&test, O_RDWR);
	POST(&test, FUSE_FSYNC, (struct fuse_fsync_in){ .fh = fh });
	sem_wait(&entered);
	virtio_set_status(test.guest.dev, 0);
	assert_int_not_equal(virtio_status(test.guest.dev), 0);
	assert_false(virtio_reset_wait(test.guest.dev, 50));
	sem_post(&leave);
	assert_true(virtio_reset_wait(test.guest.dev, -1));
	assert_int_equal(virtio_status(test.guest.dev), 0);
	assert_int_equal(descriptors_of(&test), 1);
	mount_it(&test);
	assert_int_equal(release(&test, open_file(&test, O_RDWR)), 0);
	unshare_it(&test);
}

/* Writes text; returns how much of it was written, or -errno. */
static int write_text(struct test *test, uint64_t fh, uint64_t offset, uint32_t flags,
		      const char *text)
{
	struct {
		struct fuse_write_in in;
		char text[32];
	} request = { { .fh = fh, .offset = offset, .flags = flags,
			.size = (uint32_t)strlen(text) }, "" };
	int err;

	memcpy(request.text, text, strlen(text));
	err = ask(test, FUSE_WRITE, &request, sizeof(request.in) + strlen(text));
	return err ?: (int)((const struct fuse_write_out *)last(test))->size;
}

static void assert_file_has(struct test *test, off_t offset, const char *text)
{
	char found[32] = "";

	assert_int_equal(pread(test->fd, found, strlen(text), offset), strlen(text));
	assert_string_equal(found, text);
}

/* The flags of each write count, as the guest may change its mind about an open file. */
static void test_writes_by_their_flags(void **state)
{
	static const struct {
		uint32_t flags;
		off_t found;
	} rows[] = {
		{ O_APPEND, KIB(128) },
		{ 0, 10 },
		{ O_DSYNC, 10 },
		{ O_SYNC | O_APPEND, KIB(128) },
	};
	struct statfs st;
	struct test test;
	uint64_t fh;

	(void)state;
	if (child_emulator()) {
		print_message("skipped: %s has no flags of pwritev2()\n", child_emulator());
		skip();
	}
	share(&test, "", INLINE);
	assert_int_equal(fstatfs(test.fd, &st), 0);
	if (st.f_type == OVERLAYFS_SUPER_MAGIC) {
		unshare_it(&test);
		print_message("skipped: overlayfs does not pass RWF_APPEND on\n");
		skip();
	}
	fh = open_file(&test, O_RDWR | O_APPEND);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		const char text[] = { (char)('a' + i), 'x', 'y', '\0' };

		assert_int_equal(ftruncate(test.fd, KIB(128)), 0);
		assert_int_equal(write_text(&test, fh, 10, rows[i].flags, text), 3);
		assert_file_has(&test, rows[i].found, text);
	}
	unshare_it(&test);
}

/* Each call that helpers make, under their filter. */
static int confined(void *arg)
{
	struct test test;
	uint64_t fh;

	(void)arg;
	child_needs_filters();
	share(&test, ",threads=3,locks,cache=never", CONFINED);
	fh = open_file(&test, O_RDWR);
	CHILD_CHECK(write_text(&test, fh, 5, 0, "confined") == 8);
	CHILD_CHECK(ASK(&test, FUSE_READ, (struct fuse_read_in){ .fh = fh, .offset = 5, .size = 8 }) == 0);
	CHILD_CHECK(!memcmp(last(&test), "confined", 8));
	CHILD_CHECK(ASK(&test, FUSE_READ, (struct fuse_read_in){ .fh = fh, .size = KIB(128) }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_FSYNC, (struct fuse_fsync_in){ .fh = fh }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_FSYNC, (struct fuse_fsync_in){ .fh = fh, .fsync_flags = 1 }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_FALLOCATE, (struct fuse_fallocate_in){ .fh = fh, .length = 1 }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_COPY_FILE_RANGE, (struct fuse_copy_file_range_in){
		.fh_in = fh, .off_in = 5, .nodeid_out = test.node, .fh_out = fh, .off_out = 50,
		.len = 8 }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_SETLK, (struct fuse_lk_in){ .fh = fh, .lk.type = F_WRLCK }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_SETLK, (struct fuse_lk_in){ .fh = fh, .lk_flags = FUSE_LK_FLOCK }) == 0);
	CHILD_CHECK(ASK(&test, FUSE_GETLK, (struct fuse_lk_in){ .fh = fh }) == 0);
	test.node = FUSE_ROOT_ID;
	CHILD_CHECK(ASK(&test, FUSE_SYNCFS, (struct fuse_syncfs_in){ 0 }) == 0);
	CHILD_CHECK(vq_counter(&test.guest, "helped") >= 6);
	assert_file_has(&test, 50, "confined");
	unshare_it(&test);
	return 0;
}

static void test_helpers_are_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), confined, NULL);
}

/* ---- locks ---- */

static struct fuse_lk_in range(uint64_t fh, uint64_t owner, uint32_t type, uint64_t start,
			       uint64_t end)
{
	return (struct fuse_lk_in){ .fh = fh, .owner = owner,
				    .lk = { start, end, type, (uint32_t)owner + 1000 } };
}

static struct fuse_lk_in whole(uint64_t fh, uint32_t type)
{
	return (struct fuse_lk_in){ .fh = fh, .lk.type = type, .lk_flags = FUSE_LK_FLOCK };
}

static int lock(struct test *test, uint32_t opcode, struct fuse_lk_in in)
{
	return ask(test, opcode, &in, sizeof(in));
}

static uint64_t wait_for(struct test *test, struct fuse_lk_in in)
{
	return post(test, FUSE_SETLKW, &in, sizeof(in));
}

/* The lock that GETLK finds in the way of a write. */
static struct fuse_file_lock in_the_way(struct test *test, uint64_t fh, uint64_t owner,
					uint64_t start, uint64_t end)
{
	assert_int_equal(lock(test, FUSE_GETLK, range(fh, owner, F_WRLCK, start, end)), 0);
	return ((const struct fuse_lk_out *)last(test))->lk;
}

static int flush(struct test *test, uint64_t fh, uint64_t owner)
{
	return ASK(test, FUSE_FLUSH, (struct fuse_flush_in){ .fh = fh, .lock_owner = owner });
}

/* As another process does, whoever asks: locks of a process and of an open file exclude each other. */
static int host_locks(struct test *test, short type, off_t start, off_t len)
{
	struct flock lock = { .l_type = type, .l_start = start, .l_len = len };

	return fcntl(test->fd, F_SETLK, &lock) < 0 ? -errno : 0;
}

static void test_locks_are_the_hosts(void **state)
{
	struct fuse_file_lock found;
	struct test test;
	unsigned int open;
	uint32_t flags;
	uint64_t a, b;

	(void)state;
	flags = share(&test, ",locks", INLINE);
	assert_int_equal(flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS), FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS);
	a = open_file(&test, O_RDWR);
	b = open_file(&test, O_WRONLY);
	open = descriptors_of(&test);

	/* An owner has its locks whatever it opened the file by. */
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, F_WRLCK, 10, 19)), 0);
	assert_int_equal(lock(&test, FUSE_SETLK, range(b, 1, F_RDLCK, 15, INT64_MAX)), 0);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 2, F_WRLCK, 19, 20)), -EAGAIN);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 2, F_RDLCK, 15, 15)), 0);
	assert_int_equal(host_locks(&test, F_WRLCK, 0, 10), 0);
	assert_int_equal(host_locks(&test, F_RDLCK, 14, 1), -EAGAIN);

	found = in_the_way(&test, a, 2, 12, 12);
	assert_int_equal(found.type, F_WRLCK);
	assert_true(found.start == 10 && found.end == 14);
	assert_int_equal(found.pid, 1001);
	found = in_the_way(&test, a, 2, 16, 16);
	assert_int_equal(found.type, F_RDLCK);
	assert_true(found.start == 15 && found.end == INT64_MAX);
	found = in_the_way(&test, a, 3, 5, 5);
	assert_int_equal(found.type, F_WRLCK);
	assert_int_equal(found.pid, 0);
	assert_int_equal(in_the_way(&test, a, 1, 10, 14).type, F_UNLCK);

	/* Parts are given up one by one, the rest with any close. */
	assert_int_equal(lock(&test, FUSE_SETLK, range(b, 1, F_UNLCK, 14, 14)), 0);
	assert_int_equal(host_locks(&test, F_RDLCK, 14, 1), 0);
	assert_int_equal(descriptors_of(&test), open + 2);
	assert_int_equal(flush(&test, b, 2), 0);
	assert_int_equal(host_locks(&test, F_WRLCK, 12, 1), -EAGAIN);
	assert_int_equal(flush(&test, b, 1), 0);
	assert_int_equal(host_locks(&test, F_WRLCK, 10, 10), 0);
	assert_int_equal(descriptors_of(&test), open);

	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, F_WRLCK, 9, 8)), -EINVAL);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, 77, 0, 8)), -EINVAL);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a + 100, 1, F_WRLCK, 0, 8)), -EBADF);
	unshare_it(&test);
}

static void test_whole_files(void **state)
{
	struct test test;
	uint64_t a, b;

	(void)state;
	share(&test, ",locks", INLINE);
	a = open_file(&test, O_RDONLY);
	b = open_file(&test, O_RDONLY);
	assert_int_equal(lock(&test, FUSE_SETLK, whole(a, F_RDLCK)), 0);
	assert_int_equal(lock(&test, FUSE_SETLK, whole(b, F_RDLCK)), 0);
	assert_int_equal(lock(&test, FUSE_SETLK, whole(b, F_WRLCK)), -EAGAIN);
	assert_int_equal(flock(test.fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(lock(&test, FUSE_SETLK, whole(a, F_UNLCK)), 0);
	assert_int_equal(lock(&test, FUSE_SETLK, whole(b, F_WRLCK)), 0);
	assert_int_equal(flock(test.fd, LOCK_SH | LOCK_NB), -1);
	assert_int_equal(release(&test, b), 0);
	assert_int_equal(flock(test.fd, LOCK_EX | LOCK_NB), 0);
	unshare_it(&test);
}

static void test_waiting(void **state)
{
	const struct fuse_interrupt_in late = { .unique = 9999 };
	struct test test;
	uint64_t a, first, second;
	uint16_t head;

	(void)state;
	share(&test, ",locks", INLINE);
	a = open_file(&test, O_RDWR);

	/* For the host. */
	assert_int_equal(host_locks(&test, F_WRLCK, 0, 0), 0);
	first = wait_for(&test, range(a, 1, F_WRLCK, 0, 9));
	vq_turn(&test.guest);
	assert_false(answered(&test));
	assert_int_equal(host_locks(&test, F_UNLCK, 0, 0), 0);
	while (!answered(&test))
		vq_wait(&test.guest);
	assert_int_equal(answer(&test, first), 0);

	/* For others of the guest's: told at once, in the order in which they came. */
	first = wait_for(&test, range(a, 2, F_WRLCK, 0, 4));
	second = wait_for(&test, range(a, 3, F_WRLCK, 5, 9));
	vq_turn(&test.guest);
	assert_false(answered(&test));
	assert_int_equal(flush(&test, a, 1), 0);
	assert_int_equal(answer(&test, first), 0);
	assert_int_equal(answer(&test, second), 0);

	/* Until it is interrupted. */
	first = wait_for(&test, range(a, 4, F_WRLCK, 0, 0));
	vq_turn(&test.guest);
	post_to(&test, PRIORITY, FUSE_INTERRUPT, &(struct fuse_interrupt_in){ first },
		sizeof(struct fuse_interrupt_in));
	vq_turn(&test.guest);
	assert_int_equal(answer(&test, first), -EINTR);
	assert_true(vq_take(&test.guest, PRIORITY, &head, NULL));
	assert_int_equal(ASK(&test, FUSE_INTERRUPT, late), -EAGAIN);
	assert_int_equal(vq_counter(&test.guest, "lock_waits"), 4);
	unshare_it(&test);
}

static void test_waiting_has_an_end(void **state)
{
	struct test test;
	uint64_t a, asked[WAITERS_MAX];

	(void)state;
	share(&test, ",locks", INLINE);
	a = open_file(&test, O_RDWR);
	assert_int_equal(host_locks(&test, F_WRLCK, 0, 0), 0);
	for (unsigned int i = 0; i < WAITERS_MAX; i++)
		asked[i] = wait_for(&test, range(a, 1, F_WRLCK, i, i));
	vq_turn(&test.guest);
	assert_false(answered(&test));
	/* The rest of the queue is for those who unlock. */
	assert_int_equal(lock(&test, FUSE_SETLKW, whole(a, F_WRLCK)), 0);
	assert_int_equal(lock(&test, FUSE_SETLKW, range(a, 1, F_WRLCK, 0, 0)), -ENOLCK);
	virtio_dev_pause(test.guest.dev);
	for (unsigned int i = 0; i < WAITERS_MAX; i++)
		assert_int_equal(answer(&test, asked[i]), -ENOLCK);
	virtio_dev_resume(test.guest.dev);
	wait_for(&test, range(a, 1, F_WRLCK, 0, 0));
	vq_turn(&test.guest);
	assert_false(answered(&test));
	vq_reset(&test.guest);
	assert_int_equal(descriptors_of(&test), 1);
	assert_int_equal(flock(test.fd, LOCK_EX | LOCK_NB), 0);
	mount_it(&test);
	unshare_it(&test);
}

/* Somebody else may have it by the time of the load. */
static void test_no_save_with_a_lock(void **state)
{
	struct state saved = { 0 };
	struct test test;
	uint64_t a;

	(void)state;
	share(&test, ",locks", INLINE);
	a = open_file(&test, O_RDWR);
	for (int i = 0; i < 3; i++) {
		if (i == 0)
			assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, F_WRLCK, 0, 0)), 0);
		else if (i == 1)
			assert_int_equal(lock(&test, FUSE_SETLK, whole(a, F_RDLCK)), 0);
		virtio_dev_pause(test.guest.dev);
		assert_int_equal(virtio_dev_save(test.guest.dev, &saved), i < 2 ? -ENOLCK : 0);
		virtio_dev_resume(test.guest.dev);
		assert_int_equal(flush(&test, a, 1), 0);
		assert_int_equal(lock(&test, FUSE_SETLK, whole(a, F_UNLCK)), 0);
	}
	state_free(&saved);
	unshare_it(&test);
}

/* Another device of the same directory, whose thread is confined before it looks for what was saved. */
static int goes_on(void *arg)
{
	struct state saved = { 0 };
	struct test test;
	uint64_t fh;

	(void)arg;
	child_needs_filters();
	share(&test, ",acl", CONFINED);
	fh = open_file(&test, O_RDWR);
	CHILD_CHECK(write_text(&test, fh, 0, 0, "before") == 6);
	virtio_dev_pause(test.guest.dev);
	CHILD_CHECK(virtio_dev_save(test.guest.dev, &saved) == 0);
	virtio_dev_free(test.guest.dev);
	CHILD_CHECK(vq_plug(&test.guest, test.guest.conf) == 0);
	CHILD_CHECK(virtio_dev_load(test.guest.dev,
				    &(struct state_reader){ saved.data, saved.len }) == 0);
	CHILD_CHECK(vq_run(&test.guest, true) == 0);
	virtio_dev_resume(test.guest.dev);
	CHILD_CHECK(ASK(&test, FUSE_READ, (struct fuse_read_in){ .fh = fh, .size = 6 }) == 0);
	CHILD_CHECK(!memcmp(last(&test), "before", 6));
	CHILD_CHECK(release(&test, fh) == 0);
	state_free(&saved);
	unshare_it(&test);
	return 0;
}

static void test_a_load_is_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), goes_on, NULL);
}

/* What is made for others, and what they change, takes calls of its own. */
static int acts_confined(void *arg)
{
	static const struct {
		struct fuse_mkdir_in in;
		char name[4];
	} make = { { .mode = 02755 }, "dir" };
	struct test test;
	struct stat st;
	char path[64];

	(void)arg;
	child_needs_filters();
	share(&test, ",acl,uidmap=0:70000:10", CONFINED);
	CHILD_CHECK(ASK(&test, FUSE_SETATTR, (struct fuse_setattr_in){
		.valid = FATTR_MODE, .mode = 06755 }) == 0);
	test.node = FUSE_ROOT_ID;
	CHILD_CHECK(ask(&test, FUSE_MKDIR, &make, sizeof(make.in) + sizeof(make.name)) == 0);
	snprintf(path, sizeof(path), "%s/dir", test.path);
	CHILD_CHECK(stat(path, &st) == 0 && st.st_uid == (geteuid() ? geteuid() : 70000));
	CHILD_CHECK(rmdir(path) == 0);
	unshare_it(&test);
	return 0;
}

static void test_who_acts_for_others_is_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), acts_confined, NULL);
}

static void test_locks_are_on_request(void **state)
{
	struct test test;
	uint32_t flags;
	uint64_t a;

	(void)state;
	flags = share(&test, "", INLINE);
	assert_int_equal(flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS), 0);
	a = open_file(&test, O_RDWR);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, F_WRLCK, 0, 0)), -ENOSYS);
	assert_int_equal(lock(&test, FUSE_SETLKW, whole(a, F_WRLCK)), -ENOSYS);
	assert_int_equal(lock(&test, FUSE_GETLK, range(a, 1, F_WRLCK, 0, 0)), -ENOSYS);
	unshare_it(&test);
}

/* A guest may write nothing there, and lock what it reads. */
static void test_locks_of_what_is_read_only(void **state)
{
	struct test test;
	uint64_t a;

	(void)state;
	share(&test, ",locks,ro", INLINE);
	a = open_file(&test, O_RDONLY);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, F_RDLCK, 0, 9)), 0);
	assert_int_equal(host_locks(&test, F_WRLCK, 9, 1), -EAGAIN);
	assert_int_equal(lock(&test, FUSE_SETLK, range(a, 1, F_WRLCK, 0, 9)), -EBADF);
	unshare_it(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_others_do_not_wait),
		cmocka_unit_test(test_several_at_a_time),
		cmocka_unit_test(test_a_reset_waits),
		cmocka_unit_test(test_writes_by_their_flags),
		cmocka_unit_test(test_helpers_are_confined),
		cmocka_unit_test(test_locks_are_the_hosts),
		cmocka_unit_test(test_whole_files),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_waiting_has_an_end),
		cmocka_unit_test(test_no_save_with_a_lock),
		cmocka_unit_test(test_a_load_is_confined),
		cmocka_unit_test(test_who_acts_for_others_is_confined),
		cmocka_unit_test(test_locks_are_on_request),
		cmocka_unit_test(test_locks_of_what_is_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
