// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include "core/chardev.h"
#include "core/window.h"

/* Standard input and output of the program, kept while a test puts others in their place. */
struct rig {
	struct chardev chardev;
	struct loop loop;
	int saved_in, saved_out;
	unsigned int ready;
	char dir[32];
	char path[64];
};

static void on_ready(void *opaque)
{
	((struct rig *)opaque)->ready++;
}

static int set_up(void **state)
{
	struct rig *rig = test_calloc(1, sizeof(*rig));

	rig->saved_in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	rig->saved_out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	assert_return_code(loop_init(&rig->loop), 0);
	strcpy(rig->dir, "/tmp/chardev.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	snprintf(rig->path, sizeof(rig->path), "%s/x", rig->dir);
	*state = rig;
	return 0;
}

/* Before any assertion about what went through stdout: cmocka writes there as well. */
static void give_back_stdio(struct rig *rig)
{
	dup2(rig->saved_in, STDIN_FILENO);
	dup2(rig->saved_out, STDOUT_FILENO);
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	chardev_close(&rig->chardev);
	give_back_stdio(rig);
	close(rig->saved_in);
	close(rig->saved_out);
	loop_free(&rig->loop);
	unlink(rig->path);
	rmdir(rig->dir);
	test_free(rig);
	return 0;
}

/* Opens stdio with the given fds in place of the program's own. */
static void open_stdio(struct rig *rig, int in, int out)
{
	const struct chardev_conf conf = { .stdio = true };
	int rc;

	fflush(stdout);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	rc = chardev_open(&rig->chardev, &conf);
	if (rc == 0)
		rc = chardev_attach(&rig->chardev, &rig->loop, on_ready, rig);
	give_back_stdio(rig);
	assert_int_equal(rc, 0);
}

static int open_master(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(grantpt(fd), 0);
	assert_int_equal(unlockpt(fd), 0);
	return fd;
}

static int open_slave(int master)
{
	char path[64];
	int fd;

	assert_int_equal(ptsname_r(master, path, sizeof(path)), 0);
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void turn(struct rig *rig)
{
	while (loop_turn(&rig->loop, 0) > 0)
		;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void assert_reads(struct chardev *chardev, const char *want, enum chardev_escape want_escape)
{
	enum chardev_escape escape = CHARDEV_ESCAPE_NONE;
	char buffer[64];
	ssize_t n = chardev_read(chardev, buffer, sizeof(buffer), &escape);

	assert_int_equal(n, strlen(want));
	assert_memory_equal(buffer, want, strlen(want));
	assert_int_equal(escape, want_escape);
}

static void assert_ended(struct chardev *chardev)
{
	enum chardev_escape escape;
	char buffer[8];

	assert_int_equal(chardev_read(chardev, buffer, sizeof(buffer), &escape), -EPIPE);
}

/* Writes until the reader counts as slow; returns the number of bytes. */
static size_t write_until_full(struct chardev *chardev)
{
	static const char block[3000];
	size_t total = 0;
	ssize_t n;

	while ((n = chardev_write(chardev, block, sizeof(block))) > 0) {
		total += (size_t)n;
		assert_true(total < MIB(64));
	}
	assert_int_equal(n, 0);
	return total;
}

static void test_pipes(void **state)
{
	struct rig *rig = *state;
	int in[2], out[2];
	char buffer[8];

	assert_return_code(pipe2(in, O_CLOEXEC), errno);
	assert_return_code(pipe2(out, O_CLOEXEC), errno);
	open_stdio(rig, in[0], out[1]);
	assert_false(rig->chardev.terminal);
	assert_reads(&rig->chardev, "", CHARDEV_ESCAPE_NONE);
	turn(rig);
	rig->ready = 0;

	/* No escapes but on a terminal. */
	assert_int_equal(write(in[1], "a\001x", 3), 3);
	turn(rig);
	assert_true(rig->ready > 0);
	assert_reads(&rig->chardev, "a\001x", CHARDEV_ESCAPE_NONE);
	assert_int_equal(chardev_write(&rig->chardev, "hello", 5), 5);
	assert_int_equal(read(out[0], buffer, sizeof(buffer)), 5);
	assert_memory_equal(buffer, "hello", 5);

	/* The end of the input is told, and does not keep the loop busy. */
	close(in[1]);
	turn(rig);
	assert_ended(&rig->chardev);
	assert_ended(&rig->chardev);
	assert_int_equal(loop_turn(&rig->loop, 0), 0);

	/* A reader that is gone is an error and no signal. */
	close(out[0]);
	assert_int_equal(chardev_write(&rig->chardev, "x", 1), -EPIPE);
	close(in[0]);
	close(out[1]);
}

static void test_slow_pipe_and_shared_files(void **state)
{
	struct rig *rig = *state;
	char drained[8192];
	int in[2], out[2];
	size_t total;

	assert_return_code(pipe2(in, O_CLOEXEC), errno);
	assert_return_code(pipe2(out, O_CLOEXEC), errno);
	open_stdio(rig, in[0], out[1]);
	total = write_until_full(&rig->chardev);
	assert_true(total >= PIPE_BUF);
	assert_false(chardev_wait(&rig->chardev, 0));

	/* The shell's open files are as they were. */
	assert_int_equal(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);

	turn(rig);
	rig->ready = 0;
	while (total > 0)
		total -= (size_t)read(out[0], drained, sizeof(drained));
	turn(rig);
	assert_true(rig->ready > 0);
	assert_true(chardev_wait(&rig->chardev, 0));
	close(in[0]);
	close(in[1]);
	close(out[0]);
	close(out[1]);
}

/* A socket cannot be opened anew: it stays blocking, and is polled. */
static void test_socket_as_stdio(void **state)
{
	struct rig *rig = *state;
	int pair[2];
	char byte;

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), errno);
	open_stdio(rig, pair[0], pair[0]);
	/* The chardev uses fds 0 and 1 themselves. */
	dup2(pair[0], STDIN_FILENO);
	assert_reads(&rig->chardev, "", CHARDEV_ESCAPE_NONE);
	assert_int_equal(write(pair[1], "in", 2), 2);
	assert_reads(&rig->chardev, "in", CHARDEV_ESCAPE_NONE);
	dup2(pair[0], STDOUT_FILENO);
	write_until_full(&rig->chardev);
	give_back_stdio(rig);
	assert_int_equal(fcntl(pair[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(read(pair[1], &byte, 1), 1);
	close(pair[0]);
	close(pair[1]);
}

static void test_regular_files(void **state)
{
	struct rig *rig = *state;
	int in = open(rig->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(write(in, "typed", 5), 5);
	assert_int_equal(lseek(in, 0, SEEK_SET), 0);
	open_stdio(rig, null, null);
	assert_ended(&rig->chardev);
	assert_int_equal(chardev_write(&rig->chardev, "gone", 4), 4);
	chardev_close(&rig->chardev);

	/* epoll refuses a regular file; it is read all the same. */
	open_stdio(rig, in, null);
	dup2(in, STDIN_FILENO);
	assert_reads(&rig->chardev, "typed", CHARDEV_ESCAPE_NONE);
	assert_ended(&rig->chardev);
	close(in);
	close(null);
}

static void test_stdio_only_once(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .stdio = true };
	struct chardev second;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	open_stdio(rig, null, null);
	assert_int_equal(chardev_open(&second, &conf), -EBUSY);
	assert_string_not_equal(hint_find(chardev_hints, EBUSY), strerror(EBUSY));
	chardev_close(&second);
	assert_int_equal(chardev_open(&second, &conf), -EBUSY);
	chardev_close(&rig->chardev);
	open_stdio(rig, null, null);
	close(null);
}

static void test_terminal(void **state)
{
	struct rig *rig = *state;
	int master = open_master(), slave = open_slave(master);
	struct winsize size = { .ws_col = 132, .ws_row = 43 };
	struct termios before, now;
	uint16_t columns = 0, rows = 0;

	assert_int_equal(tcgetattr(slave, &before), 0);
	assert_true(before.c_lflag & ICANON);
	assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
	open_stdio(rig, slave, slave);
	assert_true(rig->chardev.terminal);
	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_false(now.c_lflag & (ICANON | ECHO | ISIG));
	assert_false(now.c_oflag & OPOST);
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(chardev_window(&rig->chardev, &columns, &rows), 0);
	assert_int_equal(columns, 132);
	assert_int_equal(rows, 43);

	/* A stopped terminal never blocks. */
	write_until_full(&rig->chardev);

	chardev_restore_terminal();
	chardev_restore_terminal();
	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_int_equal(now.c_lflag, before.c_lflag);
	assert_int_equal(now.c_oflag, before.c_oflag);
	assert_int_equal(now.c_iflag, before.c_iflag);
	close(slave);
	close(master);
}

static void test_closing_restores(void **state)
{
	struct rig *rig = *state;
	int master = open_master(), slave = open_slave(master);
	struct termios before, now, changed;

	assert_int_equal(tcgetattr(slave, &before), 0);
	open_stdio(rig, slave, slave);
	chardev_close(&rig->chardev);
	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_int_equal(now.c_lflag, before.c_lflag);

	/* From then on the terminal is none of ours. */
	changed = before;
	changed.c_lflag &= ~(tcflag_t)ECHO;
	assert_int_equal(tcsetattr(slave, TCSANOW, &changed), 0);
	chardev_restore_terminal();
	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_int_equal(now.c_lflag, changed.c_lflag);
	close(slave);
	close(master);
}

/* The files that a guest has mapped are looked after as before. */
static void test_pages_that_are_lost(void **state)
{
	int master = open_master(), slave = open_slave(master), fd = memfd_create("file", MFD_CLOEXEC);
	struct window window;

	assert_int_equal(window_init(&window, WINDOW_PIECE), 0);
	assert_int_equal(window_map(&window, 0, WINDOW_PIECE, fd, 0, true), 0);
	open_stdio(*state, slave, slave);
	assert_int_equal(window.hva[0], 0);
	window_free(&window);
	close(fd);
	close(slave);
	close(master);
}

/* In the background of its terminal: 0 when all is well, else the number of the step. */
static int use_in_background(int slave)
{
	const struct chardev_conf conf = { .stdio = true };
	enum chardev_escape escape;
	struct chardev chardev;
	struct termios modes;
	char buffer[8];

	if (setpgid(0, 0) < 0 || tcgetpgrp(slave) == getpgrp())
		return 1;
	dup2(slave, STDIN_FILENO);
	dup2(slave, STDOUT_FILENO);
	if (chardev_open(&chardev, &conf) < 0 || chardev.terminal)
		return 2;
	if (tcgetattr(slave, &modes) < 0 || !(modes.c_lflag & ICANON))
		return 3;
	if (chardev_read(&chardev, buffer, sizeof(buffer), &escape) != 0)
		return 4;
	return chardev_write(&chardev, "out", 3) == 3 ? 0 : 5;
}

/* The leader of a session on the terminal, as a shell is, with a job in the background. */
static int lead_session(int slave)
{
	struct termios modes;
	int status;
	pid_t job;

	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0 || tcgetattr(slave, &modes) < 0)
		return 10;
	modes.c_lflag |= TOSTOP;
	if (tcsetattr(slave, TCSANOW, &modes) < 0)
		return 11;
	job = fork();
	if (job == 0)
		_exit(use_in_background(slave));
	if (waitpid(job, &status, WUNTRACED) != job)
		return 12;
	if (WIFSTOPPED(status))
		kill(job, SIGKILL);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 13;
}

static void test_background(void **state)
{
	int master = open_master(), slave = open_slave(master), status;
	pid_t leader;

	(void)state;
	fflush(stdout);
	leader = fork();
	if (leader == 0)
		_exit(lead_session(slave));
	assert_int_equal(waitpid(leader, &status, 0), leader);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(slave);
	close(master);
}

static void test_escapes(void **state)
{
	struct rig *rig = *state;
	struct chardev *chardev = &rig->chardev;
	int master = open_master(), slave = open_slave(master);
	static const struct {
		const char *typed, *seen;
		enum chardev_escape escape;
	} cases[] = {
		{ "plain", "plain", CHARDEV_ESCAPE_NONE },
		{ "\001x", "", CHARDEV_ESCAPE_QUIT },
		{ "a\001Xb", "ab", CHARDEV_ESCAPE_QUIT },
		{ "\001cd", "d", CHARDEV_ESCAPE_STATUS },
		{ "\001c\001x", "", CHARDEV_ESCAPE_QUIT },
		{ "\001x\001c", "", CHARDEV_ESCAPE_QUIT },
		{ "\001\001", "\001", CHARDEV_ESCAPE_NONE },
		{ "\001\001x", "\001x", CHARDEV_ESCAPE_NONE },
		{ "\001q\001w", "\001q\001w", CHARDEV_ESCAPE_NONE },
		{ "\003", "\003", CHARDEV_ESCAPE_NONE },
		/* Ctrl-A at the end is held back; the next case goes on from there. */
		{ "ab\001", "ab", CHARDEV_ESCAPE_NONE },
		{ "yz", "\001yz", CHARDEV_ESCAPE_NONE },
		{ "\001", "", CHARDEV_ESCAPE_NONE },
		{ "c", "", CHARDEV_ESCAPE_STATUS },
	};

	open_stdio(rig, slave, slave);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = strlen(cases[i].typed);

		assert_int_equal(write(master, cases[i].typed, len), len);
		assert_true(loop_turn(&rig->loop, 1000) > 0);
		assert_reads(chardev, cases[i].seen, cases[i].escape);
	}
	close(slave);
	close(master);
}

/* Two bytes of room are enough for everything, escapes at every position. */
static void test_escapes_in_little_room(void **state)
{
	struct rig *rig = *state;
	int master = open_master(), slave = open_slave(master);
	enum chardev_escape escape;
	char seen[32] = "", buffer[2];
	unsigned int statuses = 0;
	ssize_t n;

	open_stdio(rig, slave, slave);
	assert_int_equal(write(master, "\001ca\001\001b\001c\001cq\001q!", 14), 14);
	assert_true(loop_turn(&rig->loop, 1000) > 0);
	while ((n = chardev_read(&rig->chardev, buffer, sizeof(buffer), &escape)) > 0) {
		strncat(seen, buffer, (size_t)n);
		statuses += escape == CHARDEV_ESCAPE_STATUS;
	}
	assert_int_equal(n, 0);
	assert_string_equal(seen, "a\001bq\001q!");
	assert_true(statuses >= 2);
	close(slave);
	close(master);
}

static void test_pty(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .pty = true };
	struct chardev *chardev = &rig->chardev;
	static const char block[4096];
	char buffer[16];
	int user;

	assert_int_equal(chardev_open(chardev, &conf), 0);
	assert_int_equal(chardev_attach(chardev, &rig->loop, on_ready, rig), 0);
	assert_int_equal(strncmp(chardev->path, "/dev/pts/", 9), 0);

	/* Nobody has it open: output is dropped for as long as it takes, and nothing spins. */
	for (int i = 0; i < 1000; i++)
		assert_int_equal(chardev_write(chardev, block, sizeof(block)), sizeof(block));
	assert_reads(chardev, "", CHARDEV_ESCAPE_NONE);
	turn(rig);
	assert_int_equal(loop_turn(&rig->loop, 0), 0);

	/* Somebody has: both directions work, raw, and what was dropped is not kept. */
	user = open(chardev->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(user >= 0);
	assert_int_equal(chardev_write(chardev, "login\n", 6), 6);
	assert_int_equal(poll(&(struct pollfd){ .fd = user, .events = POLLIN }, 1, 1000), 1);
	assert_int_equal(read(user, buffer, sizeof(buffer)), 6);
	assert_memory_equal(buffer, "login\n", 6);
	assert_reads(chardev, "", CHARDEV_ESCAPE_NONE);
	assert_int_equal(write(user, "\001x\003", 3), 3);
	assert_true(loop_turn(&rig->loop, 1000) > 0);
	assert_reads(chardev, "\001x\003", CHARDEV_ESCAPE_NONE);

	/* A slow one is waited for, but not once it has left. */
	write_until_full(chardev);
	close(user);
	assert_true(chardev_wait(chardev, 1000));
	assert_int_equal(chardev_write(chardev, block, sizeof(block)), sizeof(block));
	turn(rig);
	assert_int_equal(loop_turn(&rig->loop, 0), 0);

	/* Whoever comes back finds it as it was. */
	for (int i = 0; i < 100; i++) {
		user = open(chardev->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		rig->ready = 0;
		assert_int_equal(write(user, "back", 4), 4);
		assert_int_equal(poll(&(struct pollfd){ .fd = chardev->in, .events = POLLIN }, 1, 20000), 1);
		turn(rig);
		assert_true(rig->ready > 0);
		assert_reads(chardev, "back", CHARDEV_ESCAPE_NONE);
		assert_reads(chardev, "", CHARDEV_ESCAPE_NONE);
		assert_false(chardev->ended);
		close(user);
		turn(rig);
	}
}

static void test_file(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .file = rig->path };
	char buffer[16];
	int fd = open(rig->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, "old content", 11), 11);
	close(fd);
	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	assert_int_equal(chardev_write(&rig->chardev, "new", 3), 3);
	assert_ended(&rig->chardev);
	fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buffer, sizeof(buffer)), 3);
	assert_memory_equal(buffer, "new", 3);
	close(fd);
}

static void test_file_errors(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf fifo = { .file = rig->path };
	const struct chardev_conf missing = { .file = (char *)"/no/x" };
	const struct chardev_conf directory = { .file = rig->dir };

	assert_int_equal(chardev_open(&rig->chardev, &missing), -ENOENT);
	assert_int_equal(chardev_open(&rig->chardev, &directory), -EISDIR);
	assert_string_not_equal(hint_find(chardev_hints, EISDIR), strerror(EISDIR));
	assert_int_equal(mkfifo(rig->path, 0600), 0);
	assert_int_equal(chardev_open(&rig->chardev, &fifo), -ENXIO);
}

static void test_socket(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .socket = rig->path };
	struct chardev *chardev = &rig->chardev;
	char buffer[16];
	int first, second;

	assert_int_equal(chardev_open(chardev, &conf), 0);
	assert_int_equal(chardev_attach(chardev, &rig->loop, on_ready, rig), 0);
	assert_string_equal(chardev->path, rig->path);
	assert_int_equal(chardev_write(chardev, "nobody", 6), 6);
	assert_reads(chardev, "", CHARDEV_ESCAPE_NONE);

	first = connect_to(rig->path);
	turn(rig);
	assert_int_equal(chardev_write(chardev, "hi", 2), 2);
	assert_int_equal(read(first, buffer, sizeof(buffer)), 2);
	assert_memory_equal(buffer, "hi", 2);
	assert_int_equal(write(first, "ho", 2), 2);
	assert_reads(chardev, "ho", CHARDEV_ESCAPE_NONE);

	/* One at a time: the second one finds the end of the stream. */
	second = connect_to(rig->path);
	turn(rig);
	assert_int_equal(read(second, buffer, sizeof(buffer)), 0);
	close(second);
	assert_int_equal(chardev_write(chardev, "still", 5), 5);
	assert_int_equal(read(first, buffer, sizeof(buffer)), 5);

	/* When the first one left, the next one is welcome, whether that was noticed or not. */
	close(first);
	second = connect_to(rig->path);
	turn(rig);
	assert_int_equal(chardev_write(chardev, "next", 4), 4);
	assert_int_equal(read(second, buffer, sizeof(buffer)), 4);

	/* What a peer sent before it left is still read. */
	assert_int_equal(write(second, "bye", 3), 3);
	close(second);
	turn(rig);
	assert_int_equal(chardev_write(chardev, "lost", 4), 4);
	assert_reads(chardev, "bye", CHARDEV_ESCAPE_NONE);
	assert_reads(chardev, "", CHARDEV_ESCAPE_NONE);
	assert_int_equal(loop_turn(&rig->loop, 0), 0);
}

/* Those who come and go without end let others on the thread go on, and leave nothing open. */
static void test_many_peers(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .socket = rig->path };
	int first, second, next;
	char byte;

	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	first = connect_to(rig->path);
	second = connect_to(rig->path);
	assert_int_equal(loop_turn(&rig->loop, 0), 1);
	assert_int_equal(recv(second, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	turn(rig);
	assert_int_equal(recv(second, &byte, 1, MSG_DONTWAIT), 0);
	close(second);
	close(first);
	turn(rig);

	next = dup(STDIN_FILENO);
	close(next);
	for (int i = 0; i < 3000; i++) {
		first = connect_to(rig->path);
		if (i % 2)
			turn(rig);
		if (i % 3)
			(void)chardev_write(&rig->chardev, "hello", 5);
		close(first);
		turn(rig);
		if (i % 5 == 0)
			assert_reads(&rig->chardev, "", CHARDEV_ESCAPE_NONE);
	}
	first = dup(STDIN_FILENO);
	assert_int_equal(first, next);
	close(first);
}

static void test_slow_peer(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .socket = rig->path };
	int peer;

	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	peer = connect_to(rig->path);
	turn(rig);
	write_until_full(&rig->chardev);
	rig->ready = 0;
	close(peer);
	turn(rig);
	assert_true(rig->ready > 0);
	assert_int_equal(chardev_write(&rig->chardev, "x", 1), 1);
}

/* The next peer comes even when nobody reads what the last one left behind. */
static void test_dialled_peer_that_leaves(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .connect = rig->path };
	struct pollfd door = { .events = POLLIN };
	char byte;
	int peer;

	assert_int_equal(usock_listen(rig->path, SOCK_STREAM, 1, &door.fd), 0);
	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	for (unsigned int i = 1; i <= 3; i++) {
		assert_int_equal(poll(&door, 1, -1), 1);
		peer = accept4(door.fd, NULL, NULL, SOCK_CLOEXEC);
		while (rig->chardev.peers < i)
			loop_turn(&rig->loop, -1);
		assert_int_equal(chardev_write(&rig->chardev, "x", 1), 1);
		assert_false(rig->chardev.unheard);
		assert_int_equal(read(peer, &byte, 1), 1);
		assert_int_equal(write(peer, "unread", 6), 6);
		close(peer);
		assert_int_equal(chardev_write(&rig->chardev, "x", 1), 1);
		assert_true(rig->chardev.unheard);
	}
	/* It is asked for once, however often nobody hears. */
	assert_int_equal(chardev_write(&rig->chardev, "x", 1), 1);
	assert_int_equal(poll(&door, 1, -1), 1);
	close(accept4(door.fd, NULL, NULL, SOCK_CLOEXEC));
	assert_int_equal(poll(&door, 1, 1500), 0);
	close(door.fd);
}

/* Memory that is lost is the guest's affair: it ends neither stream. */
static void test_lost_memory(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .socket = rig->path };
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *lost = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	enum chardev_escape escape;
	int peer;

	assert_true(lost != MAP_FAILED);
	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	peer = connect_to(rig->path);
	turn(rig);
	assert_int_equal(write(peer, "hello", 5), 5);
	assert_int_equal(chardev_read(&rig->chardev, lost, page, &escape), -EFAULT);
	assert_int_equal(chardev_write(&rig->chardev, lost, page), -EFAULT);
	assert_reads(&rig->chardev, "hello", CHARDEV_ESCAPE_NONE);
	assert_int_equal(chardev_write(&rig->chardev, "x", 1), 1);
	assert_false(rig->chardev.unheard);
	close(peer);
	munmap(lost, page);
}

static void leave_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
}

static void test_socket_paths(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .socket = rig->path };
	char long_path[109] = "";
	const struct chardev_conf too_long = { .socket = long_path };
	struct chardev second;
	int fd;

	memset(long_path, 'x', sizeof(long_path) - 1);
	assert_int_equal(chardev_open(&second, &too_long), -ENAMETOOLONG);

	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	assert_int_equal(chardev_open(&second, &conf), -EADDRINUSE);
	chardev_close(&second);

	/* The end takes the socket along, the refusal of a second one does not. */
	assert_int_equal(access(rig->path, F_OK), 0);
	chardev_close(&rig->chardev);
	assert_int_equal(access(rig->path, F_OK), -1);

	/* Whoever listened was killed and left the socket: it is replaced. */
	leave_socket(rig->path);
	assert_int_equal(access(rig->path, F_OK), 0);
	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	chardev_close(&rig->chardev);

	/* Nothing but a socket is ever removed. */
	unlink(rig->path);
	fd = open(rig->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(chardev_open(&rig->chardev, &conf), -EEXIST);
	assert_int_equal(access(rig->path, F_OK), 0);
}

static void test_none_and_two(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf none = { .none = true }, two = { .none = true, .pty = true };
	int fds[CHARDEV_FDS_MAX];
	uint16_t columns, rows;

	assert_int_equal(chardev_open(&rig->chardev, &two), -EINVAL);
	assert_int_equal(chardev_open(&rig->chardev, &none), 0);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	assert_int_equal(chardev_fds(&rig->chardev, fds), 0);
	assert_int_equal(chardev_write(&rig->chardev, "dropped", 7), 7);
	assert_ended(&rig->chardev);
	assert_int_equal(chardev_window(&rig->chardev, &columns, &rows), -ENOTTY);
}

/* The numbers that a worker must keep are there before the first peer is. */
static void test_peer_fd_is_set_aside(void **state)
{
	struct rig *rig = *state;
	const struct chardev_conf conf = { .socket = rig->path };
	int fds[CHARDEV_FDS_MAX], peer;
	size_t count;
	bool kept = false;

	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	count = chardev_fds(&rig->chardev, fds);
	assert_int_equal(chardev_attach(&rig->chardev, &rig->loop, on_ready, rig), 0);
	peer = connect_to(rig->path);
	turn(rig);
	assert_true(rig->chardev.in >= 0);
	for (size_t i = 0; i < count; i++)
		kept = kept || fds[i] == rig->chardev.in;
	assert_true(kept);
	close(peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pipes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_pipe_and_shared_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_socket_as_stdio, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_regular_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stdio_only_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_terminal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closing_restores, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pages_that_are_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_background, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_escapes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_escapes_in_little_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_socket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_peers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_peer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dialled_peer_that_leaves, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lost_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_socket_paths, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_none_and_two, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_peer_fd_is_set_aside, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
