// SPDX-License-Identifier: Apache-2.0
#include "display/program.h"

static void set_surface(struct head *head, const struct display_message *message)
{
	const bool sane = message->rect.width && message->rect.width <= DISPLAY_WIDTH_MAX &&
			  message->rect.height && message->rect.height <= DISPLAY_HEIGHT_MAX;

	head->width = sane ? message->rect.width : 0;
	head->height = sane ? message->rect.height : 0;
	viewers_surface(head);
}

/* What of it is on the surface. */
static void add_damage(struct head *head, const struct display_message *message)
{
	struct display_rect rect = message->rect;

	if (rect.x >= head->width || rect.y >= head->height)
		return;
	rect.width = (uint32_t)util_min(rect.width, head->width - rect.x);
	rect.height = (uint32_t)util_min(rect.height, head->height - rect.y);
	if (!display_rect_empty(&rect))
		viewers_damage(head, &rect);
}

static void set_cursor(struct head *head, const struct display_message *message)
{
	head->cursor = *message;
	viewers_cursor(head);
}

static void obey(struct program *program, const struct display_message *message)
{
	struct head *head = &program->heads[message->head % DISPLAY_HEADS_MAX];

	if (message->head >= program->head_count)
		return;
	if (message->type == DISPLAY_SURFACE)
		set_surface(head, message);
	else if (message->type == DISPLAY_DAMAGE)
		add_damage(head, message);
	else if (message->type == DISPLAY_CURSOR)
		set_cursor(head, message);
}

int heads_update(struct program *program, unsigned int count)
{
	struct display_message message;
	int r = 0;

	while (count-- && (!r || r == -EBADMSG)) {
		r = display_receive(program->gpu.fd, &message);
		if (!r)
			obey(program, &message);
	}
	return r == -EAGAIN || r == -EBADMSG ? 0 : r;
}
