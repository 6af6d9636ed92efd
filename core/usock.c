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
	int rc;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	rc = usock_connect(path, type, &fd);
	if (rc != -ECONNREFUSED)
		return rc == -EACCES ? rc : -EADDRINUSE;
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

/* The kernel's idea of a parcel. */
struct wrapped {
	struct msghdr message;
	struct iovec iov;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(USOCK_FILES_MAX * sizeof(int))];
};

static struct msghdr *wrap(struct wrapped *wrapped, const struct usock_parcel *parcel, size_t count)
{
	*wrapped = (struct wrapped){
		.iov = { parcel->data, parcel->len },
		.message = { .msg_iov = &wrapped->iov, .msg_iovlen = 1 },
	};
	if (count) {
		wrapped->message.msg_control = wrapped->control;
		wrapped->message.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	return &wrapped->message;
}

int usock_send(int sock, const struct usock_parcel *parcel)
{
	const size_t len = parcel->count * sizeof(int);
	struct wrapped wrapped;
	struct msghdr *message = wrap(&wrapped, parcel, parcel->count);
	struct cmsghdr *control = CMSG_FIRSTHDR(message);

	if (control) {
		control->cmsg_level = SOL_SOCKET;
		control->cmsg_type = SCM_RIGHTS;
		control->cmsg_len = CMSG_LEN(len);
		memcpy(CMSG_DATA(control), parcel->fds, len);
	}
	return sendmsg(sock, message, USOCK_SEND_FLAGS) < 0 ? -errno : 0;
}

int usock_receive(int sock, struct usock_parcel *parcel)
{
	struct wrapped wrapped;
	struct msghdr *message = wrap(&wrapped, parcel, USOCK_FILES_MAX);
	ssize_t n = recvmsg(sock, message, USOCK_RECEIVE_FLAGS);
	struct cmsghdr *control = n < 0 ? NULL : CMSG_FIRSTHDR(message);

	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	parcel->len = (size_t)n;
	parcel->count = 0;
	if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) {
		parcel->count = (unsigned int)((control->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(parcel->fds, CMSG_DATA(control), parcel->count * sizeof(int));
	}
	if (!(message->msg_flags & MSG_CTRUNC))
		return 0;
	usock_close_files(parcel);
	return -EMFILE;
}

void usock_close_files(struct usock_parcel *parcel)
{
	while (parcel->count)
		util_closep(&parcel->fds[--parcel->count]);
}

int usock_send_fd(int sock, int fd)
{
	return usock_send(sock, &(struct usock_parcel){ (char[1]){ 0 }, 1, { fd }, 1 });
}

int usock_receive_fd(int sock, int *ret_fd)
{
	char byte;
	struct usock_parcel parcel = { &byte, 1, { 0 }, 0 };
	int rc = usock_receive(sock, &parcel);

	if (rc < 0)
		return rc;
	if (parcel.count != 1) {
		usock_close_files(&parcel);
		return -EMFILE;
	}
	*ret_fd = parcel.fds[0];
	return 0;
}
