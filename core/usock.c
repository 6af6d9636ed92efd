// SPDX-License-Identifier: Apache-2.0
#include "core/usock.h"

#include <assert.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "core/util.h"

/* A socket, and the address that path is. */
static int make_socket(const char *path, int type, struct sockaddr_un *ret_addr, int *ret_fd)
{
	size_t size = strlen(path) + 1;
	int fd;

	static_assert(sizeof(ret_addr->sun_path) == USOCK_PATH_MAX, "a path with its zero fits");
	if (size > sizeof(ret_addr->sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*ret_addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret_addr->sun_path, path, size);
	*ret_fd = fd;
	return 0;
}

int usock_connect(const char *path, int type, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un addr;
	int rc = make_socket(path, type, &addr, &fd);

	if (rc < 0)
		return rc;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	*ret_fd = util_steal_fd(&fd);
	return 0;
}

/* Removes a socket that nobody serves any more, and nothing else. */
static int remove_stale(const char *path, int type)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (usock_connect(path, type, &fd) != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(path) < 0 ? -errno : 0;
}

int usock_listen(const char *path, int type, int backlog, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un addr;
	int rc = make_socket(path, type, &addr, &fd);

	if (rc < 0)
		return rc;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno != EADDRINUSE)
			return -errno;
		rc = remove_stale(path, type);
		if (rc < 0)
			return rc;
		if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
			return -errno;
	}
	if (listen(fd, backlog) < 0)
		return -errno;
	*ret_fd = util_steal_fd(&fd);
	return 0;
}
