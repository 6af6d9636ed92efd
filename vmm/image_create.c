// SPDX-License-Identifier: Apache-2.0
/*
 * What an image is made in has another name until it is whole and on stable
 * storage, so that whatever ends the program leaves nothing that looks like an
 * image. Signals that end it wait until that file is gone.
 */
#include "vmm/image_command.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/util.h"
#include "devices/block/image.h"
#include "devices/block/qcow2.h"

#define CLUSTER_SIZE_DEFAULT KIB(64)

struct progress {
	struct image_progress base;
	uint64_t percent;
	bool terminal;
};

static void ending_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGHUP);
}

static int report_progress(struct image_progress *base, uint64_t done, uint64_t total)
{
	struct progress *progress = container_of(base, struct progress, base);
	uint64_t percent = done / (total / 100 + 1);
	sigset_t ending, pending;

	if (progress->terminal && percent != progress->percent)
		fprintf(stderr, "\r%3" PRIu64 " %%", percent);
	progress->percent = percent;
	ending_signals(&ending);
	sigpending(&pending);
	sigandset(&pending, &pending, &ending);
	return sigisemptyset(&pending) ? 0 : -EINTR;
}

static int create_qcow2(int fd, const struct image_conf *conf, struct image_progress *progress)
{
	uint64_t cluster_size = conf->cluster_size ?: CLUSTER_SIZE_DEFAULT;
	struct qcow2_header header = {
		.size = conf->size, .cluster_bits = (uint32_t)__builtin_ctzll(cluster_size),
		.refcount_order = 4,
	};

	if (conf->backing) {
		if (strlen(conf->backing) > QCOW2_BACKING_MAX)
			return -ENAMETOOLONG;
		memcpy(header.backing, conf->backing, strlen(conf->backing));
		snprintf(header.backing_format, sizeof(header.backing_format), "%s",
			 block_formats[conf->backing_format]);
	}
	return qcow2_create(fd, &header, (enum image_preallocation)conf->preallocation, progress);
}

static int create_raw(int fd, const struct image_conf *conf, struct image_progress *progress)
{
	if (ftruncate(fd, (off_t)conf->size) < 0)
		return -errno;
	return image_preallocate(fd, 0, conf->size, (enum image_preallocation)conf->preallocation,
				 progress);
}

static int fill(int fd, const struct image_conf *conf)
{
	struct progress progress = { { report_progress }, .terminal = isatty(STDERR_FILENO) };
	int r;

	if (conf->format == BLOCK_FORMAT_QCOW2)
		r = create_qcow2(fd, conf, &progress.base);
	else
		r = create_raw(fd, conf, &progress.base);
	if (progress.terminal && progress.percent)
		fputs("\r      \r", stderr);
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

/* A file is replaced only where that was asked for, even if it has appeared since we looked. */
static int publish(const char *made, const char *path, bool force)
{
	if (force)
		return rename(made, path) < 0 ? -errno : 0;
	if (renameat2(AT_FDCWD, made, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	/* A file system that cannot do so can have two names for a file. */
	if (errno != EINVAL || link(made, path) < 0)
		return -errno;
	unlink(made);
	return 0;
}

/* So that the name is there after a power failure, too. */
static int sync_folder(const char *path)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int create_as(const char *made, const struct image_conf *conf)
{
	_cleanup_close_ int fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int r;

	if (fd < 0)
		return -errno;
	r = fill(fd, conf);
	r = r ?: publish(made, conf->path, conf->force);
	if (r < 0)
		unlink(made);
	return r ?: sync_folder(conf->path);
}

static const char *create_advice(int err)
{
	static const struct hint hints[] = {
		{ EEXIST, "it is there already, --force replaces it" },
		{ EFBIG, "an image with such clusters cannot be that large, choose a larger "
			 "--cluster-size" },
		{ ENAMETOOLONG, "a name is too long" },
		{ EOPNOTSUPP, "its file system cannot set space aside, choose --preallocation full" },
		{ EINTR, "interrupted, nothing was made" },
		{ 0 },
	};

	return hint_find(hints, err);
}

/* What stands in the way of a new file. */
static int clear_place(const struct image_conf *conf, struct block_image *old)
{
	struct stat st;

	if (lstat(conf->path, &st) < 0)
		return errno == ENOENT ? 0 : image_fail(conf->path, "%s", strerror(errno));
	if (!conf->force)
		return image_fail(conf->path, "%s", create_advice(EEXIST));
	if (!S_ISREG(st.st_mode))
		return image_fail(conf->path, "it is not a plain file, and is not replaced");
	return image_open(old, conf->path, false);
}

static int check_wishes(struct image_conf *conf)
{
	bool qcow2 = conf->format == BLOCK_FORMAT_QCOW2;

	if (!qcow2 && (conf->backing || conf->backing_format || conf->cluster_size))
		return image_fail(conf->path, "backing files and clusters are for --format qcow2");
	if (conf->backing && conf->backing_format == BLOCK_FORMAT_DEFAULT)
		return image_fail(conf->path, "say what the backing file is: --backing-format raw "
					      "or qcow2");
	if (conf->backing_format && !conf->backing)
		return image_fail(conf->path, "--backing-format is for a --backing file");
	/* It would hide all of the backing file. */
	if (conf->backing && conf->preallocation != IMAGE_OFF)
		return image_fail(conf->path,
				  "an image with a backing file cannot be preallocated");
	if (conf->backing && !conf->size &&
	    image_backing_size(conf->path, conf->backing, conf->backing_format, &conf->size))
		return EXIT_FAILURE;
	if (!conf->size)
		return image_fail(conf->path, "say how large it is to be, for example 10G");
	return image_check_size(conf);
}

int image_create(const struct image_conf *given)
{
	_cleanup_(block_image_close) struct block_image old = { .fd = -1 };
	struct image_conf conf = *given;
	_cleanup_free_ char *made = NULL;
	sigset_t ending, before;
	uint64_t size;
	int r;

	if (check_wishes(&conf) || clear_place(&conf, &old))
		return EXIT_FAILURE;
	/* Whose size was taken was looked at for that. */
	if (conf.backing && given->size &&
	    image_backing_size(conf.path, conf.backing, conf.backing_format, &size))
		return EXIT_FAILURE;
	if (asprintf(&made, "%s.%d.new", conf.path, getpid()) < 0)
		return image_fail(conf.path, "%s", strerror(ENOMEM));
	ending_signals(&ending);
	sigprocmask(SIG_BLOCK, &ending, &before);
	r = create_as(made, &conf);
	if (r < 0)
		image_fail(conf.path, "%s", create_advice(r));
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
