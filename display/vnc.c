// SPDX-License-Identifier: Apache-2.0
/*
 * One viewer. The library writes and reads as if there were nothing else to do,
 * and nothing else there is in this process: who reads slowly only makes its own
 * damage add up, in a rectangle on the other side of the feed.
 *
 * The framebuffer is a copy of the head's surface, since the library reads pixels
 * more than once while it encodes them, and draws a cursor into them for viewers
 * that have none of their own; the guest goes on drawing meanwhile. It is as large
 * as a surface can be, and touched as far as one is: a size that changes moves nothing.
 * It is made when the library is about to send an update: a guest that draws a lot, or a
 * client that asks for nothing, such as one without the password, costs no copies.
 *
 * What a device's socket does not take waits here, as the guest may be slow: so many
 * keys, and each turn of the pointer's buttons, with the movements in between as one. The viewer does
 * not, since its next messages may be about the picture, or another device. When even
 * that is full, of the keyboard what is lost becomes one DISPLAY_RELEASE.
 */
#include "display/vnc.h"

#include <poll.h>
#include <rfb/rfb.h>
#include <rfb/rfbregion.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include "core/util.h"
#include "display/keys.h"

/* What a viewer without a head sees. */
#define DARK_WIDTH 640
#define DARK_HEIGHT 480
/* To say who it is. */
#define LOGIN_S 30
/* In the middle of a message, or not to read one. */
#define PATIENCE_MS 60000
/* After a wrong password, and whatever else ends before a viewer is in. */
#define PENALTY_S 1
/* For what somebody typed who has left. */
#define LINGER_S 30

/* Of the feed's, at a time: the client has its turn as well. */
#define MESSAGES_MAX 32

#define BUTTONS 7 /* left, middle, right; the next two are a wheel's steps */
#define WHEEL_UP 3
#define WHEEL_DOWN 4

static const struct sandbox sandbox = SANDBOX(VNC_CALLS);

#define OUTLET_MAX 8192

/* A device's end, with what it did not take: count messages from first on, in a circle. */
struct outlet {
	int fd;
	unsigned int first, count;
	struct display_message waiting[OUTLET_MAX];
};

struct viewer {
	const struct vnc_task *task;
	struct outlet keyboard, pointer, size; /* the last goes to the gpu by the feed */
	rfbScreenInfo *screen;
	uint8_t *pixels;
	struct display_rect damage; /* not yet copied */
	bool dark;
	bool busy;  /* the library has more to do without waiting: a size and pixels are two updates */
	bool in;    /* past the password, and the other process knows */
	bool typed; /* the other process knows that there may be something to release */
	int x, y, buttons;
	rfbCursor cursor;
	uint8_t cursor_pixels[sizeof(((struct display_head *)NULL)->cursor)];
	uint8_t cursor_alpha[DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE];
	uint8_t cursor_mask[DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE / 8];
};

/* ---- to the devices ---- */

static void flush(struct outlet *outlet)
{
	while (outlet->count &&
	       display_send(outlet->fd, &outlet->waiting[outlet->first]) != -EAGAIN) {
		outlet->first = (outlet->first + 1) % OUTLET_MAX;
		outlet->count--;
	}
}

static bool is_full(const struct outlet *outlet)
{
	return outlet->count == OUTLET_MAX;
}

static struct display_message *newest(struct outlet *outlet)
{
	return &outlet->waiting[(outlet->first + outlet->count - 1) % OUTLET_MAX];
}

static struct viewer *viewer_of(rfbClientPtr client)
{
	return client->screen->screenData;
}

static bool tell(const struct viewer *viewer, enum display_type type, uint32_t value)
{
	const struct display_message message = { .type = (uint16_t)type, .value = value };

	return display_send(viewer->task->feed, &message) == 0;
}

static void note_typing(struct viewer *viewer)
{
	if (!viewer->typed)
		viewer->typed = tell(viewer, DISPLAY_RELEASE, 0);
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
	struct viewer *viewer = viewer_of(client);
	struct outlet *outlet = &viewer->keyboard;
	const struct display_message message = {
		.type = DISPLAY_KEY,
		.key = { keys_find(keysym), !!down },
	};

	if (outlet->fd < 0 || !message.key.code)
		return;
	note_typing(viewer);
	if (is_full(outlet)) {
		*newest(outlet) = (struct display_message){ .type = DISPLAY_RELEASE };
		return;
	}
	outlet->count++;
	*newest(outlet) = message;
	flush(outlet);
}

static int16_t add(int16_t sum, int more)
{
	const int result = sum + more;

	return (int16_t)(result < INT16_MIN ? INT16_MIN : result > INT16_MAX ? INT16_MAX : result);
}

static uint16_t axis(int at, int size)
{
	if (at >= size)
		at = size - 1;
	return (uint16_t)(size > 1 && at > 0 ? at * DISPLAY_AXIS_MAX / (size - 1) : 0);
}

static void on_pointer(int mask, int x, int y, rfbClientPtr client)
{
	struct viewer *viewer = viewer_of(client);
	struct outlet *outlet = &viewer->pointer;
	const int pressed = mask & ~viewer->buttons;
	struct display_message *message;

	if (outlet->fd < 0)
		return;
	note_typing(viewer);
	if (!outlet->count || (newest(outlet)->pointer.buttons != (mask & BUTTONS) && !is_full(outlet))) {
		outlet->count++;
		*newest(outlet) = (struct display_message){ .type = DISPLAY_POINTER, .head = viewer->task->head };
	}
	message = newest(outlet);
	message->pointer.x = axis(x, viewer->screen->width);
	message->pointer.y = axis(y, viewer->screen->height);
	message->pointer.dx = add(message->pointer.dx, x - viewer->x);
	message->pointer.dy = add(message->pointer.dy, y - viewer->y);
	message->pointer.wheel = add(message->pointer.wheel,
				     (pressed >> WHEEL_UP & 1) - (pressed >> WHEEL_DOWN & 1));
	message->pointer.buttons = mask & BUTTONS;
	viewer->x = x;
	viewer->y = y;
	viewer->buttons = mask;
	flush(outlet);
}

static int on_desktop_size(int width, int height, int screens, struct rfbExtDesktopScreen *layout,
			   rfbClientPtr client)
{
	struct viewer *viewer = viewer_of(client);
	struct outlet *outlet = &viewer->size;

	(void)layout;
	if (screens != 1 || width < 1 || width > DISPLAY_WIDTH_MAX || height < 1 ||
	    height > DISPLAY_HEIGHT_MAX)
		return rfbExtDesktopSize_InvalidScreenLayout;
	/* The guest would do nothing, and so the viewer hear nothing. */
	if (width == viewer->screen->width && height == viewer->screen->height)
		client->newFBSizePending = TRUE;
	/* Only the last one counts. */
	outlet->count = 1;
	*newest(outlet) = (struct display_message){
		.type = DISPLAY_RESIZE,
		.rect.width = (uint32_t)width,
		.rect.height = (uint32_t)height,
	};
	flush(outlet);
	return 0;
}

/* ---- from the gpu ---- */

/* The library goes on to send what is marked. */
static void on_update(rfbClientPtr client)
{
	struct viewer *viewer = viewer_of(client);
	const struct display_rect rect = viewer->damage;
	const size_t stride = (size_t)viewer->screen->width * 4, len = (size_t)rect.width * 4;

	for (size_t y = rect.y; y < rect.y + rect.height; y++) {
		const size_t at = y * stride + (size_t)rect.x * 4;

		if (viewer->dark)
			memset(viewer->pixels + at, 0, len);
		else
			memcpy(viewer->pixels + at, viewer->task->memory->pixels + at, len);
	}
	viewer->damage = (struct display_rect){ 0 };
	/* Again, for those that it scales: they are made of the pixels now. */
	if (!display_rect_empty(&rect))
		rfbMarkRectAsModified(viewer->screen, (int)rect.x, (int)rect.y, (int)(rect.x + rect.width),
				      (int)(rect.y + rect.height));
}

/* All of it at once: of many small ones the library's list would become long. */
static void mark_damage(struct viewer *viewer)
{
	const struct display_rect *rect = &viewer->damage;
	sraRegion *region;

	if (display_rect_empty(rect))
		return;
	region = sraRgnCreateRect((int)rect->x, (int)rect->y, (int)(rect->x + rect->width),
				  (int)(rect->y + rect->height));
	rfbMarkRegionAsModified(viewer->screen, region);
	sraRgnDestroy(region);
}

/* Blue first. The library forgets about it with each size. */
static void set_format(rfbScreenInfo *screen)
{
	screen->serverFormat.redShift = 16;
	screen->serverFormat.greenShift = 8;
	screen->serverFormat.blueShift = 0;
	if (screen->clientHead)
		screen->setTranslateFunction(screen->clientHead);
}

static void resize(struct viewer *viewer, uint32_t width, uint32_t height)
{
	rfbScreenInfo *screen = viewer->screen;

	viewer->dark = !width;
	if (viewer->dark) {
		width = DARK_WIDTH;
		height = DARK_HEIGHT;
	}
	/* A picture that the library scales keeps the old size. */
	if (screen->clientHead && screen->clientHead->scaledScreen != screen)
		rfbCloseClient(screen->clientHead);
	rfbNewFramebuffer(screen, (char *)viewer->pixels, (int)width, (int)height, 8, 3, 4);
	set_format(screen);
	viewer->damage = (struct display_rect){ 0, 0, width, height };
}

static void take_cursor(struct viewer *viewer)
{
	const uint8_t *pixels = viewer->cursor_pixels;

	memcpy(viewer->cursor_pixels, viewer->task->memory->cursor, sizeof(viewer->cursor_pixels));
	memset(viewer->cursor_mask, 0, sizeof(viewer->cursor_mask));
	for (size_t i = 0; i < ARRAY_SIZE(viewer->cursor_alpha); i++) {
		viewer->cursor_alpha[i] = pixels[4 * i + 3];
		if (viewer->cursor_alpha[i] >= 0x80)
			viewer->cursor_mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
	/* One of two colours, which the library makes for viewers that have no others. */
	free(viewer->cursor.source);
	viewer->cursor.source = NULL;
}

static void set_cursor(struct viewer *viewer, const struct display_message *message)
{
	rfbScreenInfo *screen = viewer->screen;
	const bool visible = message->cursor.visible;

	if (message->cursor.changed || visible != !!screen->cursor) {
		/* What it covers is found by its size, so that must not change before it is gone. */
		rfbSetCursor(screen, NULL);
		if (message->cursor.changed)
			take_cursor(viewer);
		viewer->cursor.xhot = (uint16_t)util_min(message->cursor.hot_x, DISPLAY_CURSOR_SIZE - 1);
		viewer->cursor.yhot = (uint16_t)util_min(message->cursor.hot_y, DISPLAY_CURSOR_SIZE - 1);
		if (visible)
			rfbSetCursor(screen, &viewer->cursor);
	}
	if (message->cursor.x >= 0 && message->cursor.x < screen->width)
		screen->cursorX = message->cursor.x;
	if (message->cursor.y >= 0 && message->cursor.y < screen->height)
		screen->cursorY = message->cursor.y;
}

/* The other process has checked all of it against the surface of its message before. */
static void take_feed(struct viewer *viewer)
{
	struct display_message message;
	int r = 0;

	for (unsigned int i = 0; i < MESSAGES_MAX; i++) {
		r = display_receive(viewer->task->feed, &message);
		if (r < 0)
			break;
		if (message.type == DISPLAY_SURFACE)
			resize(viewer, message.rect.width, message.rect.height);
		else if (message.type == DISPLAY_DAMAGE)
			display_rect_extend(&viewer->damage, &message.rect);
		else
			set_cursor(viewer, &message);
	}
	if (r && r != -EAGAIN)
		_exit(EXIT_SUCCESS);
	mark_damage(viewer);
}

/* ---- life ---- */

/* Then the process is killed; 0: never. */
static void limit_life(unsigned int seconds)
{
	setitimer(ITIMER_REAL, &(struct itimerval){ .it_value.tv_sec = seconds }, NULL);
}

static struct pollfd watch_outlet(const struct outlet *outlet)
{
	return (struct pollfd){ .fd = outlet->count ? outlet->fd : -1, .events = POLLOUT };
}

/* The library says that there is, too, where nothing of what has changed was asked for. */
static bool has_more(const rfbScreenInfo *screen)
{
	const rfbClientRec *client = screen->clientHead;
	sraRegion *region;
	bool more;

	if (!client)
		return false;
	region = sraRgnCreateRgn(client->modifiedRegion);
	more = sraRgnAnd(region, client->requestedRegion);
	sraRgnDestroy(region);
	return more;
}

static void turn(struct viewer *viewer)
{
	struct pollfd fds[] = {
		{ .fd = viewer->task->client, .events = POLLIN },
		{ .fd = viewer->task->feed, .events = POLLIN },
		watch_outlet(&viewer->keyboard),
		watch_outlet(&viewer->pointer),
		watch_outlet(&viewer->size),
	};
	const struct timespec at_once = { 0 };

	(void)ppoll(fds, ARRAY_SIZE(fds), viewer->busy ? &at_once : NULL, NULL);
	flush(&viewer->keyboard);
	flush(&viewer->pointer);
	flush(&viewer->size);
	take_feed(viewer);
	viewer->busy = rfbProcessEvents(viewer->screen, 0) && has_more(viewer->screen);
	if (!viewer->in && viewer->screen->clientHead &&
	    viewer->screen->clientHead->state == RFB_NORMAL) {
		viewer->in = tell(viewer, DISPLAY_LOOKING, 1);
		limit_life(0);
	}
}

static bool has_waiting(const struct viewer *viewer)
{
	return viewer->keyboard.count || viewer->pointer.count;
}

/* Nobody looks any more, and the guest has still to take what was typed. */
static void linger(struct viewer *viewer)
{
	limit_life(LINGER_S);
	while (has_waiting(viewer)) {
		struct pollfd fds[] = { watch_outlet(&viewer->keyboard), watch_outlet(&viewer->pointer) };

		(void)ppoll(fds, ARRAY_SIZE(fds), NULL, NULL);
		flush(&viewer->keyboard);
		flush(&viewer->pointer);
	}
}

static int set_up(struct viewer *viewer, char **passwords)
{
	rfbScreenInfo *screen = rfbGetScreen(NULL, NULL, DARK_WIDTH, DARK_HEIGHT, 8, 3, 4);

	viewer->pixels = mmap(NULL, sizeof(viewer->task->memory->pixels), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!screen || viewer->pixels == MAP_FAILED)
		return -ENOMEM;
	viewer->screen = screen;
	screen->screenData = viewer;
	screen->frameBuffer = (char *)viewer->pixels;
	screen->desktopName = viewer->task->name;
	screen->alwaysShared = TRUE;
	screen->deferUpdateTime = 0;
	/* A movement that it kept back would wait for the next message, which may be far. */
	screen->deferPtrUpdateTime = 0;
	screen->maxClientWait = PATIENCE_MS;
	screen->cursor = NULL;
	screen->displayHook = on_update;
	screen->kbdAddEvent = on_key;
	screen->ptrAddEvent = on_pointer;
	screen->setDesktopSizeHook = on_desktop_size;
	if (*passwords) {
		screen->authPasswdData = passwords;
		screen->passwordCheck = rfbCheckPasswordByList;
	}
	set_format(screen);
	viewer->cursor = (rfbCursor){
		.width = DISPLAY_CURSOR_SIZE,
		.height = DISPLAY_CURSOR_SIZE,
		.richSource = viewer->cursor_pixels,
		.alphaSource = viewer->cursor_alpha,
		.mask = viewer->cursor_mask,
	};
	return 0;
}

/* The library's challenges are by random(), which it seeds with the time, but once. */
static void seed(void)
{
	unsigned char unused[CHALLENGESIZE];
	unsigned int word;

	rfbRandomBytes(unused);
	if (getrandom(&word, sizeof(word), 0) == sizeof(word))
		srandom(word);
}

void vnc_prepare(void)
{
	unsigned char unused[CHALLENGESIZE] = { 0 };
	char password[] = "";

	rfbLogEnable(FALSE);
	rfbEncryptBytes(unused, password);
}

void vnc_serve(const struct vnc_task *task)
{
	char *passwords[2] = { (char *)task->password, NULL };
	/* Most of it is never touched. */
	struct viewer *viewer = calloc(1, sizeof(*viewer));

	filter_name_thread("viewer");
	if (!viewer)
		_exit(EXIT_FAILURE);
	viewer->task = task;
	viewer->keyboard.fd = task->keyboard;
	viewer->pointer.fd = -1;
	viewer->size.fd = task->feed;
	for (size_t i = VNC_POINTERS; i-- > 0;)
		if (task->pointers[i] >= 0)
			viewer->pointer.fd = task->pointers[i];
	if (set_up(viewer, passwords) < 0 || filter_enter(&sandbox) < 0)
		_exit(EXIT_FAILURE);
	seed();
	limit_life(LOGIN_S);
	if (rfbNewClient(viewer->screen, task->client)) {
		while (viewer->screen->clientHead)
			turn(viewer);
	}
	/* Else the end of this process says it. */
	if (!viewer->in || has_waiting(viewer))
		(void)tell(viewer, DISPLAY_LOOKING, 0);
	if (!viewer->in)
		sleep(PENALTY_S);
	linger(viewer);
	_exit(EXIT_SUCCESS);
}
