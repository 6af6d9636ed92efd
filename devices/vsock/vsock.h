/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of virtio-vsock (virtio 1.2, section 5.10): a table of
 * connections between ports of the guest and UNIX sockets, and what each has
 * to tell the guest next. It knows nothing of queues: whoever carries packets
 * gives it those that come and asks it for those to send.
 *
 * All of it belongs to one thread. Everything is allocated when the table is made.
 */
#ifndef DEVICES_VSOCK_VSOCK_H
#define DEVICES_VSOCK_VSOCK_H

#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "core/loop.h"
#include "core/usock.h"

/* "CONNECT 4294967295\n" and room for a few spaces. */
#define VSOCK_LINE_MAX 32

/* ---- bytes that the guest sent and the host's socket did not take yet ---- */

/*
 * A ring of bytes and of a bit for each, which marks the last byte of a
 * message: however short messages are, there is room for all that fit.
 */
struct vsock_buffer {
	uint8_t *data, *ends;
	uint32_t size;
	uint32_t head, used;
	uint32_t messages; /* whole ones */
};

/* All but the first skip bytes; the caller has seen that there is room. */
void vsock_buffer_put(struct vsock_buffer *buffer, const struct iovec *iov, unsigned int count,
		      size_t skip);
/* The last byte that was put, of which there is one, ends a message. */
void vsock_buffer_end(struct vsock_buffer *buffer);
/* Whether there is anything or, by messages, a whole one. */
bool vsock_buffer_has(const struct vsock_buffer *buffer, bool messages);
/* All that is there or, by messages, the first whole one, whose end is looked for. Returns the number of iovecs; 0: nothing. */
unsigned int vsock_buffer_peek(const struct vsock_buffer *buffer, bool messages,
			       struct iovec iov[2]);
/* Takes off the first len bytes, at the most what a peek gave. */
void vsock_buffer_take(struct vsock_buffer *buffer, uint32_t len);
void vsock_buffer_clear(struct vsock_buffer *buffer);

/* ---- connections ---- */

enum vsock_state {
	VSOCK_FREE,
	VSOCK_GREETING,   /* a peer on the host has still to say which port it wants */
	VSOCK_REQUESTED,  /* the guest was asked, or will be */
	VSOCK_CONNECTING, /* the guest asked; the host's backlog is full */
	VSOCK_CONNECTED,
	VSOCK_LINGERING, /* the host's peer is gone; the guest was told and has to agree */
	VSOCK_DRAINING,  /* the guest is gone; what it sent before is still for the host */
	VSOCK_CLOSED,    /* the guest has to be told, by VIRTIO_VSOCK_OP_RST */
};

struct vsock_conn {
	struct vsock_table *table;
	struct vsock_conn *next;  /* of those that may have something to send */
	struct vsock_conn *chain; /* of those with the same hash, or that are free */
	enum vsock_state state;
	uint32_t guest_port, host_port; /* the key, while it is hashed */
	bool hashed, queued;
	uint16_t type; /* VIRTIO_VSOCK_TYPE_*; 0: it is not in use */
	uint16_t pending; /* one bit for each VIRTIO_VSOCK_OP_* that the guest has to be sent */
	uint8_t guest_shut, host_shut; /* VIRTIO_VSOCK_SHUTDOWN_*: what each will not do any more */
	bool passed_end; /* the host's peer knows that the guest has sent all */
	bool greeted; /* the host's peer waits for its "OK" */

	/* The host's socket. Events are edges, so both stay true until a call gives EAGAIN. */
	struct event event; /* fd -1: there is none */
	bool readable, writable;
	uint64_t deadline; /* VSOCK_CONNECTING: by util_now_ns() */

	/* Section 5.10.6.3, from the guest: */
	struct vsock_buffer buffer;
	uint32_t rx_cnt, fwd_cnt;
	uint32_t told_fwd_cnt; /* as the guest heard it last */
	/* and to it: */
	uint32_t tx_cnt, peer_fwd_cnt, peer_buf_alloc;
	bool asked;   /* for credit, since there was some */
	bool touched; /* memory of the buffer or of a message */
	/* VIRTIO_VSOCK_TYPE_SEQPACKET: a message on its way to the guest. */
	uint8_t *message;
	uint32_t message_at, message_len;
	char line[VSOCK_LINE_MAX]; /* VSOCK_GREETING: what came so far */
	uint32_t line_len;
};

/* What happened since somebody looked and set it to zero. */
struct vsock_tally {
	uint64_t opened, closed; /* connections, peers that only greet included */
	uint64_t received, delivered, lost; /* bytes from the guest: received = delivered + lost + buffered */
	uint64_t buffered; /* of those received, that the socket did not take at once */
	uint64_t sent; /* bytes to the guest */
};

struct vsock_table {
	struct loop *loop;
	struct vsock_conn *conns;
	uint32_t count;
	struct vsock_conn **buckets;
	uint32_t bucket_count; /* a power of two */
	struct vsock_conn *free;
	struct vsock_conn *first, *last; /* of those that may have something to send */
	uint32_t hand;      /* where to look for one that lingers */
	uint32_t lingering; /* how many there are */
	uint32_t connecting;
	uint32_t next_port;
	uint32_t buffer_size;
	uint8_t *memory; /* of all buffers and messages; touched as it is used */
	size_t memory_size;
	/* There may be something to send: sockets had events. */
	void (*changed)(void *opaque);
	void *opaque;
	struct vsock_tally tally;
};

/* -ENOMEM. */
int vsock_table_init(struct vsock_table *table, struct loop *loop, uint32_t count,
		     uint32_t buffer_size);
/* After a reset; accepts a zeroed table. Sockets that still drain are their thread's to close. */
void vsock_table_free(struct vsock_table *table);
/*
 * All connections end, and the guest is not told. deliver: when the host's programs have got what
 * it sent before; until then they are VSOCK_DRAINING.
 */
void vsock_table_reset(struct vsock_table *table, bool deliver);
/*
 * Waits until the host's programs have taken all that the guest sent: no longer than to end (by
 * util_now_ns()), nor while for idle_ms none takes anything.
 */
void vsock_table_drain(struct vsock_table *table, int idle_ms, uint64_t end);
/* NULL when there is none between these ports. */
struct vsock_conn *vsock_table_find(const struct vsock_table *table, uint32_t guest_port,
				    uint32_t host_port);
/* Whether vsock_table_open() will give one: one that lingers may have to go for it. */
bool vsock_table_has_room(struct vsock_table *table);
/* A connection without ports and socket; NULL when there is no room. */
struct vsock_conn *vsock_table_open(struct vsock_table *table, uint16_t type);
void vsock_table_hash(struct vsock_conn *conn, uint32_t guest_port, uint32_t host_port);
/* The same with a port of ours that the guest's has no connection with. */
void vsock_table_hash_new(struct vsock_conn *conn, uint32_t guest_port);
/* To be called after whatever happened to a connection: it may be over, or have something to send. */
void vsock_table_settle(struct vsock_conn *conn);
/* The next one's turn to send; NULL: none has anything. vsock_table_settle() queues it again. */
struct vsock_conn *vsock_table_next(struct vsock_table *table);

/* For the table's counts. */
void vsock_conn_enter(struct vsock_conn *conn, enum vsock_state state);
/* Gives it its socket, which is closed when that fails. -errno. */
int vsock_conn_attach(struct vsock_conn *conn, int fd);
/* The guest asked for it, and is to hear that it is there. */
void vsock_conn_accept(struct vsock_conn *conn);
/* The guest is to be asked for it. */
void vsock_conn_request(struct vsock_conn *conn);
/* A packet from the guest; hdr->len is the sum of the iovecs. */
void vsock_conn_packet(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr,
		       const struct iovec *iov, unsigned int count);
/* Learns the guest's credit from a packet; false when it cannot be true. */
bool vsock_conn_credit(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr);
/* The guest has forgotten it; deliver: what it sent before is still for the host. */
void vsock_conn_lose_guest(struct vsock_conn *conn, bool deliver);
/* Whether something that the guest sent waits until the host's socket takes it. */
bool vsock_conn_waits(const struct vsock_conn *conn);
/* The socket may take some of it now. */
void vsock_conn_deliver(struct vsock_conn *conn);
/* Ends it; the guest is told if it knows of it. */
void vsock_conn_reset(struct vsock_conn *conn);

/* Whether it has a packet for the guest now. */
bool vsock_conn_has_packet(const struct vsock_conn *conn);
/* The next packet without payload (the guest's CID is the caller's to fill in); false: what it has is data. */
bool vsock_conn_control(struct vsock_conn *conn, struct virtio_vsock_hdr *ret_hdr);
/* Bytes that the guest has room for. */
uint32_t vsock_conn_room(const struct vsock_conn *conn);
/* Reads data for the guest and says whether a message ends there. 0 and no end: there is none after all. */
size_t vsock_conn_read(struct vsock_conn *conn, const struct iovec *iov, unsigned int count,
		       bool *ret_ends);
/* The header for len bytes of that. */
void vsock_conn_data(struct vsock_conn *conn, uint32_t len, bool ends,
		     struct virtio_vsock_hdr *ret_hdr);

/* ---- the host's sockets ---- */

struct vsock_listener {
	struct vsock_host *host;
	struct event event; /* fd -1: nothing listens */
	uint16_t type;
};

/*
 * Where the host's programs are. One that wants a port of the guest's connects
 * to a listener and says "CONNECT port\n", which is answered by "OK port\n" when
 * the guest has accepted; with SOCK_SEQPACKET each is a message. What the guest
 * wants, port N, is the socket NAME_N in the thread's working directory.
 */
struct vsock_host {
	struct vsock_table *table;
	struct vsock_listener stream, seqpacket;
	char name[USOCK_PATH_MAX]; /* empty: what the guest connects to comes back to it */
	bool open;    /* connections are accepted */
	bool stalled; /* some may wait for room */
};

void vsock_host_init(struct vsock_host *host, struct vsock_table *table);
/* Listens at path. -errno of usock_listen(). */
int vsock_host_listen(struct vsock_listener *listener, const char *path);
void vsock_host_free(struct vsock_host *host);
/* Accepts who has come since, or did not fit before. */
void vsock_host_accept(struct vsock_host *host);
/*
 * Connects to where the guest wants to. -EAGAIN: too many wait to be accepted there; -errno: it
 * cannot be.
 */
int vsock_host_connect(struct vsock_host *host, struct vsock_conn *conn);
/* Reads what a peer says that greets. */
void vsock_host_greet(struct vsock_conn *conn);

#endif
