// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-user's front end. A message is a header, a payload whose size follows
 * from the request, and files that go with it. What comes back is checked to be
 * just the answer that is waited for: its request, its flags, its size. Files
 * are never taken: read() has the kernel drop them.
 *
 * Linux has no header for the protocol; its payloads are mostly the kernel's
 * own structures.
 */
#include "devices/vhost/user.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include "core/redial.h"
#include "core/util.h"

/* How long a program may take to answer, or to come in the first place. */
#define ANSWER_S 5
#define COME_S 30

#define VERSION 1u
#define FLAG_REPLY 4u
#define FLAG_NEED_REPLY 8u
#define FLAGS_MASK 7u /* version and FLAG_REPLY */
#define NO_FD 0x100   /* in the payload, where a file would go with it */

#define F_PROTOCOL_FEATURES 30 /* among virtio's features */
#define PROTOCOL_F_MQ 0
#define PROTOCOL_F_REPLY_ACK 3

/* All back ends take as many. */
#define REGIONS_MAX 8

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
};

struct header {
	uint32_t request, flags, size;
};

static_assert(sizeof(struct header) == 12 && sizeof(struct vhost_memory_region) == 32, "the protocol's");

/* ---- messages ---- */

static int wait_for(int fd, short events, int seconds)
{
	struct pollfd pollfd = { .fd = fd, .events = events };
	int n = ppoll(&pollfd, 1, &(struct timespec){ .tv_sec = seconds }, NULL);

	if (n < 0)
		return -errno;
	return n ? 0 : -ETIMEDOUT;
}

static int send_message(const struct vhost_user *user, struct header header, void *payload,
			const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(REGIONS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov[] = { { &header, sizeof(header) }, { payload, header.size } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
	int r = wait_for(user->vhost.fd, POLLOUT, ANSWER_S);
	ssize_t n;

	if (r < 0)
		return r;
	if (fd_count) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	n = sendmsg(user->vhost.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof(header) + header.size ? 0 : -EPROTO;
}

static int receive(const struct vhost_user *user, void *buffer, size_t len)
{
	uint8_t *at = buffer;

	while (len) {
		int r = wait_for(user->vhost.fd, POLLIN, ANSWER_S);
		ssize_t n;

		if (r < 0)
			return r;
		n = read(user->vhost.fd, at, len);
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The answer to a request, of just this size. */
static int receive_reply(const struct vhost_user *user, enum request request, void *payload, uint32_t size)
{
	struct header header;
	int r = receive(user, &header, sizeof(header));

	if (r < 0)
		return r;
	if (header.request != request || (header.flags & FLAGS_MASK) != (VERSION | FLAG_REPLY) ||
	    header.size != size)
		return -EPROTO;
	return receive(user, payload, size);
}

/* A request with an answer: the payload becomes that. */
static int ask(const struct vhost_user *user, enum request request, void *payload, uint32_t size,
	       uint32_t reply_size)
{
	int r = send_message(user, (struct header){ request, VERSION, size }, payload, NULL, 0);

	return r < 0 ? r : receive_reply(user, request, payload, reply_size);
}

/* A request without one but that it was done, where the program knows how to say so. */
static int tell(const struct vhost_user *user, enum request request, void *payload, uint32_t size,
		const int *fds, size_t fd_count)
{
	const bool acknowledged = user->protocol >> PROTOCOL_F_REPLY_ACK & 1;
	struct header header = { request, VERSION | (acknowledged ? FLAG_NEED_REPLY : 0), size };
	int r = send_message(user, header, payload, fds, fd_count);
	uint64_t refused;

	if (r < 0 || !acknowledged)
		return r;
	r = receive_reply(user, request, &refused, sizeof(refused));
	if (r < 0)
		return r;
	return refused ? -EREMOTEIO : 0;
}

static int tell_state(const struct vhost_user *user, enum request request, unsigned int index,
		      uint32_t number)
{
	struct vhost_vring_state state = { index, number };

	return tell(user, request, &state, sizeof(state), NULL, 0);
}

static int tell_file(const struct vhost_user *user, enum request request, unsigned int index, int fd)
{
	uint64_t payload = index | (fd < 0 ? NO_FD : 0);

	return tell(user, request, &payload, sizeof(payload), &fd, fd >= 0);
}

/* ---- connections ---- */

static int agree_protocol(struct vhost_user *user)
{
	uint64_t word;
	int r = ask(user, GET_PROTOCOL_FEATURES, &word, 0, sizeof(word));

	if (r < 0)
		return r;
	word &= 1ULL << PROTOCOL_F_MQ | 1ULL << PROTOCOL_F_REPLY_ACK;
	r = tell(user, SET_PROTOCOL_FEATURES, &word, sizeof(word), NULL, 0);
	if (r < 0)
		return r;
	user->protocol = word;
	return 0;
}

static int check_sets(const struct vhost_user *user)
{
	uint64_t most;
	int r;

	if (user->sets == 1)
		return 0;
	if (!(user->protocol >> PROTOCOL_F_MQ & 1))
		return -ENOBUFS;
	r = ask(user, GET_QUEUE_NUM, &most, 0, sizeof(most));
	if (r < 0)
		return r;
	return most < user->sets ? -ENOBUFS : 0;
}

/* What comes before memory and rings. The features that were there before have to be there again. */
static int greet(struct vhost_user *user)
{
	uint64_t features;
	int r;

	user->protocol = 0;
	r = ask(user, GET_FEATURES, &features, 0, sizeof(features));
	if (!r && features >> F_PROTOCOL_FEATURES & 1)
		r = agree_protocol(user);
	if (!r)
		r = check_sets(user);
	if (!r)
		r = tell(user, SET_OWNER, NULL, 0, NULL, 0);
	if (r < 0)
		return r;
	if (user->vhost.features & ~features)
		return -EPROTO;
	if (!user->vhost.features)
		user->vhost.features = features;
	return 0;
}

/* Nobody is there. */
static void part(struct vhost_user *user)
{
	/* Other threads have copies of it that are never used: closing ours would tell nobody. */
	(void)shutdown(user->vhost.fd, SHUT_RDWR);
	user->vhost.fd = -1;
	if (!user->server)
		redial_ask(user->door.fd);
}

/* Who fails an operation is gone. */
static void lose_if(struct vhost_user *user, int r)
{
	if (r >= 0)
		return;
	loop_del(user->loop, &user->event);
	part(user);
	user->changed(user, false);
}

static int accept_one(int fd, int *ret_fd)
{
	int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (accepted < 0)
		return -errno;
	*ret_fd = accepted;
	return 0;
}

static void on_end(struct event *event, uint32_t revents)
{
	(void)revents;
	/* Nobody waits for an answer, so whatever is there breaks the protocol, if it is not the end. */
	lose_if(container_of(event, struct vhost_user, event), -ECONNRESET);
}

static void on_door(struct event *event, uint32_t revents)
{
	struct vhost_user *user = container_of(event, struct vhost_user, door);
	_cleanup_close_ int fd = -1;
	int r = user->server ? accept_one(event->fd, &fd) : redial_take(event->fd, &fd);

	(void)revents;
	/* Who would have connected is gone. */
	if (r == -ECONNRESET && !user->server)
		loop_del(user->loop, event);
	/* One at a time, in the place of the last one: its number is what the main thread closes at the end. */
	if (r < 0 || user->vhost.fd >= 0 || dup3(fd, user->event.fd, O_CLOEXEC) < 0)
		return;
	user->vhost.fd = user->event.fd;
	if (greet(user) < 0 || loop_add(user->loop, &user->event, EPOLLIN) < 0)
		part(user);
	else
		user->changed(user, true);
}

/* ---- the operations ---- */

static int tell_memory(const struct vhost_user *user)
{
	const struct mem *mem = user->vhost.mem;
	/* A region's last member is where it begins in its file: at 0. */
	union {
		struct vhost_memory memory;
		uint8_t room[sizeof(struct vhost_memory) +
			     REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} table = { .memory.nregions = (uint32_t)mem->count };
	const uint32_t size = (uint32_t)(sizeof(table.memory) +
					 mem->count * sizeof(table.memory.regions[0]));
	int fds[REGIONS_MAX];

	for (size_t i = 0; i < mem->count; i++) {
		table.memory.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->regions[i].gpa,
			.memory_size = mem->regions[i].len,
			.userspace_addr = (uintptr_t)mem->regions[i].hva,
		};
		fds[i] = mem->regions[i].fd;
	}
	return tell(user, SET_MEM_TABLE, &table, size, fds, mem->count);
}

static int user_start(struct vhost *vhost, uint64_t features)
{
	struct vhost_user *user = container_of(vhost, struct vhost_user, vhost);
	int r;

	if (vhost->fd < 0)
		return 0;
	features = (features | 1ULL << F_PROTOCOL_FEATURES) & vhost->features;
	r = tell(user, SET_FEATURES, &features, sizeof(features), NULL, 0);
	if (!r)
		r = tell_memory(user);
	lose_if(user, r);
	return 0;
}

static int tell_ring(const struct vhost_user *user, const struct vhost_ring *ring)
{
	struct vhost_vring_addr addr = {
		.index = ring->index,
		.desc_user_addr = (uintptr_t)ring->desc,
		.used_user_addr = (uintptr_t)ring->device,
		.avail_user_addr = (uintptr_t)ring->driver,
	};
	int r = tell_state(user, SET_VRING_NUM, ring->index, ring->size);

	if (!r)
		r = tell_state(user, SET_VRING_BASE, ring->index, ring->base);
	if (!r)
		r = tell(user, SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
	if (!r)
		r = tell_file(user, SET_VRING_ERR, ring->index, ring->error);
	if (!r)
		r = tell_file(user, SET_VRING_CALL, ring->index, ring->call);
	if (!r)
		r = tell_file(user, SET_VRING_KICK, ring->index, ring->kick);
	return r;
}

static int user_start_ring(struct vhost *vhost, const struct vhost_ring *ring)
{
	struct vhost_user *user = container_of(vhost, struct vhost_user, vhost);

	if (vhost->fd >= 0)
		lose_if(user, tell_ring(user, ring));
	return 0;
}

static int user_set_call(struct vhost *vhost, unsigned int index, int fd)
{
	struct vhost_user *user = container_of(vhost, struct vhost_user, vhost);

	if (vhost->fd >= 0)
		lose_if(user, tell_file(user, SET_VRING_CALL, index, fd));
	return 0;
}

void vhost_user_enable(struct vhost_user *user, unsigned int index, bool enable)
{
	/* Without these a ring is enabled by its start. */
	if (user->vhost.fd >= 0 && user->vhost.features >> F_PROTOCOL_FEATURES & 1)
		lose_if(user, tell_state(user, SET_VRING_ENABLE, index, enable));
}

static int user_stop_ring(struct vhost *vhost, unsigned int index, uint32_t *ret_base)
{
	struct vhost_user *user = container_of(vhost, struct vhost_user, vhost);
	struct vhost_vring_state state = { .index = index };
	int r;

	vhost_user_enable(user, index, false);
	if (vhost->fd < 0)
		return -ENOTCONN;
	r = ask(user, GET_VRING_BASE, &state, sizeof(state), sizeof(state));
	if (!r && state.index != index)
		r = -EPROTO;
	lose_if(user, r);
	if (!r)
		*ret_base = state.num;
	return r;
}

static const struct vhost_ops user_ops = {
	.start = user_start,
	.start_ring = user_start_ring,
	.set_call = user_set_call,
	.stop_ring = user_stop_ring,
};

/* ---- life ---- */

static int check_memory(const struct mem *mem)
{
	if (mem->count > REGIONS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < mem->count; i++)
		if (mem->regions[i].fd < 0)
			return -EMEDIUMTYPE;
	return 0;
}

static int let_in(struct vhost_user *user, const char *path)
{
	int r = usock_listen(path, SOCK_STREAM, 1, &user->door.fd);

	if (!r)
		r = wait_for(user->door.fd, POLLIN, COME_S);
	return r < 0 ? r : accept_one(user->door.fd, &user->vhost.fd);
}

int vhost_user_open(struct vhost_user *user, const char *path, bool server, unsigned int sets,
		    const struct mem *mem)
{
	int r = check_memory(mem);

	*user = (struct vhost_user){
		.vhost = { .ops = &user_ops, .mem = mem, .fd = -1 },
		.event = { .fd = -1, .fn = on_end },
		.door = { .fd = -1, .fn = on_door },
		.server = server,
		.sets = sets,
	};
	if (!r)
		r = server ? let_in(user, path) : redial_connect(path, &user->vhost.fd);
	if (!r)
		r = greet(user);
	user->event.fd = user->vhost.fd;
	if (!r && !server)
		r = redial_start(redial_connect, path, &user->door.fd);
	return r;
}

int vhost_user_watch(struct vhost_user *user, struct loop *loop,
		     void (*changed)(struct vhost_user *user, bool there))
{
	int r = loop_add(loop, &user->event, EPOLLIN);

	user->loop = loop;
	user->changed = changed;
	return r < 0 ? r : loop_add(loop, &user->door, EPOLLIN);
}

void vhost_user_close(struct vhost_user *user)
{
	if (!user->vhost.ops)
		return;
	util_closep(&user->event.fd);
	util_closep(&user->door.fd);
}
