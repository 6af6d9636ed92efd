// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include "core/util.h"
#include "devices/block/block.h"

#define FILE_LOCK_TRIES 100
#define FILE_LOCK_PAUSE_NS 10000000
#define FILE_DIRECT_ALIGN 4096 /* at the most */

static int file_try_lock(int fd, bool read_only)
{
	struct flock lock = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

/*
 * Another VM may hold the image: the lock goes with the open file, not with the
 * process. The file of a VM that has just ended stays open a little longer,
 * since the kernel takes io_uring instances apart in the background.
 */
static int file_lock(int fd, bool read_only)
{
	const struct timespec moment = { .tv_nsec = FILE_LOCK_PAUSE_NS };
	int r = file_try_lock(fd, read_only);

	for (int i = 0; r == -EAGAIN && i < FILE_LOCK_TRIES; i++) {
		nanosleep(&moment, NULL);
		r = file_try_lock(fd, read_only);
	}
	return r;
}

static int file_size(int fd, const struct stat *st, uint64_t *ret_size)
{
	uint64_t size = (uint64_t)st->st_size;

	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, &size) < 0)
		return -errno;
	*ret_size = size;
	return 0;
}

/* What the file system or the device does at the least without reading it first. */
static uint32_t file_physical_block(int fd, const struct stat *st)
{
	unsigned int size = (unsigned int)st->st_blksize;

	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKPBSZGET, &size) < 0)
		size = BLOCK_SECTOR;
	return size >= BLOCK_SECTOR && size <= KIB(64) && !(size & (size - 1)) ? size : BLOCK_SECTOR;
}

/* What offsets and lengths of direct I/O must be multiples of, and addresses of buffers. */
static int file_direct_align(int fd, const struct stat *st, struct block_image *image)
{
	int sector = BLOCK_SECTOR;

	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKSSZGET, &sector) < 0)
		return -errno;
	image->block_size = (uint32_t)util_max((uint64_t)sector, BLOCK_SECTOR);
	image->buffer_align = image->block_size;
	if (S_ISBLK(st->st_mode))
		return 0;
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    stx.stx_mask & STATX_DIOALIGN) {
		if (!stx.stx_dio_offset_align)
			return -EOPNOTSUPP;
		image->block_size = (uint32_t)util_max(stx.stx_dio_offset_align, BLOCK_SECTOR);
		image->buffer_align = (uint32_t)util_max(stx.stx_dio_mem_align, image->block_size);
	}
#endif
	return 0;
}

/* Some file systems, an overlay's for one, take the flag and refuse the transfer. */
static int file_try_direct(int fd)
{
	_Alignas(FILE_DIRECT_ALIGN) char block[FILE_DIRECT_ALIGN];

	if (pread(fd, block, sizeof(block), 0) < 0)
		return errno == EINVAL ? -EOPNOTSUPP : -errno;
	return 0;
}

int block_image_adopt(struct block_image *image, int fd, bool read_only, bool direct)
{
	struct block_image opened = { .fd = fd, .read_only = read_only, .block_size = BLOCK_SECTOR };
	const int flags = fcntl(fd, F_GETFL);
	struct stat st;
	int r;

	if (flags < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((flags & O_ACCMODE) != O_RDWR && !(read_only && (flags & O_ACCMODE) == O_RDONLY))
		return -EACCES;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTBLK;
	r = file_lock(fd, read_only);
	if (r < 0)
		return r;
	r = file_size(fd, &st, &opened.size);
	if (r < 0)
		return r;
	opened.device = S_ISBLK(st.st_mode);
	opened.physical_block_size = file_physical_block(fd, &st);
	/* Takes O_NONBLOCK away, with which io_uring would give up instead of waiting. */
	if (fcntl(fd, F_SETFL, direct ? O_DIRECT : 0) < 0)
		return errno == EINVAL ? -EOPNOTSUPP : -errno;
	if (direct) {
		r = file_direct_align(fd, &st, &opened);
		if (r == 0)
			r = file_try_direct(fd);
		if (r < 0)
			return r;
	}
	*image = opened;
	return 0;
}

int block_image_open(struct block_image *image, const char *path, bool read_only, bool direct)
{
	_cleanup_close_ int fd = -1;
	int r;

	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = block_image_adopt(image, fd, read_only, direct);
	if (r == 0)
		util_steal_fd(&fd);
	return r;
}

int block_image_scratch(struct block_image *image, uint64_t size, bool read_only)
{
	struct block_image made = {
		.size = size,
		.block_size = BLOCK_SECTOR,
		.physical_block_size = BLOCK_SECTOR,
		.read_only = read_only,
	};
	_cleanup_close_ int fd = -1;

	fd = memfd_create("scratch", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* A write can then not make it longer, whatever it was asked for. */
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	made.fd = util_steal_fd(&fd);
	*image = made;
	return 0;
}

void block_image_close(struct block_image *image)
{
	struct flock none = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	/* Whoever gave the file may have it open still. */
	if (image->fd >= 0)
		(void)fcntl(image->fd, F_OFD_SETLK, &none);
	util_closep(&image->fd);
}
