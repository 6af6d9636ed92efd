// SPDX-License-Identifier: Apache-2.0
/*
 * The requests of a shared directory: how they come and go.
 *
 * One thread has the queues and the server. What may take the host long (the
 * server says what) it hands to helpers, who make one system call each: so
 * neither needs locks, and a slow disk holds up those who wait for it. More
 * queues would be of no use: most drivers have requests in one only (Linux 6.1).
 *
 * Who waits for a lock (SETLKW) waits in a list. All of it is asked for again
 * when the guest gave something up that may have been in the way, and every now and then, as
 * the host's processes do not tell: no thread is lost to a lock, and a wait ends as
 * easily as it began. Not all of a queue may wait, so that whoever is to unlock is heard.
 *
 * Nobody waits for FORGET, which has the other queue nearly to itself: after one the next need no
 * doorbell unless they are many, and are served together some milliseconds later, for
 * one interrupt. A driver that waits for each all the same posts none meanwhile, which tells.
 *
 * A request is copied once, but for what it reads and writes, which goes
 * between the guest's buffers and the file.
 */
#include "devices/fs_device.h"

/* Bytes after which the driver is shown what was done so far. */
#define FS_BATCH_BYTES KIB(64)
/* Requests in a row: then the other queue and whoever calls the worker have their turn. */
#define FS_BATCH 128
/* Of a queue's entries so many may wait: each has three descriptors. */
#define FS_WAITING_PART 4
/* Between two looks at a lock that somebody has: twice as long each time. */
#define FS_LOCK_NS_MIN NS_PER_MS
#define FS_LOCK_NS_MAX (50 * NS_PER_MS)
/* So long, and for so many of the queue's entries, FORGET may have to wait. */
#define FS_FORGET_NS (5 * NS_PER_MS)
#define FS_FORGET_PART 4
/* Of a driver that seems to wait so many are served at once: twice as many each time. */
#define FS_PROMPT_MIN 16
#define FS_PROMPT_MAX KIB(64)

/* The arguments; those of a write end where its data begin. -E2BIG: nothing we know is so long. */
static int fs_pull_args(struct fs_dev *fs_dev, struct chain *chain, struct fs_call *call)
{
	size_t len = call->header.opcode == FUSE_WRITE ?
			     util_min(chain->out.left, sizeof(struct fuse_write_in)) :
			     chain->out.left;

	if (len > sizeof(fs_dev->args))
		return -E2BIG;
	call->args = fs_dev->args;
	call->args_len = chain_pull(chain, fs_dev->args, len);
	return 0;
}

static ssize_t fs_call(struct fs_dev *fs_dev, struct chain *chain, struct fs_call *call)
{
	const bool writes = call->header.opcode == FUSE_WRITE;
	const struct cursor *data = writes ? &chain->out : &chain->in;
	int err = fs_pull_args(fs_dev, chain, call);

	if (err)
		return err;
	if (fs_has_data(call->header.opcode)) {
		call->data = data->iov;
		call->data_count = data->count;
		call->data_len = data->left;
	}
	call->reply = fs_dev->reply;
	call->reply_room = util_min(chain->in.left, sizeof(fs_dev->reply));
	call->may_leave = fs_dev->helpers.count;
	return fs_serve(fs_dev->fs, call);
}

static void fs_reply(struct fs_request *request, const void *reply, ssize_t n)
{
	struct chain *chain = request->chain;
	const struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + (n > 0 ? (size_t)n : 0)),
		.error = n < 0 ? (int32_t)n : 0,
		.unique = request->call.header.unique,
	};

	chain_push_tail(chain, &header, sizeof(header));
	if (request->call.header.opcode == FUSE_READ && n > 0) {
		cursor_advance(&chain->in, (size_t)n);
		virtq_count(chain->queue, FS_IN_BYTES, (uint64_t)n);
	} else if (n > 0) {
		chain_push(chain, reply, (size_t)n);
	}
}

static void fs_end(struct fs_dev *fs_dev, struct fs_request *request, ssize_t n)
{
	const uint32_t opcode = request->call.header.opcode;
	struct virtq *queue = request->chain->queue;

	if (n < 0)
		virtq_count(queue, FS_ERRORS, 1);
	else if (opcode == FUSE_WRITE)
		virtq_count(queue, FS_OUT_BYTES, ((struct fuse_write_out *)fs_dev->reply)->size);
	if (fs_has_reply(opcode))
		fs_reply(request, fs_dev->reply, n);
	virtq_done(queue, request->chain);
}

/* ---- helpers ---- */

static void fs_help(void *opaque, void *request)
{
	(void)opaque;
	fs_run(&((struct fs_request *)request)->call);
}

static void fs_helped(void *opaque, void *request)
{
	struct fs_dev *fs_dev = opaque;
	struct fs_call *call = &((struct fs_request *)request)->call;

	call->reply = fs_dev->reply;
	fs_end(fs_dev, request, fs_finish(fs_dev->fs, call));
}

static void fs_helpers_done(struct event *event, uint32_t revents)
{
	(void)revents;
	helpers_complete(&container_of(event, struct fs_dev, helped)->helpers);
}

/* ---- who waits for a lock ---- */

/* With IN_ORDER nobody would be answered before it, not even for the unlock. */
static bool fs_may_wait(const struct fs_dev *fs_dev, const struct virtq *queue)
{
	unsigned int others = 0;

	for (const struct fs_request *other = fs_dev->waiting; other; other = other->next)
		others += other->chain->queue == queue;
	return !queue->in_order && others < queue->size / FS_WAITING_PART;
}

static void fs_wait(struct fs_dev *fs_dev, struct fs_request *request)
{
	struct fs_request **last = &fs_dev->waiting;

	if (!fs_may_wait(fs_dev, request->chain->queue)) {
		fs_end(fs_dev, request, -ENOLCK);
		return;
	}
	while (*last)
		last = &(*last)->next;
	*last = request;
	memcpy(&request->lock, fs_dev->args, sizeof(request->lock));
	virtq_count(request->chain->queue, FS_LOCK_WAITS, 1);
	fs_dev->lock_ns = FS_LOCK_NS_MIN;
	timer_set(&fs_dev->lock_timer, fs_dev->lock_ns);
}

static void fs_ask_again(struct fs_dev *fs_dev)
{
	struct fs_request **link = &fs_dev->waiting, *request;
	ssize_t n;

	while ((request = *link)) {
		request->call.args = &request->lock;
		request->call.args_len = sizeof(request->lock);
		n = fs_serve(fs_dev->fs, &request->call);
		if (n == -EAGAIN) {
			link = &request->next;
			continue;
		}
		*link = request->next;
		fs_end(fs_dev, request, n);
	}
}

static void fs_lock_timer(struct timer *timer)
{
	struct fs_dev *fs_dev = container_of(timer, struct fs_dev, lock_timer);

	fs_ask_again(fs_dev);
	if (!fs_dev->waiting)
		return;
	fs_dev->lock_ns = util_min(2 * fs_dev->lock_ns, FS_LOCK_NS_MAX);
	timer_set(timer, fs_dev->lock_ns);
}

/* Of all that wait those of the queue, or the one with that number. Returns how many there were. */
static unsigned int fs_wait_no_more(struct fs_dev *fs_dev, const struct virtq *queue,
				    uint64_t unique, int err)
{
	struct fs_request **link = &fs_dev->waiting, *request;
	unsigned int count = 0;

	while ((request = *link)) {
		if (queue ? request->chain->queue != queue :
			    request->call.header.unique != unique) {
			link = &request->next;
			continue;
		}
		*link = request->next;
		fs_end(fs_dev, request, err);
		count++;
	}
	return count;
}

/* ---- what nobody waits for ---- */

static void fs_forgot(struct fs_dev *fs_dev, struct virtq *queue)
{
	struct fs_forgets *forgets = &fs_dev->forgets;

	if (queue->index || !queue->event_idx)
		return;
	forgets->count++;
	if (queue->patience)
		return;
	if (forgets->prompt) {
		forgets->prompt--;
		return;
	}
	queue->patience = queue->size / FS_FORGET_PART;
	forgets->count = 0;
	timer_set(&forgets->timer, FS_FORGET_NS);
}

static void fs_forget_timer(struct timer *timer)
{
	struct fs_forgets *forgets = container_of(timer, struct fs_forgets, timer);
	struct virtq *queue = &container_of(forgets, struct fs_dev, forgets)->dev.queues[0];

	virtio_kick(queue);
	if (forgets->count > 1) {
		forgets->count = forgets->prompt_next = 0;
		timer_set(timer, FS_FORGET_NS);
		return;
	}
	queue->patience = 0;
	if (!forgets->count)
		return;
	forgets->prompt_next = util_min(2 * forgets->prompt_next + FS_PROMPT_MIN, FS_PROMPT_MAX);
	forgets->prompt = forgets->prompt_next;
}

/* ---- one request ---- */

/* What may take the host long: others are not to wait for it with what is done. */
static bool fs_is_slow(uint32_t opcode)
{
	return opcode == FUSE_FSYNC || opcode == FUSE_FSYNCDIR || opcode == FUSE_SYNCFS ||
	       opcode == FUSE_COPY_FILE_RANGE || opcode == FUSE_FALLOCATE;
}

/* What is served by now may have been what another one waits for. */
static bool fs_may_unlock(uint32_t opcode)
{
	return opcode == FUSE_SETLK || opcode == FUSE_SETLKW || opcode == FUSE_FLUSH ||
	       opcode == FUSE_RELEASE;
}

/* Nothing is under way any more: of the queue, or of all. */
static void fs_settle(struct fs_dev *fs_dev, const struct virtq *queue)
{
	if (fs_dev->helpers.count)
		helpers_drain(&fs_dev->helpers);
	for (unsigned int i = 0; i < fs_dev->dev.queue_count; i++)
		if (!queue || queue == &fs_dev->dev.queues[i])
			fs_wait_no_more(fs_dev, &fs_dev->dev.queues[i], 0, -ENOLCK);
}

/* Another queue may have what it is about, unseen so far: then the driver is to say it again. */
static ssize_t fs_interrupted(struct fs_dev *fs_dev)
{
	const struct fuse_interrupt_in *in = (const void *)fs_dev->args;

	if (fs_wait_no_more(fs_dev, NULL, in->unique, -EINTR) || fs_dev->helpers.in_flight)
		return 0;
	return -EAGAIN;
}

static void fs_request(struct fs_dev *fs_dev, struct fs_request *request)
{
	const uint32_t opcode = request->call.header.opcode;
	struct virtq *queue = request->chain->queue;
	ssize_t n;

	virtq_count(queue, FS_REQUESTS, 1);
	if (opcode == FUSE_INIT || opcode == FUSE_DESTROY)
		fs_settle(fs_dev, NULL);
	if (fs_is_slow(opcode))
		virtq_show(queue);
	n = fs_call(fs_dev, request->chain, &request->call);
	if (n == -EINPROGRESS) {
		virtq_count(queue, FS_HELPED, 1);
		helpers_submit(&fs_dev->helpers, request);
		return;
	}
	if (n == -EAGAIN && opcode == FUSE_SETLKW) {
		fs_wait(fs_dev, request);
		return;
	}
	if (!n && opcode == FUSE_INTERRUPT)
		n = fs_interrupted(fs_dev);
	fs_end(fs_dev, request, n);
	if (!fs_has_reply(opcode))
		fs_forgot(fs_dev, queue);
	if (fs_dev->waiting && fs_may_unlock(opcode))
		fs_ask_again(fs_dev);
}

/* Returns false when the driver broke the rules. */
static bool fs_handle(struct fs_dev *fs_dev, struct chain *chain)
{
	struct fs_request *request = chain_request(chain);
	struct fuse_in_header *header = &request->call.header;

	*request = (struct fs_request){ .chain = chain };
	if (chain_pull(chain, header, sizeof(*header)) < sizeof(*header)) {
		virtio_fail(&fs_dev->dev, "a request that is shorter than its header");
		return false;
	}
	if (fs_has_reply(header->opcode) &&
	    chain_split_front(chain, sizeof(struct fuse_out_header)) < 0) {
		virtio_fail(&fs_dev->dev, "a request without room for the reply's header");
		return false;
	}
	fs_request(fs_dev, request);
	return true;
}

void fs_kick(struct virtio_dev *dev, struct virtq *queue)
{
	unsigned int count = 0;
	struct chain *chain;
	size_t batch = 0;

	while (count++ < FS_BATCH) {
		chain = virtq_pop(queue);
		if (!chain)
			return;
		batch += chain->in.left + chain->out.left;
		if (!fs_handle(fs_dev_of(dev), chain))
			return;
		if (batch < FS_BATCH_BYTES)
			continue;
		virtq_show(queue);
		batch = 0;
	}
	util_signal(queue->kick.fd);
}

/* ---- life ---- */

void fs_queue_stop(struct virtq *queue)
{
	/* A save is to find forgotten what is so. */
	if (!queue->index)
		virtio_kick(queue);
	fs_settle(fs_dev_of(queue->dev), queue);
}

/* What fs_run() does. */
static const struct sandbox fs_helper_sandbox = SANDBOX(
	SC(preadv2), SC(pwritev2), SC(fsync), SC(fdatasync), SC(syncfs), SC(fallocate),
	SC(copy_file_range),
);

int fs_open_helpers(struct fs_dev *fs_dev, unsigned int count)
{
	const struct virtio_dev *dev = &fs_dev->dev;
	unsigned int depth = 0;
	int err;

	for (unsigned int i = 0; i < dev->queue_count; i++)
		depth += dev->queues[i].size_max;
	fs_dev->helpers = (struct helpers){
		.suffix = "io", .sandbox = &fs_helper_sandbox, .share = true,
		.run = fs_help, .done = fs_helped, .opaque = fs_dev,
	};
	err = helpers_open(&fs_dev->helpers, &dev->workers[0], count, depth);
	if (err)
		return err;
	fs_dev->helped = (struct event){
		.fd = helpers_fd(&fs_dev->helpers), .fn = fs_helpers_done,
	};
	return worker_watch(&dev->workers[0], &fs_dev->helped, EPOLLIN);
}

int fs_open_locks(struct fs_dev *fs_dev)
{
	return worker_timer(&fs_dev->dev.workers[0], &fs_dev->lock_timer, fs_lock_timer);
}

int fs_open_forgets(struct fs_dev *fs_dev)
{
	return worker_timer(&fs_dev->dev.workers[0], &fs_dev->forgets.timer, fs_forget_timer);
}
