// SPDX-License-Identifier: Apache-2.0
/*
 * Messages. What a head's display has to be told is remembered as what it is, not
 * as messages, so that whoever does not read for a while holds nobody up, is
 * told of the latest, and takes no memory. Nobody is told of pixels and cursors
 * that nobody looks at.
 */
#include "devices/gpu/gpu.h"

/* At a time: the guest has its turn as well. */
#define MESSAGES_MAX 32

static bool deliver(struct gpu_screen *screen, const struct display_message *message)
{
	int err = display_send(screen->messages.fd, message);

	if (err == -EAGAIN) {
		screen->full = true;
		loop_mod(screen->loop, &screen->messages, EPOLLIN | EPOLLOUT);
	}
	/* A program that is gone is noticed when it is listened to. */
	return !err;
}

static bool tell_rect(struct gpu_screen *screen, uint16_t head, enum display_type type,
		      const struct display_rect *rect)
{
	return deliver(screen, &(struct display_message){
				       .type = (uint16_t)type, .head = head, .rect = *rect });
}

static bool tell_cursor(struct gpu_screen *screen, uint16_t head)
{
	const struct gpu_scanout *now = &screen->heads[head].now;

	return deliver(screen, &(struct display_message){
				       .type = DISPLAY_CURSOR,
				       .head = head,
				       .cursor = { .x = (int32_t)now->cursor.x,
						   .y = (int32_t)now->cursor.y,
						   .hot_x = (uint16_t)now->cursor.hot_x,
						   .hot_y = (uint16_t)now->cursor.hot_y,
						   .visible = now->cursor.resource != 0,
						   .changed = screen->heads[head].tell_picture } });
}

/* False: the other end takes no more. */
static bool tell_head(struct gpu_screen *screen, uint16_t index)
{
	struct gpu_head *head = &screen->heads[index];
	const struct display_rect surface = { .width = head->now.rect.width,
					      .height = head->now.rect.height };

	if (head->tell_surface) {
		if (!tell_rect(screen, index, DISPLAY_SURFACE, &surface))
			return false;
		head->tell_surface = false;
	}
	if (head->tell_cursor && head->looking) {
		if (!tell_cursor(screen, index))
			return false;
		head->tell_cursor = head->tell_picture = false;
	}
	if (!display_rect_empty(&head->damage) && head->looking) {
		if (!tell_rect(screen, index, DISPLAY_DAMAGE, &head->damage))
			return false;
		head->damage = (struct display_rect){ 0 };
	}
	return true;
}

void gpu_screen_tell(struct gpu_screen *screen)
{
	bool more = screen->messages.fd >= 0 && !screen->full && !screen->frozen;

	for (uint16_t i = 0; more && i < screen->count; i++)
		more = tell_head(screen, i);
}

bool gpu_monitor_valid(uint32_t width, uint32_t height)
{
	return width >= GPU_MONITOR_MIN && width <= GPU_MONITOR_MAX &&
	       height >= GPU_MONITOR_MIN && height <= GPU_MONITOR_MAX;
}

bool gpu_screen_resize(struct gpu_head *head, uint32_t width, uint32_t height)
{
	bool differs = width != head->now.width || height != head->now.height;

	head->now.width = width;
	head->now.height = height;
	return differs;
}

static uint32_t monitor_side(uint32_t wanted)
{
	return (uint32_t)util_max(GPU_MONITOR_MIN, util_min(wanted, GPU_MONITOR_MAX));
}

static void obey(struct gpu_screen *screen, const struct display_message *message)
{
	struct gpu_head *head;

	if (message->head >= screen->count)
		return;
	head = &screen->heads[message->head];
	if (message->type == DISPLAY_LOOKING)
		head->looking = message->value;
	else if (message->type == DISPLAY_RESIZE &&
		 gpu_screen_resize(head, monitor_side(message->rect.width),
				   monitor_side(message->rect.height)))
		screen->changed(screen);
}

void gpu_screen_hear(struct event *event, uint32_t revents)
{
	struct gpu_screen *screen = container_of(event, struct gpu_screen, messages);
	struct display_message message;
	int err = 0;

	for (unsigned int i = 0; !err && i < MESSAGES_MAX; i++) {
		err = display_receive(event->fd, &message);
		if (!err)
			obey(screen, &message);
	}
	if (err && err != -EAGAIN && err != -EBADMSG) {
		/* The program is gone: from here on nobody looks. */
		loop_del(screen->loop, event);
		util_closep(&event->fd);
		return;
	}
	if (screen->full && revents & EPOLLOUT) {
		screen->full = false;
		loop_mod(screen->loop, event, EPOLLIN);
	}
	gpu_screen_tell(screen);
}
