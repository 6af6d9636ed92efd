// SPDX-License-Identifier: Apache-2.0
/*
 * microvm-display. All of its files come from microvm, in one message; then it
 * confines itself as microvm does (seccomp/jail.h), and further in each of its processes. It ends with
 * microvm, as its socket does, and takes its processes along.
 */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include "core/spawn.h"
#include "display/png.h"
#include "display/program.h"
#include "display/vnc.h"
#include "seccomp/jail.h"

/* More than there can be: viewers, listeners, pictures, devices, and what a viewer's process opens. */
#define FILES_MAX 128

/* Of the gpu's, at a time: there are viewers, too. */
#define MESSAGES_MAX 32
/* More than its socket holds. */
#define BACKLOG_MAX 1024

/* Filters only narrow: what its processes call is here, too. */
static const struct sandbox program_sandbox = SANDBOX(
	SC(accept4), SC(shutdown), SC(socketpair), SC_ARG(recvmsg, 2, USOCK_RECEIVE_FLAGS),
	SC_ARG(clone, 0, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD),
	SC_ARG(prctl, 0, PR_SET_PDEATHSIG), SC_ARG(prctl, 0, PR_SET_NAME),
	SC_ARG(prctl, 0, PR_SET_SECCOMP), /* theirs, by libseccomp */
	VNC_CALLS, PNG_CALLS);
static const struct sandbox picture_sandbox = SANDBOX(PNG_CALLS);

void program_leave(const int *keep, size_t count)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int fd = STDERR_FILENO + 1; fd < FILES_MAX; fd++) {
		size_t i = 0;

		while (i < count && keep[i] != fd)
			i++;
		if (i == count)
			close(fd);
	}
}

/* ---- pictures ---- */

static void answer(const struct program *program, int err)
{
	const int32_t word = err;

	(void)!write(program->control.fd, &word, sizeof(word));
}

_Noreturn static void draw_picture(const struct program *program, unsigned int index, int sock)
{
	const struct head *head = &program->heads[index];
	int32_t word = -EPERM;

	program_leave((const int[]){ head->picture, sock }, 2);
	filter_name_thread("picture");
	if (filter_enter(&picture_sandbox) == 0)
		word = png_write_file(head->picture, program->memory[index].pixels, head->width, head->height);
	(void)!write(sock, &word, sizeof(word));
	_exit(EXIT_SUCCESS);
}

/* In a process of its own: it may take a while, and the file may be anything. */
static int take_picture(struct program *program, unsigned int index)
{
	pid_t pid;
	int r;

	if (program->picture.fd >= 0)
		return -EBUSY;
	pid = spawn_fork(0, &program->picture.fd);
	if (pid < 0)
		return pid;
	if (pid == 0)
		draw_picture(program, index, program->picture.fd);
	r = loop_add(&program->loop, &program->picture, EPOLLIN);
	if (r < 0)
		util_closep(&program->picture.fd);
	return r;
}

/* Its process has said how it went; or it is gone. */
static void on_picture(struct event *event, uint32_t revents)
{
	struct program *program = container_of(event, struct program, picture);
	int32_t word;

	(void)revents;
	if (read(event->fd, &word, sizeof(word)) != sizeof(word))
		word = -ECHILD;
	loop_del(&program->loop, event);
	util_closep(&event->fd);
	answer(program, word);
}

static void on_control(struct event *event, uint32_t revents)
{
	struct program *program = container_of(event, struct program, control);
	struct display_picture picture = { 0 };
	struct usock_parcel parcel = { .data = &picture, .len = sizeof(picture) };
	struct head *head;
	int r = usock_receive(event->fd, &parcel);

	(void)revents;
	if (r < 0) {
		loop_stop(&program->loop);
		return;
	}
	head = parcel.len == sizeof(picture) && picture.head < program->head_count
		       ? &program->heads[picture.head] : NULL;
	if (head && parcel.count == 1) {
		util_closep(&head->picture);
		head->picture = parcel.fds[0];
		return;
	}
	usock_close_files(&parcel);
	/* What the gpu has said before it counts. */
	(void)heads_update(program, BACKLOG_MAX);
	if (!head || head->picture < 0)
		r = -EBADF;
	else
		r = head->width ? take_picture(program, picture.head) : -ENODATA;
	if (r < 0)
		answer(program, r);
}

static void on_gpu(struct event *event, uint32_t revents)
{
	struct program *program = container_of(event, struct program, gpu);

	(void)revents;
	if (heads_update(program, MESSAGES_MAX) < 0)
		loop_del(&program->loop, event);
	else
		viewers_tell_gpu(program);
}

/* ---- what microvm gives ---- */

/* The file at a place of the parcel; -1: it has none there. */
static int unpack(const struct usock_parcel *parcel, int32_t place)
{
	return place >= 0 && (uint32_t)place < parcel->count ? parcel->fds[place] : -1;
}

static int map_memory(struct program *program, int fd)
{
	const size_t size = program->head_count * sizeof(struct display_head);
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!size || (uint64_t)st.st_size < size)
		return -EINVAL;
	map = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	program->memory = map;
	return 0;
}

/* The first line of the file; VNC looks at so many characters. */
static int read_password(struct program *program, int fd)
{
	ssize_t n = read(fd, program->password, sizeof(program->password) - 1);

	if (n < 0)
		return -EKEYREJECTED;
	program->password[n] = '\0';
	program->password[strcspn(program->password, "\r\n")] = '\0';
	return *program->password ? 0 : -EKEYREJECTED;
}

static int take_setup(struct program *program)
{
	struct display_setup setup = { 0 };
	struct usock_parcel parcel = { .data = &setup, .len = sizeof(setup) };
	int r = usock_receive(program->control.fd, &parcel), fd;

	if (r < 0)
		return r;
	if (parcel.len != sizeof(setup) || setup.heads > DISPLAY_HEADS_MAX)
		return -EINVAL;
	program->head_count = setup.heads;
	memcpy(program->name, setup.name, sizeof(program->name) - 1);
	for (size_t i = 0; i < DISPLAY_ROLES; i++)
		program->inputs[i].event.fd = i == DISPLAY_GPU ? -1 : unpack(&parcel, setup.ends[i]);
	program->gpu.fd = unpack(&parcel, setup.ends[DISPLAY_GPU]);
	for (size_t i = 0; i < DISPLAY_HEADS_MAX; i++)
		program->heads[i].listener.fd = unpack(&parcel, setup.listen[i]);
	fd = unpack(&parcel, setup.memory);
	r = map_memory(program, fd);
	util_closep(&fd);
	fd = unpack(&parcel, setup.password);
	if (!r && fd >= 0)
		r = read_password(program, fd);
	util_closep(&fd);
	return r;
}

/* ---- life ---- */

static int watch(struct program *program)
{
	int r = loop_init(&program->loop);

	program->control.fn = on_control;
	program->gpu.fn = on_gpu;
	program->picture = (struct event){ -1, on_picture };
	if (!r)
		r = loop_add(&program->loop, &program->control, EPOLLIN);
	if (!r && program->gpu.fd >= 0)
		r = loop_add(&program->loop, &program->gpu, EPOLLIN);
	for (size_t i = 0; i < DISPLAY_ROLES; i++) {
		program->inputs[i].program = program;
		program->inputs[i].event.fn = viewers_release;
	}
	for (size_t i = 0; i < VIEWERS_MAX; i++)
		program->viewers[i].feed.fd = -1;
	for (size_t i = 0; i < DISPLAY_HEADS_MAX; i++) {
		struct head *head = &program->heads[i];

		head->program = program;
		head->picture = -1;
		head->cursor.type = DISPLAY_CURSOR;
		head->listener.fn = viewers_accept;
		if (!r && head->listener.fd >= 0)
			r = loop_add(&program->loop, &head->listener, EPOLLIN);
	}
	return r;
}

static int confine(void)
{
	const struct jail_exceptions nothing = { .cwd = -1 };
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	struct jail_report report;
	const char *step;
	int r;

	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	r = filter_report_violations(NULL);
	if (!r)
		r = jail_enter(&nothing, &report, &step);
	return r ? r : filter_enter(&program_sandbox);
}

int main(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD };
	struct program program = { .control.fd = SPAWN_FD };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = take_setup(&program);
	if (r == -EBADF || r == -ENOTSOCK) {
		fputs("microvm-display: microvm starts this program by itself, see --gpu\n", stderr);
		return EXIT_FAILURE;
	}
	if (!r)
		r = watch(&program);
	if (!r) {
		vnc_prepare();
		r = confine();
	}
	answer(&program, r);
	if (!r)
		r = loop_run(&program.loop);
	/* What the libraries would do at the end is not in the filter. */
	_exit(r ? EXIT_FAILURE : EXIT_SUCCESS);
}
