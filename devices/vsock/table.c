// SPDX-License-Identifier: Apache-2.0
/*
 * A connection is in use from vsock_table_open() until it settles in the state
 * VSOCK_FREE. One that was queued to send stays in that list until its turn,
 * whatever it has become by then.
 */
#include <poll.h>
#include <sys/mman.h>
#include "core/util.h"
#include "devices/vsock/vsock.h"

/* Ports of ours are from here on, as many again: well-known ones are below. */
#define PORT_BASE 0x40000000u

static size_t slice_size(const struct vsock_table *table)
{
	const uint64_t size = table->buffer_size;

	/* Data, its ends, and a message with one byte more. */
	return util_align_up(size + (size + 7) / 8 + size + 1, 4096);
}

static void place_buffers(struct vsock_table *table, uint32_t index)
{
	struct vsock_conn *conn = &table->conns[index];
	uint8_t *slice = table->memory + index * slice_size(table);

	conn->buffer = (struct vsock_buffer){
		.data = slice,
		.ends = slice + table->buffer_size,
		.size = table->buffer_size,
	};
	conn->message = conn->buffer.ends + (table->buffer_size + 7) / 8;
}

int vsock_table_init(struct vsock_table *table, struct loop *loop, uint32_t count,
		     uint32_t buffer_size)
{
	uint32_t buckets = 1;

	while (buckets < count)
		buckets *= 2;
	*table = (struct vsock_table){
		.loop = loop,
		.count = count,
		.bucket_count = buckets,
		.buffer_size = buffer_size,
		.conns = calloc(count, sizeof(*table->conns)),
		.buckets = calloc(buckets, sizeof(*table->buckets)),
	};
	if (!table->conns || !table->buckets)
		return -ENOMEM;
	table->memory_size = count * slice_size(table);
	table->memory = mmap(NULL, table->memory_size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table->memory == MAP_FAILED) {
		table->memory = NULL;
		return -ENOMEM;
	}
	/* One byte would cost 2 MiB. */
	(void)madvise(table->memory, table->memory_size, MADV_NOHUGEPAGE);
	for (uint32_t i = count; i-- > 0;) {
		struct vsock_conn *conn = &table->conns[i];

		conn->table = table;
		conn->event.fd = -1;
		place_buffers(table, i);
		conn->chain = table->free;
		table->free = conn;
	}
	return 0;
}

void vsock_table_free(struct vsock_table *table)
{
	if (table->memory)
		munmap(table->memory, table->memory_size);
	free(table->buckets);
	free(table->conns);
	*table = (struct vsock_table){ 0 };
}

void vsock_table_reset(struct vsock_table *table, bool deliver)
{
	for (uint32_t i = 0; table->memory && i < table->count; i++) {
		vsock_conn_lose_guest(&table->conns[i], deliver);
		vsock_table_settle(&table->conns[i]);
	}
	while (table->first)
		(void)vsock_table_next(table);
}

/* Gives fds those that wait; returns how many. */
static nfds_t deliver_all(struct vsock_table *table, struct pollfd *fds)
{
	nfds_t left = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		struct vsock_conn *conn = &table->conns[i];

		if (!vsock_conn_waits(conn))
			continue;
		vsock_conn_deliver(conn);
		if (vsock_conn_waits(conn))
			fds[left++] = (struct pollfd){ .fd = conn->event.fd, .events = POLLOUT };
		vsock_table_settle(conn);
	}
	return left;
}

void vsock_table_drain(struct vsock_table *table, int idle_ms, uint64_t end)
{
	const struct timespec idle = { idle_ms / 1000, idle_ms % 1000 * (long)NS_PER_MS };
	_cleanup_free_ struct pollfd *fds = calloc(table->count, sizeof(*fds));
	uint64_t before;
	nfds_t left;
	int ready = 1;

	if (!fds)
		return;
	do {
		before = table->tally.delivered;
		left = deliver_all(table, fds);
		/* A socket is said to be writable late: it may take something before. */
		if (!ready && table->tally.delivered == before)
			return;
		ready = left ? ppoll(fds, left, &idle, NULL) : 0;
	} while (left && util_now_ns() < end);
}

/* ---- by their ports ---- */

static struct vsock_conn **bucket(const struct vsock_table *table, uint32_t guest_port,
				  uint32_t host_port)
{
	uint64_t hash = ((uint64_t)guest_port << 32 | host_port) * 0x9e3779b97f4a7c15;

	return &table->buckets[(hash >> 32) & (table->bucket_count - 1)];
}

struct vsock_conn *vsock_table_find(const struct vsock_table *table, uint32_t guest_port,
				    uint32_t host_port)
{
	struct vsock_conn *conn = *bucket(table, guest_port, host_port);

	while (conn && (conn->guest_port != guest_port || conn->host_port != host_port))
		conn = conn->chain;
	return conn;
}

void vsock_table_hash(struct vsock_conn *conn, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn **first = bucket(conn->table, guest_port, host_port);

	conn->guest_port = guest_port;
	conn->host_port = host_port;
	conn->hashed = true;
	conn->chain = *first;
	*first = conn;
}

void vsock_table_hash_new(struct vsock_conn *conn, uint32_t guest_port)
{
	struct vsock_table *table = conn->table;
	uint32_t port;

	do
		port = PORT_BASE + table->next_port++ % PORT_BASE;
	while (vsock_table_find(table, guest_port, port));
	vsock_table_hash(conn, guest_port, port);
}

static void unhash(struct vsock_conn *conn)
{
	struct vsock_conn **at = bucket(conn->table, conn->guest_port, conn->host_port);

	if (!conn->hashed)
		return;
	while (*at != conn)
		at = &(*at)->chain;
	*at = conn->chain;
	conn->hashed = false;
}

/* ---- coming and going ---- */

void vsock_conn_enter(struct vsock_conn *conn, enum vsock_state state)
{
	struct vsock_table *table = conn->table;

	table->lingering += (state == VSOCK_LINGERING) - (conn->state == VSOCK_LINGERING);
	table->connecting += (state == VSOCK_CONNECTING) - (conn->state == VSOCK_CONNECTING);
	conn->state = state;
}

static void release(struct vsock_conn *conn)
{
	struct vsock_table *table = conn->table;
	uint32_t index = (uint32_t)(conn - table->conns);

	unhash(conn);
	if (conn->touched)
		(void)madvise(table->memory + index * slice_size(table), slice_size(table),
			      MADV_DONTNEED);
	*conn = (struct vsock_conn){
		.table = table,
		.event = { .fd = -1 },
		.next = conn->next,
		.queued = conn->queued,
		.chain = table->free,
	};
	place_buffers(table, index);
	table->free = conn;
	table->tally.closed++;
}

/* The guest was told that it is over, and has not found the time to agree. */
static void forget_one(struct vsock_table *table)
{
	for (uint32_t i = 0; table->lingering && i < table->count; i++) {
		struct vsock_conn *conn = &table->conns[table->hand++ % table->count];

		if (conn->state == VSOCK_LINGERING && !conn->pending) {
			vsock_conn_enter(conn, VSOCK_FREE);
			release(conn);
			return;
		}
	}
}

bool vsock_table_has_room(struct vsock_table *table)
{
	if (!table->free)
		forget_one(table);
	return table->free;
}

struct vsock_conn *vsock_table_open(struct vsock_table *table, uint16_t type)
{
	struct vsock_conn *conn;

	if (!vsock_table_has_room(table))
		return NULL;
	conn = table->free;
	table->free = conn->chain;
	conn->type = type;
	vsock_conn_enter(conn, VSOCK_GREETING);
	table->tally.opened++;
	return conn;
}

void vsock_table_settle(struct vsock_conn *conn)
{
	struct vsock_table *table = conn->table;

	if (conn->state == VSOCK_FREE || conn->state == VSOCK_DRAINING)
		unhash(conn);
	if (conn->state == VSOCK_FREE) {
		/* Without a type it is free already. */
		if (conn->type)
			release(conn);
		return;
	}
	if (conn->queued || !vsock_conn_has_packet(conn))
		return;
	conn->queued = true;
	conn->next = NULL;
	if (table->first)
		table->last->next = conn;
	else
		table->first = conn;
	table->last = conn;
}

struct vsock_conn *vsock_table_next(struct vsock_table *table)
{
	struct vsock_conn *conn;

	while ((conn = table->first)) {
		table->first = conn->next;
		conn->queued = false;
		if (vsock_conn_has_packet(conn))
			return conn;
	}
	return NULL;
}
