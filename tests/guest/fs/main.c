// SPDX-License-Identifier: Apache-2.0
/*
 * fstest cases DIR [UID]: runs each case in a directory below DIR, as that user, and prints "NAME: ok", or what did not hold.
 * fstest random DIR SEED COUNT: COUNT operations that follow from the seed, below DIR; prints what each returned.
 * fstest tree DIR: prints what is below DIR.
 */
#include <err.h>
#include <grp.h>
#include <sys/wait.h>
#include "tests/guest/fs/fstest.h"

#define LACKS 77
#define OLD 1000000
#define CASE_SECONDS 300

/* ---- checks ---- */

void check_holds(bool holds, const char *condition, const char *function, int line)
{
	if (holds)
		return;
	printf("%s:%d: %s\n", function, line, condition);
	fflush(stdout);
	_exit(1);
}

void check_error(int found, int wanted, const char *call, const char *function, int line)
{
	if (found == wanted)
		return;
	printf("%s:%d: %s: %s instead of %s\n", function, line, call,
	       found ? strerrorname_np(found) : "success", strerrorname_np(wanted));
	fflush(stdout);
	_exit(1);
}

void lacks(const char *what)
{
	printf("no %s\n", what);
	fflush(stdout);
	_exit(LACKS);
}

pid_t begin(void (*run)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	alarm(CASE_SECONDS);
	run();
	_exit(0);
}

/* What did not hold has been said by the process. */
void finish(pid_t pid)
{
	int state;

	CHECK(waitpid(pid, &state, 0) == pid);
	CHECK(WIFEXITED(state));
	if (WEXITSTATUS(state))
		_exit(WEXITSTATUS(state));
}

static void become(uid_t uid)
{
	const gid_t groups[] = { uid, uid + 1 };

	CHECK(!setgroups(ARRAY_SIZE(groups), groups) && !setgid(uid) && !setuid(uid));
}

void as_user(uid_t uid, void (*run)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		become(uid);
		run();
		_exit(0);
	}
	finish(pid);
}

/* ---- files ---- */

void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(!close(fd));
}

bool has_text(const char *name, const char *text)
{
	char buffer[256];
	int fd = open(name, O_RDONLY);
	ssize_t n = read(fd, buffer, sizeof(buffer));

	CHECK(!close(fd));
	return n == (ssize_t)strlen(text) && !memcmp(buffer, text, (size_t)n);
}

bool exists(const char *name)
{
	struct stat st;

	return !lstat(name, &st);
}

struct stat status(const char *name)
{
	struct stat st;

	CHECK(!lstat(name, &st));
	return st;
}

mode_t permissions(const char *name)
{
	return status(name).st_mode & 07777;
}

void make_old(const char *name)
{
	const struct timespec times[] = { { .tv_sec = OLD }, { .tv_sec = OLD } };

	CHECK(!utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW));
}

bool is_old(const char *name)
{
	return status(name).st_mtim.tv_sec == OLD;
}

/* ---- cases ---- */

static void enter(const char *name, uid_t uid)
{
	umask(0);
	CHECK(!mkdir(name, 0755) && !chown(name, uid, uid) && !chdir(name));
	if (uid != geteuid())
		become(uid);
}

static void run_case(const struct fs_case *the_case, uid_t uid)
{
	pid_t pid;
	int state;

	printf("%s: ", the_case->name);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		alarm(CASE_SECONDS);
		enter(the_case->name, uid);
		the_case->run();
		_exit(0);
	}
	if (waitpid(pid, &state, 0) < 0)
		err(1, "waitpid");
	if (WIFSIGNALED(state))
		printf("killed by signal %d\n", WTERMSIG(state));
	else if (!state)
		puts("ok");
}

static int cases_main(int argc, char *const *argv)
{
	static const struct fs_case *const tables[] = {
		name_cases, attr_cases, dir_cases, file_cases, shared_cases, root_cases,
	};
	uid_t uid = argc > 1 ? (uid_t)atoi(argv[1]) : geteuid();
	size_t count = ARRAY_SIZE(tables) - (uid ? 1 : 0);

	if (argc < 1 || chdir(argv[0]) < 0)
		err(1, "DIR");
	for (size_t i = 0; i < count; i++)
		for (const struct fs_case *at = tables[i]; at->name; at++)
			run_case(at, uid);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char *const *argv);
	} commands[] = {
		{ "cases", cases_main }, { "random", random_main }, { "tree", tree_main },
	};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (argc > 1 && !strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 2, argv + 2);
	errx(1, "usage: fstest cases DIR [UID] | random DIR SEED COUNT | tree DIR");
}
