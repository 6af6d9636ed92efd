// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock (section 5.10): packets between the queues and the connections,
 * which are in devices/vsock/.
 *
 * A packet from the guest is dealt with at once: its data is in a socket or in
 * its connection's buffer when the chain goes back, so nothing is ever in
 * flight. Packets for the guest are made when there are buffers for them: each
 * connection that has any takes its turn. The only packets that are kept are
 * refusals for connections that there are none of; when too many of them wait
 * the transmit queue does, as section 5.10.6.2 wants it.
 */
#include <endian.h>
#include <signal.h>
#include <sys/socket.h>
#include "devices/vsock.h"

#define VSOCK_QUEUE_SIZE 256
#define VSOCK_EVENT_SIZE 16
#define VSOCK_HEADER sizeof(struct virtio_vsock_hdr)
/* Packets at a time: the other direction gets its turn, and the driver its interrupt. */
#define VSOCK_BATCH 128
/* A program on the host that does not accept: how often, and for how long, to try. */
#define VSOCK_RETRY_NS (2 * NS_PER_MS)
#define VSOCK_PATIENCE_NS (2 * NS_PER_SEC)
/* At the end of the run: how long programs may take, and how long each of them nothing. */
#define VSOCK_DRAIN_MS 8000
#define VSOCK_IDLE_MS 2000

enum vsock_counter {
	VSOCK_COUNT_OPENED,
	VSOCK_COUNT_CLOSED,
	VSOCK_COUNT_REFUSED,
	VSOCK_COUNT_DROPPED,
	VSOCK_COUNT_TX_BYTES,
	VSOCK_COUNT_DELIVERED,
	VSOCK_COUNT_LOST,
	VSOCK_COUNT_BUFFERED,
	VSOCK_COUNT_RX_BYTES,
	VSOCK_COUNT_EVENTS,
};

static const char *const vsock_counters[] = {
	[VSOCK_COUNT_OPENED] = "opened",
	[VSOCK_COUNT_CLOSED] = "closed",
	[VSOCK_COUNT_REFUSED] = "refused",
	[VSOCK_COUNT_DROPPED] = "dropped_packets",
	[VSOCK_COUNT_TX_BYTES] = "tx_bytes",
	[VSOCK_COUNT_DELIVERED] = "delivered_bytes",
	[VSOCK_COUNT_LOST] = "lost_bytes",
	[VSOCK_COUNT_BUFFERED] = "buffered_bytes",
	[VSOCK_COUNT_RX_BYTES] = "rx_bytes",
	[VSOCK_COUNT_EVENTS] = "events",
	NULL,
};

static void vsock_count_all(struct vsock *vsock)
{
	struct vsock_tally *tally = &vsock->table.tally;
	struct virtq *tx = &vsock->dev.queues[VSOCK_TX];

	virtq_count(tx, VSOCK_COUNT_OPENED, tally->opened);
	virtq_count(tx, VSOCK_COUNT_CLOSED, tally->closed);
	virtq_count(tx, VSOCK_COUNT_TX_BYTES, tally->received);
	virtq_count(tx, VSOCK_COUNT_DELIVERED, tally->delivered);
	virtq_count(tx, VSOCK_COUNT_LOST, tally->lost);
	virtq_count(tx, VSOCK_COUNT_BUFFERED, tally->buffered);
	virtq_count(tx, VSOCK_COUNT_RX_BYTES, tally->sent);
	*tally = (struct vsock_tally){ 0 };
}

/* ---- to the guest ---- */

static void vsock_put_header(struct vsock *vsock, struct chain *chain, struct virtio_vsock_hdr *hdr)
{
	const struct vsock_conf *conf = vsock->dev.conf;

	hdr->dst_cid = htole64(conf->cid);
	chain_push_tail(chain, hdr, sizeof(*hdr));
}

/* A chain whose header is apart; NULL: there is none, or it is too short. */
static struct chain *vsock_pop(struct vsock *vsock)
{
	struct chain *chain = virtq_pop(&vsock->dev.queues[VSOCK_RX]);

	if (chain && chain_split_front(chain, VSOCK_HEADER) < 0) {
		virtio_fail(&vsock->dev, "a receive buffer without room for the header");
		return NULL;
	}
	return chain;
}

static bool vsock_send_refusal(struct vsock *vsock)
{
	const struct vsock_refusal *refusal = &vsock->refusals[vsock->first_refusal];
	struct virtio_vsock_hdr hdr = {
		.src_cid = htole64(VMADDR_CID_HOST),
		.src_port = htole32(refusal->host_port),
		.dst_port = htole32(refusal->guest_port),
		.type = htole16(refusal->type),
		.op = htole16(VIRTIO_VSOCK_OP_RST),
	};
	struct chain *chain = vsock_pop(vsock);

	if (!chain)
		return false;
	vsock_put_header(vsock, chain, &hdr);
	virtq_done(chain->queue, chain);
	vsock->first_refusal = (vsock->first_refusal + 1) % VSOCK_REFUSALS;
	vsock->refusal_count--;
	return true;
}

/* Adds what the chain has room for to the next read. */
static void vsock_add_chain(struct vsock *vsock, struct chain *chain, uint32_t *room)
{
	vsock->chains[vsock->chain_count++] = chain;
	for (unsigned int i = 0; i < chain->in.count && vsock->iov_count < CHAIN_IOV_MAX; i++) {
		struct iovec *iov = &vsock->iov[vsock->iov_count++];

		*iov = chain->in.iov[i];
		iov->iov_len = util_min(iov->iov_len, *room);
		*room -= (uint32_t)iov->iov_len;
	}
}

static void vsock_gather(struct vsock *vsock, struct chain *first, uint32_t room)
{
	struct chain *chain = first;

	vsock->chain_count = vsock->iov_count = 0;
	while (chain) {
		vsock_add_chain(vsock, chain, &room);
		if (!room || vsock->chain_count == vsock->width || vsock->iov_count == CHAIN_IOV_MAX)
			break;
		chain = vsock_pop(vsock);
	}
}

/* A packet for each chain that was read into; the other chains go back. */
static void vsock_send_data(struct vsock *vsock, struct vsock_conn *conn, size_t len, bool ends)
{
	struct virtq *rx = &vsock->dev.queues[VSOCK_RX];
	unsigned int used = 0;

	/* A message may be empty. */
	for (bool more = len || ends; more; more = len, used++) {
		struct chain *chain = vsock->chains[used];
		uint32_t part = (uint32_t)util_min(len, chain->in.left);
		struct virtio_vsock_hdr hdr;

		len -= part;
		vsock_conn_data(conn, part, ends && !len, &hdr);
		vsock_put_header(vsock, chain, &hdr);
		cursor_advance(&chain->in, part);
		virtq_done(rx, chain);
	}
	/* What there was not enough of this time needs not as many chains the next time. */
	vsock->width = (unsigned int)util_min(2 * used + 1, VSOCK_GATHER);
	while (vsock->chain_count > used)
		virtq_unpop(rx, vsock->chains[--vsock->chain_count]);
}

/* One packet, or a read's worth of them. False when there is no buffer for it. */
static bool vsock_send(struct vsock *vsock, struct vsock_conn *conn)
{
	struct chain *chain = vsock_pop(vsock);
	struct virtio_vsock_hdr hdr;
	size_t len;
	bool ends;

	if (!chain)
		return false;
	if (vsock_conn_control(conn, &hdr)) {
		vsock_put_header(vsock, chain, &hdr);
		virtq_done(chain->queue, chain);
		return true;
	}
	if (!chain->in.left) {
		virtio_fail(&vsock->dev, "a receive buffer without room for data");
		return false;
	}
	vsock_gather(vsock, chain, vsock_conn_room(conn));
	len = vsock_conn_read(conn, vsock->iov, vsock->iov_count, &ends);
	vsock_send_data(vsock, conn, len, ends);
	return true;
}

static void vsock_pump(struct vsock *vsock)
{
	const bool full = vsock->refusal_count == VSOCK_REFUSALS;
	unsigned int budget = VSOCK_BATCH;
	struct vsock_conn *conn;
	bool sent = true;

	while (sent && vsock->refusal_count)
		sent = vsock_send_refusal(vsock);
	/* The transmit queue waited for room, with its doorbell off. */
	if (full && vsock->refusal_count < VSOCK_REFUSALS)
		util_signal(vsock->dev.queues[VSOCK_TX].kick.fd);
	while (sent && budget && (conn = vsock_table_next(&vsock->table))) {
		sent = vsock_send(vsock, conn);
		vsock_table_settle(conn);
		budget--;
	}
	if (!budget)
		util_signal(vsock->dev.queues[VSOCK_RX].kick.fd);
}

/* ---- from the guest ---- */

/* There is room: nothing is taken from the queue otherwise. */
static void vsock_refuse(struct vsock *vsock, const struct virtio_vsock_hdr *hdr)
{
	unsigned int at = (vsock->first_refusal + vsock->refusal_count++) % VSOCK_REFUSALS;

	vsock->refusals[at] = (struct vsock_refusal){
		.guest_port = le32toh(hdr->src_port),
		.host_port = le32toh(hdr->dst_port),
		.type = le16toh(hdr->type),
	};
	virtq_count(&vsock->dev.queues[VSOCK_TX], VSOCK_COUNT_REFUSED, 1);
}

static void vsock_connect(struct vsock *vsock, struct vsock_conn *conn)
{
	int r = vsock_host_connect(&vsock->host, conn);

	if (r == 0) {
		vsock_conn_accept(conn);
	} else if (r == -EAGAIN && util_now_ns() < conn->deadline) {
		timer_set(&vsock->retry, VSOCK_RETRY_NS);
	} else {
		virtq_count(&vsock->dev.queues[VSOCK_TX], VSOCK_COUNT_REFUSED, 1);
		vsock_conn_reset(conn);
	}
	vsock_table_settle(conn);
}

static bool vsock_has_type(const struct vsock *vsock, uint16_t type)
{
	return type == VIRTIO_VSOCK_TYPE_STREAM ||
	       (type == VIRTIO_VSOCK_TYPE_SEQPACKET &&
		virtio_has(&vsock->dev, VIRTIO_VSOCK_F_SEQPACKET));
}

static void vsock_open(struct vsock *vsock, const struct virtio_vsock_hdr *hdr)
{
	struct vsock_conn *conn = NULL;

	if (vsock_has_type(vsock, le16toh(hdr->type)))
		conn = vsock_table_open(&vsock->table, le16toh(hdr->type));
	if (!conn) {
		vsock_refuse(vsock, hdr);
		return;
	}
	vsock_table_hash(conn, le32toh(hdr->src_port), le32toh(hdr->dst_port));
	vsock_conn_enter(conn, VSOCK_CONNECTING);
	conn->deadline = util_now_ns() + VSOCK_PATIENCE_NS;
	if (vsock_conn_credit(conn, hdr)) {
		vsock_connect(vsock, conn);
	} else {
		vsock_conn_reset(conn);
		vsock_table_settle(conn);
	}
}

/* What is behind the first len bytes does not belong to the packet. */
static void vsock_trim(struct cursor *cursor, size_t len)
{
	cursor->left = len;
	cursor->count = 0;
	while (len) {
		struct iovec *iov = &cursor->iov[cursor->count++];

		iov->iov_len = util_min(iov->iov_len, len);
		len -= iov->iov_len;
	}
}

/* Returns false when the driver broke the rules: then it does not get the chain back. */
static bool vsock_take(struct vsock *vsock, struct chain *chain)
{
	const struct vsock_conf *conf = vsock->dev.conf;
	struct virtio_vsock_hdr hdr;
	struct vsock_conn *conn;

	if (chain_pull(chain, &hdr, sizeof(hdr)) < sizeof(hdr) ||
	    le32toh(hdr.len) > chain->out.left) {
		virtio_fail(&vsock->dev, "a packet that is shorter than its header says");
		return false;
	}
	if (le64toh(hdr.src_cid) != conf->cid || le64toh(hdr.dst_cid) != VMADDR_CID_HOST) {
		virtq_count(chain->queue, VSOCK_COUNT_DROPPED, 1);
		return true;
	}
	vsock_trim(&chain->out, le32toh(hdr.len));
	conn = vsock_table_find(&vsock->table, le32toh(hdr.src_port), le32toh(hdr.dst_port));
	if (conn) {
		vsock_conn_packet(conn, &hdr, chain->out.iov, chain->out.count);
		vsock_table_settle(conn);
	} else if (le16toh(hdr.op) == VIRTIO_VSOCK_OP_REQUEST) {
		vsock_open(vsock, &hdr);
	} else if (le16toh(hdr.op) != VIRTIO_VSOCK_OP_RST) {
		vsock_refuse(vsock, &hdr);
	}
	return true;
}

static void vsock_transmit(struct vsock *vsock)
{
	struct virtq *tx = &vsock->dev.queues[VSOCK_TX];
	unsigned int budget = VSOCK_BATCH;
	struct chain *chain;

	while (vsock->refusal_count < VSOCK_REFUSALS && budget && (chain = virtq_pop(tx))) {
		if (!vsock_take(vsock, chain))
			return;
		virtq_done(tx, chain);
		budget--;
	}
	if (!budget)
		util_signal(tx->kick.fd);
}

/* ---- what happens ---- */

/* Section 5.10.6.7: the guest's connections are gone, and its CID may be another. */
static void vsock_tell_move(struct vsock *vsock)
{
	const struct virtio_vsock_event event = {
		.id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET),
	};
	struct virtq *queue = &vsock->dev.queues[VSOCK_EVENT];
	struct chain *chain = vsock->moved ? virtq_pop(queue) : NULL;

	if (!chain)
		return;
	if (chain->in.left < sizeof(event)) {
		virtio_fail(&vsock->dev, "a buffer without room for an event");
		return;
	}
	chain_push(chain, &event, sizeof(event));
	virtq_done(queue, chain);
	virtq_count(queue, VSOCK_COUNT_EVENTS, 1);
	vsock->moved = false;
}

static void vsock_changed(void *opaque)
{
	struct vsock *vsock = opaque;

	if (vsock->host.stalled)
		vsock_host_accept(&vsock->host);
	vsock_pump(vsock);
	vsock_count_all(vsock);
}

static void vsock_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct vsock *vsock = container_of(dev, struct vsock, dev);

	if (queue->index == VSOCK_EVENT) {
		vsock_tell_move(vsock);
		return;
	}
	/* Buffers for refusals may be all that it waited for. */
	vsock_transmit(vsock);
	vsock_changed(vsock);
}

static void vsock_retry(struct timer *timer)
{
	struct vsock *vsock = container_of(timer, struct vsock, retry);
	struct vsock_table *table = &vsock->table;

	for (uint32_t i = 0; table->connecting && i < table->count; i++)
		if (table->conns[i].state == VSOCK_CONNECTING)
			vsock_connect(vsock, &table->conns[i]);
	vsock_changed(vsock);
}

/* ---- life ---- */

static int vsock_start(struct virtio_dev *dev)
{
	struct vsock *vsock = container_of(dev, struct vsock, dev);

	if (vsock->vhost.fd >= 0)
		return vsock_vhost_start(vsock);
	/* Programs on the host that were there before the driver have waited. */
	vsock->host.open = true;
	vsock_host_accept(&vsock->host);
	return 0;
}

static int vsock_queue_start(struct virtq *queue)
{
	struct vsock *vsock = container_of(queue->dev, struct vsock, dev);

	return vsock->vhost.fd >= 0 ? vsock_vhost_queue_start(vsock, queue) : 0;
}

static void vsock_queue_stop(struct virtq *queue)
{
	if (queue->vhost)
		vsock_vhost_queue_stop(container_of(queue->dev, struct vsock, dev), queue);
}

static void vsock_reset(struct virtio_dev *dev)
{
	struct vsock *vsock = container_of(dev, struct vsock, dev);

	vsock->host.open = vsock->moved = false;
	if (vsock->vhost.fd >= 0)
		return;
	/* What comes back to the guest has nobody to come to. */
	vsock_table_reset(&vsock->table, *vsock->host.name);
	vsock->refusal_count = 0;
	timer_set(&vsock->retry, 0);
	vsock_count_all(vsock);
}

static void vsock_drain(struct virtio_dev *dev)
{
	struct vsock *vsock = container_of(dev, struct vsock, dev);
	struct virtq *tx = &dev->queues[VSOCK_TX];

	if (!*vsock->host.name)
		return;
	/* What the guest sent last may not have been looked at. */
	for (unsigned int i = 0; i <= tx->size / VSOCK_BATCH; i++)
		virtio_kick(tx);
	vsock_table_drain(&vsock->table, VSOCK_IDLE_MS, util_now_ns() + VSOCK_DRAIN_MS * NS_PER_MS);
	vsock_count_all(vsock);
}

static void vsock_show_cid(struct virtio_dev *dev)
{
	const struct vsock_conf *conf = dev->conf;
	const struct virtio_vsock_config config = { .guest_cid = htole64(conf->cid) };

	memcpy(dev->config, &config, sizeof(config));
}

/* The CID is the configuration's: of a save there may be several copies. */
static int vsock_load(struct virtio_dev *dev)
{
	container_of(dev, struct vsock, dev)->moved = true;
	vsock_show_cid(dev);
	return 0;
}

static int vsock_init(struct virtio_dev *dev)
{
	struct vsock *vsock = container_of(dev, struct vsock, dev);
	const struct vsock_conf *conf = dev->conf;
	int r;

	vsock->dir = vsock->vhost.fd = -1;
	vsock->width = 1;
	vsock_host_init(&vsock->host, &vsock->table);
	vsock_show_cid(dev);
	if (conf->vhost)
		return vsock_vhost_open(vsock);
	/* A peer that leaves is an error of writev(). */
	signal(SIGPIPE, SIG_IGN);
	r = vsock_conf_open(vsock);
	if (r < 0)
		return r;
	vsock->table.changed = vsock_changed;
	vsock->table.opaque = vsock;
	return worker_timer(&dev->workers[0], &vsock->retry, vsock_retry);
}

static void vsock_free(struct virtio_dev *dev)
{
	struct vsock *vsock = container_of(dev, struct vsock, dev);

	vsock_conf_close(vsock);
	vhost_close(&vsock->vhost);
	timer_free(&vsock->retry);
	vsock_table_free(&vsock->table);
}

static const struct sandbox vsock_sandbox = SANDBOX(
	/* Programs on the host come and are gone to. */
	SC(accept4), SC_ARG(socket, 0, AF_UNIX), SC_ARG(socketpair, 0, AF_UNIX), SC(connect),
	SC_ARG(setsockopt, 2, SO_SNDBUF), SC_ARG(setsockopt, 2, SO_PASSCRED), SC_ARG(recvmsg, 2, 0),
	/* Either side has done with a direction. */
	SC(shutdown),
	/* Where vhost-vsock moves packets. */
	VHOST_KERNEL_CALLS, SC_ARG(ioctl, 1, VHOST_VSOCK_SET_RUNNING),
);

const struct virtio_class vsock_class = {
	.name = "vsock",
	.option = "vsock",
	.summary = "sockets between guest and host",
	.sample = "cid=3,loop",
	.id = VIRTIO_ID_VSOCK,
	.pci_class = 0x078000,
	.queue_sizes = (const uint16_t[]){
		[VSOCK_RX] = VSOCK_QUEUE_SIZE,
		[VSOCK_TX] = VSOCK_QUEUE_SIZE,
		[VSOCK_EVENT] = VSOCK_EVENT_SIZE,
	},
	.queue_count = VSOCK_QUEUES,
	.features = 1ULL << VIRTIO_VSOCK_F_STREAM | 1ULL << VIRTIO_VSOCK_F_SEQPACKET,
	.config_size = sizeof(struct virtio_vsock_config),
	.dev_size = sizeof(struct vsock),
	.opts = vsock_opts,
	.conf_size = sizeof(struct vsock_conf),
	.hints = vsock_hints,
	.counters = vsock_counters,
	.sandbox = &vsock_sandbox,
	.max = 1,
	.init = vsock_init,
	.start = vsock_start,
	.queue_start = vsock_queue_start,
	.kick = vsock_kick,
	.queue_stop = vsock_queue_stop,
	.reset = vsock_reset,
	.load = vsock_load,
	.drain = vsock_drain,
	.free = vsock_free,
};
