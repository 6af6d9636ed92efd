// SPDX-License-Identifier: Apache-2.0
/*
 * Each viewer is a process (vnc.c), fed by a SOCK_SEQPACKET pair of its own with
 * the gpu's messages about its head. What its socket does not take becomes one
 * rectangle, one size, one cursor, so nobody waits and nothing grows. The viewer's
 * process sends to the input devices itself, and says on its feed
 *
 *	DISPLAY_LOOKING  1, once: who looks has the password; 0: nobody is there, before it ends
 *	DISPLAY_RELEASE  once: it typed, so it is for us, who outlive it, to have released what it held
 *	DISPLAY_RESIZE   what the viewer would like; with its head, and a size that can be, the gpu hears of it
 *
 * Whoever has not said the first is told of sizes, which a greeting contains, and nothing else.
 * Until then its connection is ours as well, to be shut down when too many others wait.
 */
#include <sys/socket.h>
#include "core/spawn.h"
#include "display/program.h"
#include "display/vnc.h"

enum news {
	NEWS_SURFACE = 1 << 0,
	NEWS_DAMAGE = 1 << 1,
	NEWS_CURSOR = 1 << 2,
	NEWS_SHAPE = 1 << 3, /* of the cursor */
};

/* ---- the gpu ---- */

/* False: the gpu takes no more. */
static bool tell_of(struct program *program, unsigned int index)
{
	struct head *head = &program->heads[index];
	struct display_message message = {
		.type = DISPLAY_LOOKING,
		.head = (uint16_t)index,
		.value = head->viewers,
	};

	if (head->count_pending)
		head->count_pending = display_send(program->gpu.fd, &message) == -EAGAIN;
	message.type = DISPLAY_RESIZE;
	message.rect = head->wanted;
	if (!display_rect_empty(&head->wanted) && display_send(program->gpu.fd, &message) != -EAGAIN)
		head->wanted = (struct display_rect){ 0 };
	return !head->count_pending && display_rect_empty(&head->wanted);
}

void viewers_tell_gpu(struct program *program)
{
	bool all = true;

	for (unsigned int i = 0; i < program->head_count; i++)
		all &= tell_of(program, i);
	(void)loop_mod(&program->loop, &program->gpu, all ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

static void count_viewer(struct head *head, int more)
{
	head->viewers += (unsigned int)more;
	head->count_pending = true;
	viewers_tell_gpu(head->program);
}

/* ---- feeding ---- */

/* What the viewer is to be told next; returns the bits of the news that it is, 0: there are none. */
static unsigned int next_message(const struct viewer *viewer, struct display_message *ret)
{
	const struct head *head = viewer->head;

	*ret = (struct display_message){ 0 };
	if (viewer->news & NEWS_SURFACE) {
		ret->type = DISPLAY_SURFACE;
		ret->rect.width = head->width;
		ret->rect.height = head->height;
		return NEWS_SURFACE;
	}
	if (!viewer->in)
		return 0;
	if (viewer->news & NEWS_DAMAGE) {
		ret->type = DISPLAY_DAMAGE;
		ret->rect = viewer->damage;
		return NEWS_DAMAGE;
	}
	*ret = head->cursor;
	ret->cursor.changed = !!(viewer->news & NEWS_SHAPE);
	return viewer->news & (NEWS_CURSOR | NEWS_SHAPE);
}

static void feed(struct viewer *viewer)
{
	struct display_message message;
	unsigned int told;
	int r = 0;

	while (!r && (told = next_message(viewer, &message))) {
		r = display_send(viewer->feed.fd, &message);
		if (!r)
			viewer->news &= ~told;
	}
	(void)loop_mod(&viewer->head->program->loop, &viewer->feed,
		       r == -EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The next viewer of the head from index *n on; NULL: there is none. */
static struct viewer *next_viewer(struct head *head, size_t *n)
{
	while (*n < VIEWERS_MAX) {
		struct viewer *viewer = &head->program->viewers[(*n)++];

		if (viewer->feed.fd >= 0 && viewer->head == head)
			return viewer;
	}
	return NULL;
}

void viewers_surface(struct head *head)
{
	struct viewer *viewer;

	for (size_t n = 0; (viewer = next_viewer(head, &n));) {
		viewer->news |= NEWS_SURFACE;
		viewer->news &= ~NEWS_DAMAGE;
		feed(viewer);
	}
}

void viewers_damage(struct head *head, const struct display_rect *rect)
{
	struct viewer *viewer;

	for (size_t n = 0; (viewer = next_viewer(head, &n));) {
		if (!(viewer->news & NEWS_DAMAGE))
			viewer->damage = (struct display_rect){ 0 };
		display_rect_extend(&viewer->damage, rect);
		viewer->news |= NEWS_DAMAGE;
		feed(viewer);
	}
}

void viewers_cursor(struct head *head)
{
	struct viewer *viewer;

	for (size_t n = 0; (viewer = next_viewer(head, &n));) {
		viewer->news |= NEWS_CURSOR | (head->cursor.cursor.changed ? NEWS_SHAPE : 0);
		feed(viewer);
	}
}

/* ---- the end of one ---- */

void viewers_release(struct event *event, uint32_t revents)
{
	static const struct display_message message = { .type = DISPLAY_RELEASE };
	struct input *input = container_of(event, struct input, event);

	(void)revents;
	loop_del(&input->program->loop, event);
	if (display_send(event->fd, &message) == -EAGAIN)
		(void)loop_add(&input->program->loop, event, EPOLLOUT);
}

/* Its process may still have something to do. */
static void let_go(struct viewer *viewer)
{
	util_closep(&viewer->client);
	if (viewer->in)
		count_viewer(viewer->head, -1);
	viewer->in = false;
}

static void forget(struct viewer *viewer)
{
	struct program *program = viewer->head->program;

	let_go(viewer);
	loop_del(&program->loop, &viewer->feed);
	util_closep(&viewer->feed.fd);
	for (size_t i = 0; viewer->typed && i < DISPLAY_ROLES; i++)
		if (program->inputs[i].event.fd >= 0)
			viewers_release(&program->inputs[i].event, 0);
}

static void let_in(struct viewer *viewer)
{
	viewer->in = true;
	util_closep(&viewer->client);
	feed(viewer);
	count_viewer(viewer->head, 1);
}

static void ask_for_size(struct head *head, uint32_t width, uint32_t height)
{
	const struct display_rect rect = { 0, 0, width, height };

	if (!display_rect_within(&rect, DISPLAY_WIDTH_MAX, DISPLAY_HEIGHT_MAX))
		return;
	head->wanted = rect;
	viewers_tell_gpu(head->program);
}

/* Who fooled it may say anything. */
static void obey(struct viewer *viewer, const struct display_message *message)
{
	if (message->type == DISPLAY_LOOKING && !message->value)
		let_go(viewer);
	else if (message->type == DISPLAY_LOOKING && !viewer->in)
		let_in(viewer);
	else if (message->type == DISPLAY_RESIZE && viewer->in)
		ask_for_size(viewer->head, message->rect.width, message->rect.height);
	else if (message->type == DISPLAY_RELEASE)
		viewer->typed = true;
}

static void on_feed(struct event *event, uint32_t revents)
{
	struct viewer *viewer = container_of(event, struct viewer, feed);
	struct display_message message;
	int r;

	if (revents & EPOLLOUT)
		feed(viewer);
	if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	r = display_receive(event->fd, &message);
	if (!r)
		obey(viewer, &message);
	else if (r != -EAGAIN && r != -EBADMSG)
		forget(viewer);
}

/* ---- a new one ---- */

_Noreturn static void serve(const struct head *head, int client, int feed)
{
	const struct program *program = head->program;
	const size_t index = (size_t)(head - program->heads);
	const struct vnc_task task = {
		.client = client,
		.feed = feed,
		.keyboard = program->inputs[DISPLAY_KEYBOARD].event.fd,
		.pointers = {
			program->inputs[DISPLAY_TABLET].event.fd,
			program->inputs[DISPLAY_TOUCH].event.fd,
			program->inputs[DISPLAY_MOUSE].event.fd,
		},
		.head = (uint16_t)index,
		.memory = &program->memory[index],
		.name = program->name,
		.password = *program->password ? program->password : NULL,
	};
	const int keep[] = { client, feed, task.keyboard, task.pointers[0], task.pointers[1], task.pointers[2] };

	program_leave(keep, ARRAY_SIZE(keep));
	vnc_serve(&task);
}

static int start(struct viewer *viewer, struct head *head, int client)
{
	struct program *program = head->program;
	int sock = -1;
	pid_t pid = spawn_fork(SOCK_NONBLOCK, &sock);

	if (pid < 0)
		return pid;
	if (pid == 0)
		serve(head, client, sock);
	*viewer = (struct viewer){
		.feed = { .fd = sock, .fn = on_feed },
		.head = head,
		.client = -1,
		.nth = program->arrivals++,
		.news = NEWS_SURFACE | NEWS_CURSOR | NEWS_SHAPE,
	};
	if (loop_add(&program->loop, &viewer->feed, EPOLLIN) < 0) {
		util_closep(&viewer->feed.fd);
		return -ENOMEM;
	}
	feed(viewer);
	return 0;
}

/* Of as many strangers as may be it turns away the one that has waited longest. NULL: there are too many viewers. */
static struct viewer *free_place(struct program *program)
{
	struct viewer *place = NULL, *oldest = NULL;
	unsigned int strangers = 0;

	for (size_t i = 0; i < VIEWERS_MAX; i++) {
		struct viewer *viewer = &program->viewers[i];

		if (viewer->feed.fd < 0) {
			place = viewer;
		} else if (viewer->client >= 0) {
			strangers++;
			if (!oldest || viewer->nth < oldest->nth)
				oldest = viewer;
		}
	}
	if (strangers == STRANGERS_MAX) {
		shutdown(oldest->client, SHUT_RDWR);
		util_closep(&oldest->client);
	}
	return place;
}

void viewers_accept(struct event *listener, uint32_t revents)
{
	struct head *head = container_of(listener, struct head, listener);
	_cleanup_close_ int client = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	struct viewer *place = client < 0 ? NULL : free_place(head->program);

	(void)revents;
	/* With too many, or where the host has no room for a process, it finds its connection closed. */
	if (place && start(place, head, client) == 0)
		place->client = util_steal_fd(&client);
}
