// SPDX-License-Identifier: Apache-2.0
/*
 * microvm-display, as a process: this test is microvm, the gpu and the input devices
 * on one side, and viewers, by libvncclient, on the other.
 */
#include "tests/lib/child.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/input-event-codes.h>
#include <png.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfbclient.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "devices/display/control.h"
#include "devices/display/display.h"

#define PATIENCE_MS 30000
#define HEADS 2
#define MANY 16 /* viewers, which is all that there can be */
#define STRANGERS 8 /* of these, the most */
#define MANY_KEYS 12000 /* more than wait for a device */

struct fixture {
	struct display display;
	struct display_head *heads;
	char dir[32], socket[64], program[PATH_MAX];
	int gpu, keyboard, tablet;
	_Atomic bool calm; /* no flood is wanted any more */
};

/* ---- the machine ---- */

static int start(struct fixture *f, const char *password)
{
	struct display_conf conf = { 0 };
	char viewer[80], file[80] = "";
	int fd;

	snprintf(viewer, sizeof(viewer), "vnc:%s", f->socket);
	conf.viewer = viewer;
	if (password) {
		snprintf(file, sizeof(file), "%s/password", f->dir);
		fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dprintf(fd, "%s\n", password);
		close(fd);
		conf.password_file = file;
	}
	assert_int_equal(display_open(&f->display, &conf, HEADS, &f->heads), 0);
	f->display.path = f->socket;
	assert_int_equal(display_connect(&f->display, DISPLAY_GPU, &f->gpu), 0);
	assert_int_equal(display_connect(&f->display, DISPLAY_KEYBOARD, &f->keyboard), 0);
	assert_int_equal(display_connect(&f->display, DISPLAY_TABLET, &f->tablet), 0);
	if (*file)
		unlink(file);
	return display_start(&f->display, "a guest");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	ssize_t len = readlink("/proc/self/exe", f->program, sizeof(f->program) - 1);

	assert_true(len > 0);
	for (int i = 0; i < 3; i++)
		*strrchr(f->program, '/') = '\0';
	strcat(f->program, "/microvm-display");
	display_init(&f->display);
	f->display.program = f->program;
	f->gpu = f->keyboard = f->tablet = -1;
	strcpy(f->dir, "/tmp/viewer.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->socket, sizeof(f->socket), "%s/sock", f->dir);
	signal(SIGPIPE, SIG_IGN);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[USOCK_PATH_MAX];

	for (unsigned int i = 0; i < f->display.heads; i++) {
		assert_int_equal(display_socket(&f->display, i, path), 0);
		unlink(path);
	}
	display_unmap(f->heads, f->display.heads);
	display_close(&f->display);
	util_closep(&f->gpu);
	util_closep(&f->keyboard);
	util_closep(&f->tablet);
	rmdir(f->dir);
	free(f);
	return 0;
}

/* The program is not run by the emulator, and cannot start processes under TSan, whose fork() takes a thread. */
static void skip_where_it_does_not_run(void)
{
#ifdef __SANITIZE_THREAD__
	const char *runner = "TSan";
#else
	const char *runner = child_emulator();
#endif

	if (!runner)
		return;
	print_message("skipped: not under %s, which does not get along with the program's filter\n", runner);
	skip();
}

static struct fixture *started(void **state, const char *password)
{
	struct fixture *f = *state;

	skip_where_it_does_not_run();
	assert_int_equal(start(f, password), 0);
	return f;
}

/* The next message at the end; false: none came. */
static bool hear(int end, struct display_message *message)
{
	struct pollfd pollfd = { .fd = end, .events = POLLIN };

	return poll(&pollfd, 1, PATIENCE_MS) == 1 && display_receive(end, message) == 0;
}

/* Until the gpu hears that so many look at the head. */
static void expect_looking(struct fixture *f, unsigned int head, uint32_t count)
{
	struct display_message message;

	do
		assert_true(hear(f->gpu, &message));
	while (message.type != DISPLAY_LOOKING || message.head != head || message.value != count);
}

static void say_rect(struct fixture *f, uint16_t type, uint16_t head, struct display_message message)
{
	message.type = type;
	message.head = head;
	assert_int_equal(display_send(f->gpu, &message), 0);
}

static void say_surface(struct fixture *f, uint16_t head, uint32_t width, uint32_t height)
{
	say_rect(f, DISPLAY_SURFACE, head, (struct display_message){ .rect = { 0, 0, width, height } });
}

/* No two pixels in a row, no two rows, and no two of these pictures are the same. */
static void draw(struct display_head *head, uint32_t width, uint32_t height, uint32_t nth)
{
	uint32_t *pixels = (uint32_t *)head->pixels;

	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++)
			pixels[y * width + x] = (x * 7 + y * 13 + nth * 101) * 0x010305;
}

/* As a surface of this size. */
static void show(struct fixture *f, uint16_t head, uint32_t width, uint32_t height, uint32_t nth)
{
	draw(&f->heads[head], width, height, nth);
	say_surface(f, head, width, height);
}

/* ---- a viewer ---- */

static char *right_password(rfbClient *client)
{
	(void)client;
	return strdup("correct1");
}

static char *wrong_password(rfbClient *client)
{
	(void)client;
	return strdup("correct2");
}

/* NULL: it was not let in. */
static rfbClient *look(const struct fixture *f, unsigned int head, const char *encodings,
		       GetPasswordProc password)
{
	rfbClient *client = rfbGetClient(8, 3, 4);
	char path[USOCK_PATH_MAX];

	rfbEnableClientLogging = FALSE;
	assert_non_null(client);
	assert_int_equal(display_socket(&f->display, head, path), 0);
	free(client->serverHost);
	client->serverHost = strdup(path);
	client->appData.encodingsString = encodings;
	client->appData.enableJPEG = FALSE;
	client->appData.useRemoteCursor = TRUE;
	client->canHandleNewFBSize = TRUE;
	client->GetPassword = password;
	/* As the surface has it. */
	client->format.redShift = 16;
	client->format.blueShift = 0;
	return rfbInitClient(client, NULL, NULL) ? client : NULL;
}

/* The same, where others who were not let in may have still to go. */
static rfbClient *look_again(const struct fixture *f, GetPasswordProc password)
{
	rfbClient *client = NULL;

	for (int i = 0; i < 300 && !client; i++) {
		client = look(f, 0, "raw", password);
		if (!client)
			usleep(100000);
	}
	assert_non_null(client);
	return client;
}

static void leave(rfbClient *client)
{
	/* What the library leaves to its user. */
	free(client->frameBuffer);
	free(client->rcSource);
	free(client->rcMask);
	rfbClientCleanup(client);
}

static bool shows(const rfbClient *client, const struct display_head *head, int width, int height)
{
	const uint32_t *want = (const uint32_t *)head->pixels, *have = (const uint32_t *)client->frameBuffer;

	if (client->width != width || client->height != height)
		return false;
	for (int i = 0; i < width * height; i++)
		if ((want[i] ^ have[i]) & 0xffffff)
			return false;
	return true;
}

/* Whether there is a message of the server's. Of what the library has read already it does not ask the socket. */
static bool has_message(rfbClient *client, unsigned int us)
{
	return client->buffered || WaitForMessage(client, us) > 0;
}

/* Takes one: who does not read is not read, either. */
static void take(rfbClient *client)
{
	assert_true(has_message(client, PATIENCE_MS * 1000));
	assert_true(HandleRFBServerMessage(client));
}

static void expect_shows(rfbClient *client, const struct display_head *head, int width, int height)
{
	while (!shows(client, head, width, height))
		take(client);
}

/* A viewer who has seen the first picture. */
static rfbClient *see(struct fixture *f, uint16_t head, int width, int height)
{
	rfbClient *client;

	show(f, head, (uint32_t)width, (uint32_t)height, 0);
	client = look(f, head, "raw", NULL);
	assert_non_null(client);
	expect_shows(client, &f->heads[head], width, height);
	return client;
}

static int connect_raw(const struct fixture *f)
{
	int fd;

	assert_int_equal(usock_connect(f->socket, SOCK_STREAM, &fd), 0);
	return fd;
}

/* It is let in, where there is no password. */
static int enter(struct fixture *f, uint32_t looking)
{
	static const uint8_t hello[] = "RFB 003.008\n\1\1";
	int fd = connect_raw(f);

	assert_int_equal(write(fd, hello, sizeof(hello) - 1), sizeof(hello) - 1);
	expect_looking(f, 0, looking);
	return fd;
}

/* Whether the connection ends, whatever comes before. */
static bool ends(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	char unused[4096];
	ssize_t n;

	do {
		if (poll(&pollfd, 1, PATIENCE_MS) != 1)
			return false;
		n = read(fd, unused, sizeof(unused));
	} while (n > 0);
	return true;
}

/* ---- pictures ---- */

static void picture_equals(const char *path, const struct display_head *head, uint32_t width, uint32_t height)
{
	png_image image = { .version = PNG_IMAGE_VERSION };
	_cleanup_free_ uint32_t *have = malloc((size_t)width * height * 4);
	const uint32_t *want = (const uint32_t *)head->pixels;

	assert_true(png_image_begin_read_from_file(&image, path));
	assert_int_equal(image.width, width);
	assert_int_equal(image.height, height);
	image.format = PNG_FORMAT_BGRA;
	assert_true(png_image_finish_read(&image, NULL, have, 0, NULL));
	for (size_t i = 0; i < (size_t)width * height; i++)
		assert_int_equal(have[i], want[i] | 0xff000000);
}

static void test_takes_pictures(void **state)
{
	struct fixture *f = started(state, NULL);
	char paths[HEADS][64];

	for (uint16_t i = 0; i < HEADS; i++) {
		_cleanup_close_ int fd = -1;

		assert_int_equal(display_shoot(&f->display, i), -EBADF);
		snprintf(paths[i], sizeof(paths[i]), "%s/%u.png", f->dir, i);
		fd = open(paths[i], O_WRONLY | O_CREAT, 0600);
		assert_int_equal(display_give_file(&f->display, i, fd), 0);
		assert_int_equal(display_shoot(&f->display, i), -ENODATA);
		show(f, i, 321 + i, 77, i);
		assert_int_equal(display_shoot(&f->display, i), 0);
		picture_equals(paths[i], &f->heads[i], 321 + i, 77);
	}
	/* Nothing is left of a larger one. */
	show(f, 0, 3, 2, 9);
	assert_int_equal(display_shoot(&f->display, 0), 0);
	picture_equals(paths[0], &f->heads[0], 3, 2);
	say_surface(f, 0, 0, 0);
	assert_int_equal(display_shoot(&f->display, 0), -ENODATA);
	assert_int_equal(display_shoot(&f->display, HEADS), -EBADF);
	for (int i = 0; i < HEADS; i++)
		unlink(paths[i]);
}

static void test_tells_what_cannot_be_written(void **state)
{
	struct fixture *f = started(state, NULL);
	_cleanup_close_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_int_equal(display_give_file(&f->display, 0, fd), 0);
	say_surface(f, 0, 640, 480);
	assert_int_equal(display_shoot(&f->display, 0), -ENOSPC);
}

/* The process that writes it is killed: nobody waits for it, and the next one is taken. */
static void test_tells_of_a_crash(void **state)
{
	struct fixture *f = started(state, NULL);
	_cleanup_close_ int fd = memfd_create("picture", MFD_CLOEXEC);
	struct rlimit limit;

	assert_int_equal(display_give_file(&f->display, 0, fd), 0);
	show(f, 0, 640, 480, 0);
	assert_int_equal(prlimit(f->display.pid, RLIMIT_FSIZE, NULL, &limit), 0);
	limit.rlim_cur = 100;
	assert_int_equal(prlimit(f->display.pid, RLIMIT_FSIZE, &limit, NULL), 0);
	assert_int_equal(display_shoot(&f->display, 0), -ECHILD);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(prlimit(f->display.pid, RLIMIT_FSIZE, &limit, NULL), 0);
	assert_int_equal(display_shoot(&f->display, 0), 0);
}

/* Whoever does not wait for an answer gets one picture at a time all the same. */
static void test_takes_one_picture_at_a_time(void **state)
{
	const struct display_picture request = { .head = 0 };
	struct fixture *f = started(state, NULL);
	static const int32_t answers[] = { -EBUSY, -EBUSY, 0 };
	_cleanup_close_ int reader = -1, writer = -1;
	unsigned int seed = 1;
	char bytes[4096];
	int32_t answer;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	reader = fds[0];
	writer = fds[1];
	assert_int_equal(display_give_file(&f->display, 0, writer), 0);
	/* Noise is not compressed, so the first one is more than a pipe holds. */
	for (size_t i = 0; i < 640 * 480; i++)
		((uint32_t *)f->heads[0].pixels)[i] = (uint32_t)rand_r(&seed) >> 4;
	say_surface(f, 0, 640, 480);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		assert_int_equal(write(f->display.control, &request, sizeof(request)), sizeof(request));
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		while (answers[i] == 0 && recv(f->display.control, &answer, sizeof(answer), MSG_PEEK | MSG_DONTWAIT) < 0)
			(void)!read(reader, bytes, sizeof(bytes));
		assert_int_equal(read(f->display.control, &answer, sizeof(answer)), sizeof(answer));
		assert_int_equal(answer, answers[i]);
	}
}

/* ---- looking ---- */

static void test_shows_each_head(void **state)
{
	static const char *const encodings[] = { "raw", "hextile", "zlib", "zrle", "tight" };
	struct fixture *f = started(state, NULL);

	for (uint16_t i = 0; i < HEADS; i++) {
		show(f, i, 333 + i, 99, i);
	}
	for (size_t n = 0; n < ARRAY_SIZE(encodings); n++) {
		for (uint16_t i = 0; i < HEADS; i++) {
			rfbClient *client = look(f, i, encodings[n], NULL);

			assert_non_null(client);
			assert_string_equal(client->desktopName, "a guest");
			expect_looking(f, i, 1);
			expect_shows(client, &f->heads[i], 333 + i, 99);
			leave(client);
			expect_looking(f, i, 0);
		}
	}
}

static void test_follows_damage_and_size(void **state)
{
	struct fixture *f = started(state, NULL);
	uint32_t *pixels = (uint32_t *)f->heads[0].pixels;
	rfbClient *client;

	client = look(f, 0, "zrle", NULL);
	assert_non_null(client);
	show(f, 0, 400, 300, 0);
	expect_shows(client, &f->heads[0], 400, 300);
	for (uint32_t i = 0; i < 20; i++) {
		pixels[(i + 100) * 400 + 399] = i;
		/* What is not on the surface is left out. */
		say_rect(f, DISPLAY_DAMAGE, 0, (struct display_message){ .rect = { 399, i + 100, 5, i + 1 } });
	}
	say_rect(f, DISPLAY_DAMAGE, 0, (struct display_message){ .rect = { 400, 0, 1, 1 } });
	say_rect(f, DISPLAY_DAMAGE, 0, (struct display_message){ .rect = { 0, UINT32_MAX, UINT32_MAX, 2 } });
	expect_shows(client, &f->heads[0], 400, 300);
	show(f, 0, 1026, 5, 1);
	expect_shows(client, &f->heads[0], 1026, 5);
	leave(client);
}

/* ---- a viewer by hand, which is sent nothing but what it asks for ---- */

#define SMALL 50 /* pixels each way */

/* Let in, and told of a surface of that size. */
static int greet(struct fixture *f)
{
	static const uint8_t encodings[] = { 2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xfe, 0xcc };
	int fd;

	show(f, 0, SMALL, SMALL, 0);
	/* When it answers it has heard of that. */
	assert_int_equal(display_shoot(&f->display, 0), -EBADF);
	fd = enter(f, 1);
	fcntl(fd, F_SETFL, 0);
	assert_int_equal(write(fd, encodings, sizeof(encodings)), sizeof(encodings));
	return fd;
}

/* Asks for it, once. */
static void expect_picture(struct fixture *f, int fd)
{
	static const uint8_t request[] = { 3, 0, 0, 0, 0, 0, 0, SMALL, 0, SMALL };
	uint8_t answer[12 + 2 + 4 + 24 + 7 + 4 + 12 + 4 + 16 + 4 + 12 + SMALL * SMALL * 4];

	assert_int_equal(write(fd, request, sizeof(request)), sizeof(request));
	alarm(PATIENCE_MS / 1000);
	assert_int_equal(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
	alarm(0);
	assert_memory_equal(answer + sizeof(answer) - SMALL * SMALL * 4, f->heads[0].pixels, SMALL * SMALL * 4);
}

static void type_key(int fd, uint8_t keysym, bool down)
{
	const uint8_t message[] = { 4, down, 0, 0, 0, 0, 0, keysym };

	assert_int_equal(write(fd, message, sizeof(message)), sizeof(message));
}

static void point(int fd, uint8_t buttons, uint8_t x)
{
	const uint8_t message[] = { 5, buttons, 0, x, 0, 0 };

	assert_int_equal(write(fd, message, sizeof(message)), sizeof(message));
}

/* One request is answered whole, though its size and its pixels are two updates. */
static void test_answers_one_request(void **state)
{
	struct fixture *f = started(state, NULL);
	_cleanup_close_ int fd = greet(f);

	expect_picture(f, fd);
}

/* The first letter of its state by /proc; 0: this host does not tell of children. */
static char viewer_state(const struct fixture *f)
{
	char path[64], text[128] = "";
	int viewer = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", f->display.pid, f->display.pid);
	file = fopen(path, "re");
	if (file && fscanf(file, "%d", &viewer) == 1) {
		fclose(file);
		snprintf(path, sizeof(path), "/proc/%d/stat", viewer);
		file = fopen(path, "re");
		assert_non_null(file);
		assert_non_null(fgets(text, sizeof(text), file));
	}
	if (file)
		fclose(file);
	return viewer ? strrchr(text, ')')[2] : '\0';
}

/* What changes is not what its viewer waits for: the process has nothing to do. */
static void test_sleeps_meanwhile(void **state)
{
	static const uint8_t request[] = { 3, 1, 0, 0, 0, 0, 0, SMALL, 0, SMALL / 2 };
	struct fixture *f = started(state, NULL);
	_cleanup_close_ int fd = greet(f);
	uint8_t answer[4 + 12 + SMALL * 4];
	struct display_message message;

	expect_picture(f, fd);
	say_rect(f, DISPLAY_DAMAGE, 0, (struct display_message){ .rect = { 0, SMALL - 1, SMALL, 1 } });
	assert_int_equal(display_shoot(&f->display, 0), -EBADF);
	assert_int_equal(write(fd, request, sizeof(request)), sizeof(request));
	/* When this comes the viewer has heard of both. */
	type_key(fd, XK_a, true);
	assert_true(hear(f->keyboard, &message));
	if (!viewer_state(f)) {
		print_message("skipped: this host has no /proc/PID/task/TID/children\n");
		skip();
	}
	for (int i = 0; i < PATIENCE_MS && viewer_state(f) != 'S'; i++)
		usleep(1000);
	assert_int_equal(viewer_state(f), 'S');
	say_rect(f, DISPLAY_DAMAGE, 0, (struct display_message){ .rect = { 0, 0, SMALL, 1 } });
	alarm(PATIENCE_MS / 1000);
	assert_int_equal(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
	alarm(0);
	assert_memory_equal(answer + 4 + 12, f->heads[0].pixels, SMALL * 4);
}

static void got_shape(rfbClient *client, int hot_x, int hot_y, int width, int height, int bytes)
{
	int *shape = rfbClientGetClientData(client, got_shape);

	(void)bytes;
	if (!width)
		return;
	shape[0] = hot_x;
	shape[1] = hot_y;
	shape[2] = width;
	shape[3] = height;
	shape[4] = ((uint32_t *)client->rcSource)[DISPLAY_CURSOR_SIZE + 1] & 0xffffff;
	shape[5] = client->rcMask[DISPLAY_CURSOR_SIZE + 1];
	shape[6] = client->rcMask[DISPLAY_CURSOR_SIZE + 2];
}

static void test_shows_the_cursor(void **state)
{
	struct fixture *f = started(state, NULL);
	int shape[7] = { 0 };
	rfbClient *client;

	((uint32_t *)f->heads[0].cursor)[DISPLAY_CURSOR_SIZE + 1] = 0xff123456;
	say_surface(f, 0, 640, 480);
	client = look(f, 0, "raw", NULL);
	assert_non_null(client);
	rfbClientSetClientData(client, got_shape, shape);
	client->GotCursorShape = got_shape;
	say_rect(f, DISPLAY_CURSOR, 0,
		 (struct display_message){ .cursor = { .x = 10, .y = 20, .hot_x = 3, .hot_y = 999, .visible = 1,
						       .changed = 1 } });
	while (!shape[2])
		take(client);
	assert_int_equal(shape[0], 3);
	assert_int_equal(shape[1], DISPLAY_CURSOR_SIZE - 1);
	assert_int_equal(shape[2], DISPLAY_CURSOR_SIZE);
	assert_int_equal(shape[3], DISPLAY_CURSOR_SIZE);
	assert_int_equal(shape[4], 0x123456);
	assert_true(shape[5] && !shape[6]);
	leave(client);
}

/* ---- typing and pointing ---- */

static void test_types(void **state)
{
	static const struct {
		uint32_t keysym;
		uint16_t code;
	} keys[] = {
		{ XK_a, KEY_A }, { XK_A, KEY_A }, { XK_exclam, KEY_1 }, { XK_asciitilde, KEY_GRAVE },
		{ XK_Shift_L, KEY_LEFTSHIFT }, { XK_Return, KEY_ENTER }, { XK_F12, KEY_F12 },
		{ XK_KP_Enter, KEY_KPENTER }, { XK_Delete, KEY_DELETE }, { XK_space, KEY_SPACE },
		{ 0xfe20, KEY_TAB }, { 0xfe03, KEY_RIGHTALT },
	};
	static const uint32_t none[] = { 0, 0x7f, XK_adiaeresis, 0xfe00, 0x1008ff11, 0xffffffff };
	struct fixture *f = started(state, NULL);
	struct display_message message;
	rfbClient *client;

	client = see(f, 0, 64, 64);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_true(SendKeyEvent(client, none[i], TRUE));
	for (size_t i = 0; i < 2 * ARRAY_SIZE(keys); i++) {
		assert_true(SendKeyEvent(client, keys[i / 2].keysym, i % 2 == 0));
		assert_true(hear(f->keyboard, &message));
		assert_int_equal(message.type, DISPLAY_KEY);
		assert_int_equal(message.key.code, keys[i / 2].code);
		assert_int_equal(message.key.value, i % 2 == 0);
	}
	leave(client);
	assert_true(hear(f->keyboard, &message));
	assert_int_equal(message.type, DISPLAY_RELEASE);
	assert_true(hear(f->tablet, &message));
	assert_int_equal(message.type, DISPLAY_RELEASE);
}

static void expect_pointer(struct fixture *f, int x, int y, int wheel, int buttons)
{
	struct display_message message;

	assert_true(hear(f->tablet, &message));
	assert_int_equal(message.type, DISPLAY_POINTER);
	assert_int_equal(message.pointer.x, x);
	assert_int_equal(message.pointer.y, y);
	assert_int_equal(message.pointer.wheel, wheel);
	assert_int_equal(message.pointer.buttons, buttons);
}

/*
 * A keyboard that does not listen: neither the picture nor the pointer waits for it, and each key comes when it
 * does, though its viewer has left.
 */
static void test_keeps_what_is_typed(void **state)
{
	enum { KEYS = 4000 };
	struct fixture *f = started(state, NULL);
	struct display_message message;
	int fd = greet(f);

	for (unsigned int i = 0; i < KEYS; i++)
		type_key(fd, (uint8_t)(XK_1 + i / 2 % 9), i % 2 == 0);
	point(fd, 1, SMALL - 1);
	expect_pointer(f, DISPLAY_AXIS_MAX, 0, 0, 1);
	expect_picture(f, fd);
	close(fd);
	/* Who has left does not look, whatever waits. */
	expect_looking(f, 0, 0);
	for (unsigned int i = 0; i < KEYS; i++) {
		assert_true(hear(f->keyboard, &message));
		assert_int_equal(message.type, DISPLAY_KEY);
		assert_int_equal(message.key.code, KEY_1 + i / 2 % 9);
		assert_int_equal(message.key.value, i % 2 == 0);
	}
	assert_true(hear(f->keyboard, &message));
	assert_int_equal(message.type, DISPLAY_RELEASE);
}

/* More than is kept: what is lost is a release of all. */
static void test_loses_no_release(void **state)
{
	struct fixture *f = started(state, NULL);
	struct display_message message;
	_cleanup_close_ int fd = greet(f);
	unsigned int count = 0;

	for (int i = 0; i < MANY_KEYS; i++)
		type_key(fd, XK_a, true);
	expect_picture(f, fd);
	do {
		assert_true(hear(f->keyboard, &message));
		count++;
	} while (message.type == DISPLAY_KEY && count <= MANY_KEYS);
	assert_int_equal(message.type, DISPLAY_RELEASE);
}

static void test_points(void **state)
{
	struct fixture *f = started(state, NULL);
	rfbClient *client;

	client = see(f, 0, 640, 480);
	SendPointerEvent(client, 0, 0, 0);
	expect_pointer(f, 0, 0, 0, 0);
	SendPointerEvent(client, 639, 479, rfbButton1Mask);
	expect_pointer(f, DISPLAY_AXIS_MAX, DISPLAY_AXIS_MAX, 0, 1);
	SendPointerEvent(client, 0xffff, 0xffff, rfbButton1Mask | rfbButton3Mask);
	expect_pointer(f, DISPLAY_AXIS_MAX, DISPLAY_AXIS_MAX, 0, 5);
	SendPointerEvent(client, 320, 240, rfbButton4Mask);
	expect_pointer(f, 320 * DISPLAY_AXIS_MAX / 639, 240 * DISPLAY_AXIS_MAX / 479, 1, 0);
	SendPointerEvent(client, 320, 240, rfbButton5Mask);
	expect_pointer(f, 320 * DISPLAY_AXIS_MAX / 639, 240 * DISPLAY_AXIS_MAX / 479, -1, 0);
	leave(client);
}

/* A guest that takes no pointer gets each click later, and movements up to the last place. */
static void test_keeps_clicks(void **state)
{
	enum { CLICKS = 1000 };
	struct fixture *f = started(state, NULL);
	struct display_message message;
	_cleanup_close_ int fd = greet(f);

	for (int i = 0; i < CLICKS; i++)
		point(fd, i % 2 == 0, 0);
	for (uint8_t x = 0; x < SMALL; x++)
		point(fd, 0, x);
	for (int i = 0; i < CLICKS; i++) {
		assert_true(hear(f->tablet, &message));
		assert_int_equal(message.pointer.buttons, i % 2 == 0);
	}
	while (message.pointer.x != DISPLAY_AXIS_MAX)
		assert_true(hear(f->tablet, &message));
}

static void test_asks_for_a_size(void **state)
{
	struct fixture *f = started(state, NULL);
	struct display_message message;
	rfbClient *client;

	client = see(f, 1, 64, 48);
	expect_looking(f, 1, 1);
	while (!client->screen.width)
		take(client);
	/* Only sizes that a surface can have. */
	assert_true(SendExtDesktopSize(client, DISPLAY_WIDTH_MAX + 1, 600));
	assert_true(SendExtDesktopSize(client, 800, 600));
	assert_true(hear(f->gpu, &message));
	assert_int_equal(message.type, DISPLAY_RESIZE);
	assert_int_equal(message.head, 1);
	assert_int_equal(message.rect.width, 800);
	assert_int_equal(message.rect.height, 600);
	show(f, 1, 800, 600, 1);
	expect_shows(client, &f->heads[1], 800, 600);
	leave(client);
}

/* ---- strangers ---- */

static void test_asks_for_the_password(void **state)
{
	struct fixture *f = started(state, "correct1 and more");
	rfbClient *client;

	show(f, 0, 64, 64, 0);
	assert_null(look(f, 0, "raw", wrong_password));
	client = look(f, 0, "raw", right_password);
	assert_non_null(client);
	expect_shows(client, &f->heads[0], 64, 64);
	leave(client);
}

static void test_wants_a_password_in_the_file(void **state)
{
	struct fixture *f = *state;

	skip_where_it_does_not_run();
	assert_int_equal(start(f, ""), -EKEYREJECTED);
}

/* A challenge that comes again would let in whoever has heard an answer. */
static void test_challenges_differ(void **state)
{
	struct fixture *f = started(state, "correct1");
	uint8_t challenges[2][16];

	for (int i = 0; i < 2; i++) {
		_cleanup_close_ int fd = connect_raw(f);
		uint8_t greeting[12 + 2];

		fcntl(fd, F_SETFL, 0);
		assert_int_equal(recv(fd, greeting, 12, MSG_WAITALL), 12);
		assert_int_equal(write(fd, "RFB 003.008\n", 12), 12);
		assert_int_equal(recv(fd, greeting, 2, MSG_WAITALL), 2);
		assert_int_equal(greeting[1], 2);
		assert_int_equal(write(fd, &greeting[1], 1), 1);
		assert_int_equal(recv(fd, challenges[i], 16, MSG_WAITALL), 16);
	}
	assert_memory_not_equal(challenges[0], challenges[1], 16);
}

/* Nobody waits for somebody else. */
static void test_serves_viewers_apart(void **state)
{
	struct fixture *f = started(state, NULL);
	rfbClient *slow, *quick;

	show(f, 0, 1600, 1200, 0);
	slow = look(f, 0, "raw", NULL);
	quick = look(f, 0, "tight", NULL);
	assert_true(slow && quick);
	/* Each picture is more than its socket takes. */
	for (uint32_t i = 1; i < 5; i++) {
		draw(&f->heads[0], 1600, 1200, i);
		say_rect(f, DISPLAY_DAMAGE, 0, (struct display_message){ .rect = { 0, 0, 1600, 1200 } });
		assert_true(SendFramebufferUpdateRequest(slow, 0, 0, 1600, 1200, FALSE));
		expect_shows(quick, &f->heads[0], 1600, 1200);
	}
	leave(quick);
	/* It gets the last picture when it reads again. */
	expect_shows(slow, &f->heads[0], 1600, 1200);
	leave(slow);
}

static void test_survives_garbage(void **state)
{
	struct fixture *f = started(state, NULL);
	unsigned int seed = 1;
	rfbClient *client;

	for (int i = 0; i < 24; i++) {
		_cleanup_close_ int fd = connect_raw(f);
		uint8_t bytes[512];

		fcntl(fd, F_SETFL, 0);
		/* Every other one gets past the greeting, and every third is let in. */
		if (i % 2)
			(void)!write(fd, "RFB 003.008\n\1", 13);
		if (i % 6 == 5)
			(void)!write(fd, "\1", 1);
		for (size_t n = 0; n < sizeof(bytes); n++)
			bytes[n] = (uint8_t)(rand_r(&seed) >> 8);
		(void)!write(fd, bytes, sizeof(bytes));
		shutdown(fd, SHUT_WR);
		assert_true(ends(fd));
	}
	show(f, 0, 64, 64, 0);
	client = look_again(f, NULL);
	expect_shows(client, &f->heads[0], 64, 64);
	leave(client);
}

/* They take no places of those who have the password, and nobody is told of them. */
static void test_strangers_get_nothing(void **state)
{
	struct fixture *f = started(state, "correct1");
	int fds[STRANGERS + 1];
	struct display_message message;
	rfbClient *known, *client;
	char greeting[12];

	show(f, 0, 64, 64, 0);
	known = look(f, 0, "raw", right_password);
	assert_non_null(known);
	expect_looking(f, 0, 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = connect_raw(f);
	assert_true(ends(fds[0]));
	assert_int_equal(display_receive(f->gpu, &message), -EAGAIN);
	expect_shows(known, &f->heads[0], 64, 64);
	/* As many as can be are there, and stay silent: the oldest makes room. */
	client = look(f, 0, "raw", right_password);
	assert_non_null(client);
	expect_shows(client, &f->heads[0], 64, 64);
	assert_true(ends(fds[1]));
	fcntl(fds[2], F_SETFL, 0);
	assert_int_equal(recv(fds[2], greeting, 12, MSG_WAITALL), 12);
	assert_int_equal(recv(fds[2], greeting, sizeof(greeting), MSG_DONTWAIT), -1);
	assert_true(hear(f->gpu, &message));
	assert_int_equal(message.type, DISPLAY_LOOKING);
	assert_int_equal(message.value, 2);
	leave(client);
	leave(known);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

#define BYTES(...) { (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }) }

/* Messages of somebody who was let in, with numbers that are none. He may stay or not; others notice nothing. */
static void test_survives_lies(void **state)
{
	const struct {
		const uint8_t *bytes;
		size_t len;
	} lies[] = {
		BYTES(0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), /* pixels of no bits, */
		BYTES(0, 0, 0, 0, 8, 255, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0),
		BYTES(0, 0, 0, 0, 24, 24, 0, 1, 0, 0, 0, 0, 0, 0, 31, 31, 31, 0, 0, 0),
		BYTES(0, 0, 0, 0, 64, 64, 1, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0),
		BYTES(2, 0, 255, 255, 0, 0, 0, 7),                      /* encodings that do not come, */
		BYTES(5, 255, 255, 255, 255, 255),                      /* a place off the screen, */
		BYTES(6, 0, 0, 0, 255, 255, 255, 255, 'x'),             /* texts of 4 and 2 GiB, */
		BYTES(6, 0, 0, 0, 127, 255, 255, 255, 'x'),
		BYTES(6, 0, 0, 0, 128, 0, 0, 0, 16, 0, 0, 1, 120, 156), /* one that is packed, */
		BYTES(7, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, '/'), /* a file, */
		BYTES(8, 0, 0, 0), BYTES(8, 255, 0, 0), BYTES(15, 200, 0, 0),   /* a smaller screen, */
		BYTES(11, 0, 0, 0, 255, 255, 255, 240),                 /* words, */
		BYTES(251, 0, 255, 255, 255, 255, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0), /* and sizes. */
		BYTES(251, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		BYTES(251, 0, 3, 32, 2, 88, 255, 0),
	};
	static const uint8_t request[] = { 3, 0, 0, 0, 0, 0, 0, SMALL, 0, SMALL };
	struct fixture *f = started(state, NULL);
	struct display_message message;

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_close_ int fd = greet(f);

		assert_int_equal(write(fd, lies[i].bytes, lies[i].len), lies[i].len);
		(void)!write(fd, request, sizeof(request));
		shutdown(fd, SHUT_WR);
		assert_true(ends(fd));
		do {
			assert_true(hear(f->gpu, &message));
			assert_int_equal(message.type, DISPLAY_LOOKING);
		} while (message.value);
	}
	leave(see(f, 0, 64, 64));
}

static void test_has_a_limit_of_viewers(void **state)
{
	struct fixture *f = started(state, NULL);
	int fds[MANY], more;

	for (int i = 0; i < MANY; i++)
		fds[i] = enter(f, (uint32_t)i + 1);
	more = connect_raw(f);
	assert_true(ends(more));
	close(more);
	close(fds[0]);
	expect_looking(f, 0, MANY - 1);
	fds[0] = enter(f, MANY);
	/* With the program its viewers go. */
	display_close(&f->display);
	for (int i = 0; i < MANY; i++) {
		assert_true(ends(fds[i]));
		close(fds[i]);
	}
}

static void *flood(void *arg)
{
	const struct display_message message = {
		.type = DISPLAY_DAMAGE, .rect = { 0, 0, DISPLAY_WIDTH_MAX, DISPLAY_HEIGHT_MAX },
	};
	struct fixture *f = arg;

	while (!f->calm)
		(void)display_send(f->gpu, &message);
	return NULL;
}

/* A guest that draws faster than anybody can look. */
static void test_survives_a_flood(void **state)
{
	static const uint8_t key[] = { 4, 1, 0, 0, 0, 0, 0, XK_a };
	struct fixture *f = started(state, NULL);
	struct display_message message;
	pthread_t thread;
	int fd;

	say_surface(f, 0, DISPLAY_WIDTH_MAX, DISPLAY_HEIGHT_MAX);
	fd = enter(f, 1);
	assert_int_equal(pthread_create(&thread, NULL, flood, f), 0);
	assert_int_equal(write(fd, key, sizeof(key)), sizeof(key));
	assert_true(hear(f->keyboard, &message));
	assert_int_equal(message.key.code, KEY_A);
	assert_int_equal(display_shoot(&f->display, 0), -EBADF);
	/* The program has seen that it is gone. */
	close(fd);
	assert_true(hear(f->keyboard, &message));
	assert_int_equal(message.type, DISPLAY_RELEASE);
	f->calm = true;
	pthread_join(thread, NULL);
}

/* What a broken gpu, or a guest that owns it, may say. */
static void test_survives_the_gpu(void **state)
{
	struct fixture *f = started(state, NULL);
	rfbClient *client = look(f, 0, "raw", NULL);
	struct display_message message;
	unsigned int seed = 1;
	uint8_t bytes[sizeof(message)];

	assert_non_null(client);
	for (int i = 0; i < 3000; i++) {
		for (size_t n = 0; n < sizeof(bytes); n++)
			bytes[n] = (uint8_t)(rand_r(&seed) >> 8);
		memcpy(&message, bytes, sizeof(message));
		message.type %= 4;
		message.head %= HEADS + 1;
		/* Sizes, too, that are almost right. */
		if (i % 2) {
			message.rect.width %= DISPLAY_WIDTH_MAX + 2;
			message.rect.height %= 40;
			message.rect.x %= 4200;
			message.rect.y %= 40;
		}
		while (write(f->gpu, &message, i % 7 ? sizeof(message) : 1 + (size_t)i % 19) < 0)
			assert_int_equal(errno, EAGAIN);
	}
	leave(client);
	client = see(f, 0, 64, 64);
	leave(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_takes_pictures),
		TEST(test_tells_what_cannot_be_written),
		TEST(test_tells_of_a_crash),
		TEST(test_takes_one_picture_at_a_time),
		TEST(test_shows_each_head),
		TEST(test_follows_damage_and_size),
		TEST(test_answers_one_request),
		TEST(test_sleeps_meanwhile),
		TEST(test_shows_the_cursor),
		TEST(test_types),
		TEST(test_keeps_what_is_typed),
		TEST(test_loses_no_release),
		TEST(test_points),
		TEST(test_keeps_clicks),
		TEST(test_asks_for_a_size),
		TEST(test_asks_for_the_password),
		TEST(test_wants_a_password_in_the_file),
		TEST(test_challenges_differ),
		TEST(test_serves_viewers_apart),
		TEST(test_survives_garbage),
		TEST(test_strangers_get_nothing),
		TEST(test_survives_lies),
		TEST(test_has_a_limit_of_viewers),
		TEST(test_survives_a_flood),
		TEST(test_survives_the_gpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
