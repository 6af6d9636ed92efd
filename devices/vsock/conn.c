// SPDX-License-Identifier: Apache-2.0
/*
 * One connection. Data from the guest goes straight from its buffers to the
 * socket; what that does not take at once waits in the connection's buffer,
 * which is as large as the credit that the guest was given. So a slow program
 * on the host stops the guest's sender and nobody else. Data for the guest is
 * read when there are buffers for it and the guest gave credit; until then it
 * stays in the socket, which stops the program that sends it.
 *
 * The two ends come apart in steps. Each side says which directions it has
 * done with; what the guest says reaches the socket behind the data that it
 * sent before. When the guest has done with both it is answered by a RST as
 * soon as that data is delivered; if it does not wait so long (it sends a RST
 * itself) the data is delivered without it. When the host has done with both,
 * the guest is told and answers by a RST when it likes.
 *
 * A socket that is at its end may report so while data is left to be read, so
 * what says that the host has sent all is the end of its data.
 */
#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include "core/util.h"
#include "devices/vsock/vsock.h"

#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
/* So that the counters' differences have a sign. */
#define CREDIT_MAX (1u << 30)

static uint16_t bit(enum virtio_vsock_op op)
{
	return (uint16_t)(1u << op);
}

static bool by_messages(const struct vsock_conn *conn)
{
	return conn->type == VIRTIO_VSOCK_TYPE_SEQPACKET;
}

static void lose(struct vsock_conn *conn, uint32_t len)
{
	conn->fwd_cnt += len;
	conn->table->tally.lost += len;
}

static void lose_buffered(struct vsock_conn *conn)
{
	lose(conn, conn->buffer.used);
	vsock_buffer_clear(&conn->buffer);
}

static void close_socket(struct vsock_conn *conn)
{
	if (conn->event.fd >= 0)
		loop_del(conn->table->loop, &conn->event);
	util_closep(&conn->event.fd);
	conn->readable = conn->writable = false;
}

/* It goes on without the host's socket, or not at all. */
static void end(struct vsock_conn *conn, enum vsock_state state)
{
	lose_buffered(conn);
	close_socket(conn);
	conn->message_at = conn->message_len = 0;
	vsock_conn_enter(conn, state);
}

static void refuse(struct vsock_conn *conn)
{
	end(conn, VSOCK_CLOSED);
	conn->pending = bit(VIRTIO_VSOCK_OP_RST);
}

void vsock_conn_reset(struct vsock_conn *conn)
{
	switch (conn->state) {
	case VSOCK_REQUESTED:
		if (!(conn->pending & bit(VIRTIO_VSOCK_OP_REQUEST))) {
			refuse(conn);
			return;
		}
		break;
	case VSOCK_CONNECTING:
	case VSOCK_CONNECTED:
	case VSOCK_LINGERING:
		refuse(conn);
		return;
	case VSOCK_CLOSED:
		return;
	default:
		break;
	}
	conn->pending = 0;
	end(conn, VSOCK_FREE);
}

/* ---- from the guest to the host ---- */

/* The host's peer has done with these directions. */
static void shut_host(struct vsock_conn *conn, uint8_t flags)
{
	if (conn->state != VSOCK_CONNECTED) {
		vsock_conn_reset(conn);
		return;
	}
	if ((conn->host_shut & flags) == flags)
		return;
	conn->host_shut |= flags;
	conn->pending |= bit(VIRTIO_VSOCK_OP_SHUTDOWN);
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		lose_buffered(conn);
	if (conn->host_shut == BOTH)
		end(conn, VSOCK_LINGERING);
}

/* Returns what the socket took; when that is not all, writable or the state says why. */
static uint32_t deliver(struct vsock_conn *conn, const struct iovec *iov, unsigned int count)
{
	ssize_t n;

	do
		n = writev(conn->event.fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	if (n >= 0) {
		conn->fwd_cnt += (uint32_t)n;
		conn->table->tally.delivered += (uint64_t)n;
		return (uint32_t)n;
	}
	conn->writable = false;
	/* A message that is too long for the host's sockets would never get through. */
	if (errno == EMSGSIZE)
		vsock_conn_reset(conn);
	else if (errno != EAGAIN)
		shut_host(conn, VIRTIO_VSOCK_SHUTDOWN_RCV);
	return 0;
}

/* All that the guest sent is delivered: what it said after that comes true. */
static void pass_shutdown(struct vsock_conn *conn)
{
	/* Once: it is an event of the socket's, too. */
	if (conn->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND && !conn->passed_end) {
		conn->passed_end = true;
		/* A message without its end. */
		lose_buffered(conn);
		shutdown(conn->event.fd, SHUT_WR);
	}
	if (conn->state == VSOCK_DRAINING)
		end(conn, VSOCK_FREE);
	else if (conn->guest_shut == BOTH)
		refuse(conn);
}

static void flush(struct vsock_conn *conn)
{
	unsigned int count = 0;
	struct iovec iov[2];

	while (conn->writable &&
	       (count = vsock_buffer_peek(&conn->buffer, by_messages(conn), iov)))
		vsock_buffer_take(&conn->buffer, deliver(conn, iov, count));
	if (conn->event.fd >= 0 && !vsock_buffer_has(&conn->buffer, by_messages(conn)))
		pass_shutdown(conn);
}

bool vsock_conn_waits(const struct vsock_conn *conn)
{
	return conn->event.fd >= 0 && vsock_buffer_has(&conn->buffer, by_messages(conn));
}

void vsock_conn_deliver(struct vsock_conn *conn)
{
	conn->writable = true;
	flush(conn);
}

/* What the socket did not take now. */
static void keep(struct vsock_conn *conn, const struct iovec *iov, unsigned int count, uint32_t done,
		 bool ends)
{
	uint32_t before = conn->buffer.used;

	vsock_buffer_put(&conn->buffer, iov, count, done);
	if (by_messages(conn) && ends)
		vsock_buffer_end(&conn->buffer);
	conn->table->tally.buffered += conn->buffer.used - before;
	conn->touched = true;
	flush(conn);
}

/* False when it is more than the guest had credit for, or behind what it said was all. */
static bool take_data(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr,
		      const struct iovec *iov, unsigned int count)
{
	const bool ends = le32toh(hdr->flags) & VIRTIO_VSOCK_SEQ_EOM;
	const uint32_t len = le32toh(hdr->len);
	uint32_t done = 0;

	if (len > conn->buffer.size - (conn->rx_cnt - conn->fwd_cnt) ||
	    conn->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		return false;
	conn->rx_cnt += len;
	conn->table->tally.received += len;
	/* An empty message takes no credit: nothing would limit how many wait. */
	if (!len)
		return true;
	if (conn->writable && !conn->buffer.used && (ends || !by_messages(conn)))
		done = deliver(conn, iov, count);
	if (conn->event.fd < 0 || conn->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		lose(conn, len - done);
	else if (done < len)
		keep(conn, iov, count, done, ends);
	/* A message that could not end within the credit. */
	return !by_messages(conn) || conn->buffer.used < conn->buffer.size || conn->buffer.messages;
}

static void take_shutdown(struct vsock_conn *conn, uint8_t flags)
{
	conn->guest_shut |= flags & BOTH;
	if (conn->state == VSOCK_LINGERING) {
		if (conn->guest_shut == BOTH)
			refuse(conn);
		return;
	}
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		shutdown(conn->event.fd, SHUT_RD);
		if (conn->guest_shut != BOTH)
			shut_host(conn, VIRTIO_VSOCK_SHUTDOWN_SEND);
	}
	flush(conn);
}

/* False when it was not asked, or the program on the host cannot be told. */
static bool take_response(struct vsock_conn *conn)
{
	char line[VSOCK_LINE_MAX];
	int len;

	if (conn->state != VSOCK_REQUESTED || conn->pending & bit(VIRTIO_VSOCK_OP_REQUEST))
		return false;
	vsock_conn_enter(conn, VSOCK_CONNECTED);
	len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);
	/* Nothing was written to it before, so it takes that or is closed. */
	return !conn->greeted || write(conn->event.fd, line, (size_t)len) == len;
}

void vsock_conn_lose_guest(struct vsock_conn *conn, bool deliver)
{
	conn->pending = 0;
	if (conn->state == VSOCK_DRAINING)
		return;
	if (deliver && conn->state == VSOCK_CONNECTED && vsock_conn_waits(conn))
		vsock_conn_enter(conn, VSOCK_DRAINING);
	else
		end(conn, VSOCK_FREE);
}

/* ---- credit ---- */

uint32_t vsock_conn_room(const struct vsock_conn *conn)
{
	uint32_t used = conn->tx_cnt - conn->peer_fwd_cnt;

	return conn->peer_buf_alloc - (uint32_t)util_min(used, conn->peer_buf_alloc);
}

bool vsock_conn_credit(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr)
{
	uint32_t fwd_cnt = le32toh(hdr->fwd_cnt), step = fwd_cnt - conn->peer_fwd_cnt;

	conn->peer_buf_alloc = (uint32_t)util_min(le32toh(hdr->buf_alloc), CREDIT_MAX);
	/* Packets of a guest's threads may overtake each other: this one is older. */
	if ((int32_t)step < 0)
		return true;
	if (step > conn->tx_cnt - conn->peer_fwd_cnt)
		return false;
	conn->peer_fwd_cnt = fwd_cnt;
	if (vsock_conn_room(conn))
		conn->asked = false;
	return true;
}

/* Whether the guest might soon think that it has no credit while it has. */
static bool credit_due(const struct vsock_conn *conn)
{
	return conn->state == VSOCK_CONNECTED && conn->fwd_cnt != conn->told_fwd_cnt &&
	       conn->rx_cnt - conn->told_fwd_cnt > conn->buffer.size / 2;
}

/* ---- from the host to the guest ---- */

static bool may_have_data(const struct vsock_conn *conn)
{
	return conn->state == VSOCK_CONNECTED &&
	       (conn->readable || conn->message_at < conn->message_len) &&
	       !(conn->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) &&
	       !(conn->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND);
}

static bool credit_wanted(const struct vsock_conn *conn)
{
	return may_have_data(conn) && !vsock_conn_room(conn) && !conn->asked;
}

bool vsock_conn_has_packet(const struct vsock_conn *conn)
{
	return conn->pending || credit_due(conn) || credit_wanted(conn) ||
	       (may_have_data(conn) && vsock_conn_room(conn));
}

static void fill(struct vsock_conn *conn, enum virtio_vsock_op op, uint32_t flags, uint32_t len,
		 struct virtio_vsock_hdr *hdr)
{
	conn->told_fwd_cnt = conn->fwd_cnt;
	*hdr = (struct virtio_vsock_hdr){
		.src_cid = htole64(VMADDR_CID_HOST),
		.src_port = htole32(conn->host_port),
		.dst_port = htole32(conn->guest_port),
		.len = htole32(len),
		.type = htole16(conn->type),
		.op = htole16((uint16_t)op),
		.flags = htole32(flags),
		.buf_alloc = htole32(conn->buffer.size),
		.fwd_cnt = htole32(conn->fwd_cnt),
	};
}

bool vsock_conn_control(struct vsock_conn *conn, struct virtio_vsock_hdr *ret_hdr)
{
	static const enum virtio_vsock_op order[] = {
		VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE, VIRTIO_VSOCK_OP_CREDIT_UPDATE,
		VIRTIO_VSOCK_OP_CREDIT_REQUEST, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_OP_RST,
	};
	size_t i = 0;

	if (credit_due(conn))
		conn->pending |= bit(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	if (credit_wanted(conn)) {
		conn->pending |= bit(VIRTIO_VSOCK_OP_CREDIT_REQUEST);
		conn->asked = true;
	}
	if (!conn->pending)
		return false;
	while (!(conn->pending & bit(order[i])))
		i++;
	conn->pending &= (uint16_t)~bit(order[i]);
	fill(conn, order[i], order[i] == VIRTIO_VSOCK_OP_SHUTDOWN ? conn->host_shut : 0, 0, ret_hdr);
	if (order[i] == VIRTIO_VSOCK_OP_RST)
		vsock_conn_enter(conn, VSOCK_FREE);
	return true;
}

void vsock_conn_data(struct vsock_conn *conn, uint32_t len, bool ends,
		     struct virtio_vsock_hdr *ret_hdr)
{
	conn->tx_cnt += len;
	conn->table->tally.sent += len;
	fill(conn, VIRTIO_VSOCK_OP_RW, ends ? VIRTIO_VSOCK_SEQ_EOM : 0, len, ret_hdr);
}

/* The peer does not receive either. That is an event, too, but the guest would write before it comes. */
static bool hung_up(const struct vsock_conn *conn)
{
	struct pollfd fd = { .fd = conn->event.fd };

	return ppoll(&fd, 1, &(struct timespec){ 0 }, NULL) == 1 && fd.revents & POLLHUP;
}

/* read() gave nothing: not now (EAGAIN), or never again. */
static void dry(struct vsock_conn *conn, int err)
{
	/* The peer left without having read all; what it sent before comes with the next read. */
	if (err == ECONNRESET) {
		shut_host(conn, VIRTIO_VSOCK_SHUTDOWN_RCV);
		return;
	}
	conn->readable = false;
	if (err != EAGAIN)
		shut_host(conn, err || hung_up(conn) ? BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND);
}

/* The socket gives a message as a whole, the guest takes it in pieces. False: there is none. */
static bool fetch_message(struct vsock_conn *conn)
{
	/* An empty one has a sender, which the end of all has not. There is no room for files. */
	_Alignas(struct cmsghdr) char sender[CMSG_SPACE(sizeof(struct ucred))];
	/* One byte more, to know a message that is too long. */
	struct iovec iov = { conn->message, conn->buffer.size + 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = sender,
				  .msg_controllen = sizeof(sender) };
	ssize_t n = recvmsg(conn->event.fd, &message, 0);

	conn->touched = true;
	if (n < 0 || (n == 0 && !message.msg_controllen)) {
		dry(conn, n < 0 ? errno : 0);
		return false;
	}
	/* The guest collects it within its credit. */
	if (n > conn->buffer.size || n > conn->peer_buf_alloc) {
		vsock_conn_reset(conn);
		return false;
	}
	conn->message_at = 0;
	conn->message_len = (uint32_t)n;
	return true;
}

static size_t read_message(struct vsock_conn *conn, const struct iovec *iov, unsigned int count)
{
	uint32_t start = conn->message_at;

	for (; count && conn->message_at < conn->message_len; iov++, count--) {
		uint32_t part = (uint32_t)util_min(iov->iov_len,
						   conn->message_len - conn->message_at);

		memcpy(iov->iov_base, conn->message + conn->message_at, part);
		conn->message_at += part;
	}
	return conn->message_at - start;
}

size_t vsock_conn_read(struct vsock_conn *conn, const struct iovec *iov, unsigned int count,
		       bool *ret_ends)
{
	size_t len;
	ssize_t n;

	*ret_ends = false;
	if (by_messages(conn)) {
		if (conn->message_at == conn->message_len && !fetch_message(conn))
			return 0;
		len = read_message(conn, iov, count);
		*ret_ends = conn->message_at == conn->message_len;
		return len;
	}
	do
		n = readv(conn->event.fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (size_t)n;
	dry(conn, n < 0 ? errno : 0);
	return 0;
}

/* ---- what happens to it ---- */

/* False for a packet that cannot be. */
static bool take_packet(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr,
			const struct iovec *iov, unsigned int count)
{
	const uint16_t op = le16toh(hdr->op);

	if (le16toh(hdr->type) != conn->type || !vsock_conn_credit(conn, hdr))
		return false;
	if (op == VIRTIO_VSOCK_OP_RESPONSE)
		return take_response(conn);
	if (conn->state != VSOCK_CONNECTED && conn->state != VSOCK_LINGERING)
		return false;
	switch (op) {
	case VIRTIO_VSOCK_OP_RW:
		return take_data(conn, hdr, iov, count);
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		take_shutdown(conn, (uint8_t)(le32toh(hdr->flags) & BOTH));
		return true;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		conn->pending |= bit(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		return true;
	default:
		return op == VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	}
}

void vsock_conn_packet(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr,
		       const struct iovec *iov, unsigned int count)
{
	/* What came before the guest said that this was all. */
	if (le16toh(hdr->op) == VIRTIO_VSOCK_OP_RST)
		vsock_conn_lose_guest(conn, conn->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND);
	else if (conn->state == VSOCK_CLOSED)
		; /* The guest is about to hear so. */
	else if (!take_packet(conn, hdr, iov, count))
		vsock_conn_reset(conn);
}

static void on_event(struct event *event, uint32_t revents)
{
	struct vsock_conn *conn = container_of(event, struct vsock_conn, event);
	struct vsock_table *table = conn->table;

	conn->readable |= !!(revents & ~(uint32_t)EPOLLOUT);
	conn->writable |= !!(revents & EPOLLOUT);
	if (conn->state == VSOCK_GREETING)
		vsock_host_greet(conn);
	else if (revents & EPOLLHUP)
		shut_host(conn, VIRTIO_VSOCK_SHUTDOWN_RCV);
	else if (conn->state != VSOCK_REQUESTED)
		flush(conn);
	vsock_table_settle(conn);
	table->changed(table->opaque);
}

int vsock_conn_attach(struct vsock_conn *conn, int fd)
{
	const int size = (int)conn->buffer.size, yes = 1;
	int rc;

	if (by_messages(conn)) {
		/* A message has to fit; as far as the host allows that. */
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		(void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes));
	}
	conn->event = (struct event){ .fd = fd, .fn = on_event };
	rc = loop_add(conn->table->loop, &conn->event, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	if (rc < 0)
		util_closep(&conn->event.fd);
	conn->readable = conn->writable = rc == 0;
	return rc;
}

void vsock_conn_accept(struct vsock_conn *conn)
{
	vsock_conn_enter(conn, VSOCK_CONNECTED);
	conn->pending |= bit(VIRTIO_VSOCK_OP_RESPONSE);
}

void vsock_conn_request(struct vsock_conn *conn)
{
	vsock_conn_enter(conn, VSOCK_REQUESTED);
	conn->pending |= bit(VIRTIO_VSOCK_OP_REQUEST);
}
