// SPDX-License-Identifier: Apache-2.0
/*
 * What can fail because of what the user asked for fails here, before there is
 * a guest: addresses, ports, files. The program gets all of it open, in one
 * message, and does not see a path.
 */
#include "devices/display/display.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "core/inet.h"
#include "core/spawn.h"
#include "devices/display/control.h"

#define BACKLOG 16
/* A machine may be busy; a program that hangs must not hold the end of a run for long. */
#define ANSWER_S 20

const struct hint display_hints[] = { DISPLAY_HINTS, { 0 } };

void display_init(struct display *display)
{
	*display = (struct display){ .memory = -1, .password = -1, .control = -1 };
	for (size_t i = 0; i < ARRAY_SIZE(display->ends); i++)
		display->ends[i] = -1;
	for (size_t i = 0; i < ARRAY_SIZE(display->listen); i++)
		display->listen[i] = -1;
}

/* ---- where viewers come ---- */

int display_socket(const struct display *display, unsigned int head, char ret_path[USOCK_PATH_MAX])
{
	char path[USOCK_PATH_MAX];
	int n = head ? snprintf(path, sizeof(path), "%s.%u", display->path, head)
		     : snprintf(path, sizeof(path), "%s", display->path);

	if (n >= (int)sizeof(path))
		return -ENAMETOOLONG;
	memcpy(ret_path, path, sizeof(path));
	return 0;
}

static int listen_at_path(struct display *display)
{
	char path[USOCK_PATH_MAX];
	int r = 0;

	for (unsigned int i = 0; !r && i < display->heads; i++) {
		r = display_socket(display, i, path);
		if (!r)
			r = usock_listen(path, SOCK_STREAM, BACKLOG, &display->listen[i]);
	}
	return r;
}

static int listen_at_address(const union inet_address *address, int *ret_fd)
{
	_cleanup_close_ int fd = socket(address->any.sa_family,
					SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int on = 1;

	if (fd < 0)
		return errno == EAFNOSUPPORT ? -EADDRNOTAVAIL : -errno;
	/* Connections that are closing do not count. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, &address->any, sizeof(*address)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = util_steal_fd(&fd);
	return 0;
}

static int listen_at_ports(struct display *display, const char *text)
{
	char word[INET6_ADDRSTRLEN];
	union inet_address address;
	uint16_t port;
	int r = inet_take_address(&text, word, &address);

	if (!r)
		r = *word ? inet_take_port(&text, '\0', &port) : -EBADMSG;
	if (r)
		return r;
	if (display->password < 0 && !inet_is_loopback(&address))
		return -ENOKEY;
	if (port + display->heads - 1 > UINT16_MAX)
		return -ERANGE;
	for (unsigned int i = 0; !r && i < display->heads; i++) {
		inet_set_port(&address, (uint16_t)(port + i));
		r = listen_at_address(&address, &display->listen[i]);
	}
	return r;
}

static int open_password(const char *path, int *ret_fd)
{
	/* What is no file, such as a FIFO, is not to be waited for. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -EKEYREJECTED;
	*ret_fd = fd;
	return 0;
}

/* Says whether there will be viewers. */
static int listen_for_viewers(struct display *display, const struct display_conf *conf, bool *ret_any)
{
	static const char vnc[] = "vnc:";
	const char *viewer = conf->viewer;
	int r = 0;

	*ret_any = false;
	if (!viewer || !strcmp(viewer, "headless"))
		return 0;
	if (strncmp(viewer, vnc, strlen(vnc)))
		return -EBADMSG;
	viewer += strlen(vnc);
	if (conf->password_file)
		r = open_password(conf->password_file, &display->password);
	if (!r && strchr(viewer, '/')) {
		display->path = viewer;
		r = listen_at_path(display);
	} else if (!r) {
		r = listen_at_ports(display, viewer);
	}
	*ret_any = !r;
	return r;
}

/* ---- devices ---- */

/* Its size is what the program relies on; and what one viewer's process wrote all would see. */
static int share_memory(int fd, size_t len, void **ret_map)
{
	static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	void *map;
	int err;

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		return -errno;
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	err = fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
	if (err)
		munmap(map, len);
	else
		*ret_map = map;
	return err;
}

int display_open(struct display *display, const struct display_conf *conf, unsigned int heads,
		 struct display_head **ret_heads)
{
	const size_t len = heads * sizeof(struct display_head);
	void *map = NULL;
	bool wanted;
	int r;

	assert(heads && heads <= DISPLAY_HEADS_MAX);
	static_assert(sizeof(struct display_head) % KIB(4) == 0, "each head begins at a page");
	display->heads = heads;
	r = listen_for_viewers(display, conf, &wanted);
	if (!r && (wanted || display->shots)) {
		display->memory = memfd_create("microvm-display", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		r = share_memory(display->memory, len, &map);
	}
	if (!r)
		*ret_heads = map;
	return r;
}

void display_unmap(struct display_head *heads, unsigned int count)
{
	if (heads)
		munmap(heads, count * sizeof(*heads));
}

int display_connect(struct display *display, enum display_role role, int *ret_fd)
{
	const int room = KIB(32);
	int fds[2];

	if (display->ends[role] >= 0)
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	/* For some dozens of messages, whatever the default: a gpu tells the rest as one. */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	display->ends[role] = fds[0];
	*ret_fd = fds[1];
	return 0;
}

int display_send(int fd, const struct display_message *message)
{
	if (write(fd, message, sizeof(*message)) < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return 0;
}

int display_receive(int fd, struct display_message *message)
{
	/* Of a packet that is too long there is more than that. */
	uint8_t packet[sizeof(*message) + 1];
	ssize_t n = read(fd, packet, sizeof(packet));

	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	if (n != sizeof(*message))
		return -EBADMSG;
	memcpy(message, packet, sizeof(*message));
	return 0;
}

void display_rect_extend(struct display_rect *sum, const struct display_rect *rect)
{
	uint32_t right, bottom;

	if (display_rect_empty(sum)) {
		*sum = *rect;
		return;
	}
	right = (uint32_t)util_max(sum->x + sum->width, rect->x + rect->width);
	bottom = (uint32_t)util_max(sum->y + sum->height, rect->y + rect->height);
	sum->x = (uint32_t)util_min(sum->x, rect->x);
	sum->y = (uint32_t)util_min(sum->y, rect->y);
	sum->width = right - sum->x;
	sum->height = bottom - sum->y;
}

/* ---- the program ---- */

static int find_program(const struct display *display, char path[PATH_MAX])
{
	static const char *const places[] = { "microvm-display", "../libexec/microvm-display" };
	char ours[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", ours, sizeof(ours) - 1);

	if (len < 0)
		return -errno;
	ours[len] = '\0';
	*(strrchr(ours, '/') ?: ours) = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int n = display->program ? snprintf(path, PATH_MAX, "%s", display->program)
					 : snprintf(path, PATH_MAX, "%s/%s", ours, places[i]);

		if (n < PATH_MAX && access(path, X_OK) == 0)
			return 0;
	}
	return -ENOPKG;
}

/* Puts the file, if there is one, into the parcel; returns its place there. */
static int32_t pack(struct usock_parcel *parcel, int fd)
{
	if (fd < 0)
		return -1;
	parcel->fds[parcel->count] = fd;
	return (int32_t)parcel->count++;
}

static int send_setup(const struct display *display, const char *name, int sock)
{
	struct display_setup setup = { .heads = display->heads };
	struct usock_parcel parcel = { .data = &setup, .len = sizeof(setup) };

	static_assert(2 + DISPLAY_ROLES + DISPLAY_HEADS_MAX <= USOCK_FILES_MAX, "one message has all");
	setup.memory = pack(&parcel, display->memory);
	setup.password = pack(&parcel, display->password);
	for (size_t i = 0; i < DISPLAY_ROLES; i++)
		setup.ends[i] = pack(&parcel, display->ends[i]);
	for (size_t i = 0; i < DISPLAY_HEADS_MAX; i++)
		setup.listen[i] = pack(&parcel, display->listen[i]);
	strncpy(setup.name, name, sizeof(setup.name) - 1);
	return usock_send(sock, &parcel);
}

/* The program will not be understood any more after a failure. */
static int take_answer(struct display *display)
{
	struct pollfd pollfd = { .fd = display->control, .events = POLLIN };
	int n = ppoll(&pollfd, 1, &(struct timespec){ .tv_sec = ANSWER_S }, NULL);
	int32_t answer;
	ssize_t len;

	if (n > 0) {
		len = read(display->control, &answer, sizeof(answer));
		if (len == sizeof(answer))
			return answer;
		n = len < 0 ? -errno : -ECONNRESET;
	} else {
		n = n < 0 ? -errno : -ETIMEDOUT;
	}
	util_closep(&display->control);
	return n;
}

static void close_files(struct display *display)
{
	util_closep(&display->memory);
	util_closep(&display->password);
	for (size_t i = 0; i < ARRAY_SIZE(display->ends); i++)
		util_closep(&display->ends[i]);
	for (size_t i = 0; i < ARRAY_SIZE(display->listen); i++)
		util_closep(&display->listen[i]);
}

int display_start(struct display *display, const char *name)
{
	_cleanup_close_ int its = -1;
	char path[PATH_MAX];
	int fds[2], r;

	/* The ends stay open: to devices it looks as if nobody did anything. */
	if (display->memory < 0)
		return 0;
	r = find_program(display, path);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	display->control = fds[0];
	its = fds[1];
	r = send_setup(display, name, display->control);
	if (!r)
		r = spawn_program((const char *const[]){ path, NULL }, its, false, &display->pid);
	if (r < 0)
		return r;
	util_closep(&its);
	close_files(display);
	return take_answer(display);
}

int display_give_file(struct display *display, unsigned int head, int fd)
{
	struct display_picture picture = { .head = head };

	return usock_send(display->control,
			  &(struct usock_parcel){ &picture, sizeof(picture), { fd }, 1 });
}

int display_shoot(struct display *display, unsigned int head)
{
	const struct display_picture picture = { .head = head };

	if (display->control < 0)
		return -ECONNRESET;
	if (write(display->control, &picture, sizeof(picture)) < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return take_answer(display);
}

void display_close(struct display *display)
{
	int status;

	util_closep(&display->control);
	close_files(display);
	if (display->pid > 0)
		(void)spawn_wait(display->pid, &status);
	display->pid = 0;
}
