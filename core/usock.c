// SPDX-License-Identifier: Apache-2.0
#include "core/usock.h"

#include <assert.h>
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

/* A message of one byte, as an fd does not go alone. */
struct parcel {
	struct msghdr message;
	struct iovec iov;
	char byte;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
};

static struct msghdr *wrap(struct parcel *parcel)
{
	*parcel = (struct parcel){
		.iov = { &parcel->byte, 1 },
		.message = { .msg_iov = &parcel->iov, .msg_iovlen = 1, .msg_control = parcel->control,
			     .msg_controllen = sizeof(parcel->control) },
	};
	return &parcel->message;
}

int usock_send_fd(int sock, int fd)
{
	struct parcel parcel;
	struct msghdr *message = wrap(&parcel);
	struct cmsghdr *control = CMSG_FIRSTHDR(message);

	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(control), &fd, sizeof(fd));
	return sendmsg(sock, message, USOCK_SEND_FLAGS) < 0 ? -errno : 0;
}

int usock_receive_fd(int sock, int *ret_fd)
{
	struct parcel parcel;
	struct msghdr *message = wrap(&parcel);
	ssize_t n = recvmsg(sock, message, USOCK_RECEIVE_FLAGS);
	struct cmsghdr *control = CMSG_FIRSTHDR(message);

	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	/* Truncated: the thread may have no more fds. */
	if (!control || message->msg_flags & MSG_CTRUNC)
		return -EMFILE;
	memcpy(ret_fd, CMSG_DATA(control), sizeof(*ret_fd));
	return 0;
}
