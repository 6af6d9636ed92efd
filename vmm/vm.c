// SPDX-License-Identifier: Apache-2.0
/*
 * The run. Whatever may end it (a device's register, a vCPU that cannot go on,
 * a signal, a key, a timer) leaves its ending in the vm, the first one wins,
 * and wakes the main thread by an eventfd. The main thread alone acts on it.
 */
#include "vmm/vm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include "arch/arch.h"
#include "core/log.h"
#include "seccomp/filter.h"
#include "seccomp/landlock.h"
#include "vmm/config.h"
#include "vmm/deadline.h"
#include "vmm/machine.h"
#include "vmm/output.h"
#include "vmm/summary.h"

/* A guest that was asked to power off gets this long. */
#define GRACE_NS (30 * NS_PER_SEC)
/* The devices get this long to stop, when the guest has ended, and to do what the main thread waits for. */
#define DEADLINE_S 30

#define LEFTOVERS_MAX (24 + DISPLAY_HEADS_MAX)

const struct sandbox main_sandbox = SANDBOX(MAIN_CALLS);

enum vm_end {
	VM_GOES_ON,
	VM_POWER_OFF,
	VM_REBOOT,
	VM_EXIT,
	VM_PANIC,
	VM_TRIPLE_FAULT,
	VM_ERROR,
	VM_TIMEOUT,
	VM_INTERRUPTED,
};

static const struct {
	const char *name;
	int status;
} ends[] = {
	[VM_POWER_OFF] = { "power-off", 0 },
	[VM_REBOOT] = { "reboot", 0 },
	[VM_EXIT] = { "debug-exit", 0 /* what the guest wrote */ },
	[VM_PANIC] = { "panic", 101 },
	[VM_TRIPLE_FAULT] = { "triple-fault", 102 },
	[VM_ERROR] = { "error", 103 },
	[VM_TIMEOUT] = { "timeout", 124 },
	[VM_INTERRUPTED] = { "interrupted", 130 },
};

/* A file to remove at the end, by its directory: the jail leaves no paths. */
struct leftover {
	int dir;
	char *name;
};

struct vm {
	const struct config *config;
	struct machine machine;
	struct loop loop;
	uint64_t start_ns;
	struct leftover leftovers[LEFTOVERS_MAX];
	size_t leftover_count;
	int summary_fd;
	unsigned int restarts;

	struct event wake; /* an eventfd: end or escape has something */
	struct event signals;
	struct timer timeout, grace;
	bool asked_to_end;

	pthread_mutex_t lock; /* guards what follows */
	enum vm_end end;
	int code;          /* of VM_EXIT; of VM_REBOOT, what KVM says of it */
	char text[400];    /* of VM_ERROR */
	bool wants_status; /* a person asked for the status line */
};

/* ---- from other threads ---- */

static void wake(const struct vm *vm)
{
	util_signal(vm->wake.fd);
}

static void end(struct vm *vm, enum vm_end why, int code, const char *text)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->end == VM_GOES_ON) {
		vm->end = why;
		vm->code = code;
		snprintf(vm->text, sizeof(vm->text), "%s", text ? text : "");
	}
	pthread_mutex_unlock(&vm->lock);
	wake(vm);
}

static void on_request(void *opaque, enum platform_request request, int code)
{
	static const enum vm_end meaning[] = {
		[PLATFORM_POWER_OFF] = VM_POWER_OFF,
		[PLATFORM_REBOOT] = VM_REBOOT,
		[PLATFORM_PANIC] = VM_PANIC,
		[PLATFORM_EXIT] = VM_EXIT,
	};
	struct vm *vm = opaque;

	/* The crash kernel will end the run in its own way. */
	if (request == PLATFORM_CRASH_LOAD)
		return;
	vcpus_request_park(&vm->machine.vcpus);
	end(vm, meaning[request], code, NULL);
}

static void on_stopped(void *opaque, enum vcpu_stop why, int code, const char *text)
{
	static const enum vm_end meaning[] = {
		[VCPU_POWER_OFF] = VM_POWER_OFF,
		[VCPU_RESET] = VM_REBOOT,
		[VCPU_PANIC] = VM_PANIC,
		[VCPU_TRIPLE_FAULT] = VM_TRIPLE_FAULT,
		[VCPU_INTERNAL_ERROR] = VM_ERROR,
	};

	end(opaque, meaning[why], code, text);
}

static void on_escape(void *opaque, enum chardev_escape escape)
{
	struct vm *vm = opaque;

	if (escape == CHARDEV_ESCAPE_QUIT) {
		end(vm, VM_INTERRUPTED, 0, NULL);
	} else if (escape == CHARDEV_ESCAPE_STATUS) {
		pthread_mutex_lock(&vm->lock);
		vm->wants_status = true;
		pthread_mutex_unlock(&vm->lock);
		wake(vm);
	}
}

/* ---- the main thread's events ---- */

static double seconds(const struct vm *vm)
{
	return (double)(util_now_ns() - vm->start_ns) / 1e9;
}

static void show_status(const struct vm *vm)
{
	char text[1024];

	summary_line(&vm->machine, seconds(vm), text, sizeof(text));
	log_at(LOG_ERROR, "%s", text);
}

static void restart(struct vm *vm)
{
	vm->restarts++;
	log_info("the guest restarts");
	if (machine_reset(&vm->machine) < 0)
		end(vm, VM_ERROR, 0, "the guest cannot be restarted");
	else
		vcpus_run(&vm->machine.vcpus);
	deadline_set(0, 0);
}

static int exit_status(const struct vm *vm)
{
	return vm->end == VM_EXIT ? vm->code : ends[vm->end].status;
}

static void act_on_end(struct vm *vm)
{
	bool again;

	/* A vCPU may be waiting for a device, too. A restart that does not come about is an error. */
	deadline_set(DEADLINE_S, vm->end == VM_REBOOT ? ends[VM_ERROR].status : exit_status(vm));
	vcpus_park(&vm->machine.vcpus);
	pthread_mutex_lock(&vm->lock);
	if (vm->end == VM_REBOOT && arch_reset_by_panic(&vm->machine.mem, vm->code))
		vm->end = VM_PANIC;
	again = vm->end == VM_REBOOT && !vm->config->no_reboot && !vm->asked_to_end;
	/* What ends the run during the reset counts again. */
	if (again)
		vm->end = VM_GOES_ON;
	pthread_mutex_unlock(&vm->lock);
	if (again)
		restart(vm);
	else
		loop_stop(&vm->loop);
}

static void on_wake(struct event *event, uint32_t revents)
{
	struct vm *vm = container_of(event, struct vm, wake);
	bool status;
	enum vm_end why;

	(void)revents;
	pthread_mutex_lock(&vm->lock);
	status = vm->wants_status;
	vm->wants_status = false;
	why = vm->end;
	pthread_mutex_unlock(&vm->lock);
	if (status)
		show_status(vm);
	if (why != VM_GOES_ON)
		act_on_end(vm);
}

/* The first time the guest is asked to power off, the second time it is not asked. */
static void ask_to_end(struct vm *vm)
{
	if (vm->asked_to_end) {
		end(vm, VM_INTERRUPTED, 0, NULL);
		return;
	}
	vm->asked_to_end = true;
	log_info("pressing the guest's power button; it has %d seconds", (int)(GRACE_NS / NS_PER_SEC));
	machine_press_power(&vm->machine);
	timer_set(&vm->grace, GRACE_NS);
}

static void resize(struct vm *vm)
{
	deadline_set(DEADLINE_S, ends[VM_ERROR].status);
	machine_resize(&vm->machine);
	deadline_set(0, 0);
}

static void on_signal(struct event *event, uint32_t revents)
{
	struct vm *vm = container_of(event, struct vm, signals);
	struct signalfd_siginfo info;

	(void)revents;
	if (read(event->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH)
		resize(vm);
	else if (info.ssi_signo == SIGINT)
		end(vm, VM_INTERRUPTED, 0, NULL);
	else
		ask_to_end(vm);
}

static void on_timeout(struct timer *timer)
{
	end(container_of(timer, struct vm, timeout), VM_TIMEOUT, 0, NULL);
}

static void on_grace(struct timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, grace);

	log_warn("the guest did not power off in time");
	end(vm, VM_INTERRUPTED, 0, NULL);
}

/* ---- setting up ---- */

static int watch_signals(struct vm *vm)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	vm->signals = (struct event){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.fn = on_signal,
	};
	/* A reader that is gone and a limit on the size of files are errors of write(). */
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return vm->signals.fd < 0 ? -errno : loop_add(&vm->loop, &vm->signals, EPOLLIN);
}

/*
 * The first file that is opened: where it gets the number of a standard stream
 * that the caller closed, nothing has to be there instead, or this or a later
 * one would be taken for the guest's console or the log.
 */
static int open_wake(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	while (fd >= 0 && fd <= STDERR_FILENO) {
		close(fd);
		if (open("/dev/null", O_RDWR) < 0)
			return -1;
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	return fd;
}

static int init(struct vm *vm, const struct config *config)
{
	int err;

	*vm = (struct vm){
		.config = config,
		.machine = { .kvm_fd = -1, .vm_fd = -1 },
		.start_ns = util_now_ns(),
		.summary_fd = -1,
		.wake = { .fd = open_wake(), .fn = on_wake },
		.signals = { .fd = -1 },
	};
	pthread_mutex_init(&vm->lock, NULL);
	err = vm->wake.fd < 0 ? -errno : loop_init(&vm->loop);
	if (!err)
		err = loop_add(&vm->loop, &vm->wake, EPOLLIN | EPOLLET);
	if (!err)
		err = watch_signals(vm);
	if (!err)
		err = timer_init(&vm->grace, &vm->loop, on_grace);
	if (!err && config->timeout) {
		err = timer_init(&vm->timeout, &vm->loop, on_timeout);
		if (!err)
			err = timer_set(&vm->timeout, config->timeout * NS_PER_SEC);
	}
	if (err)
		log_error("no event loop can be made: %s", strerror(-err));
	return err;
}

/* Whether somebody else made it, such as /dev/null. */
static bool is_device(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode);
}

/* Remembers a file to be removed at the end; NULL is no file. -errno, reported. */
static int remember(struct vm *vm, const char *path)
{
	struct leftover leftover = { .dir = -1 };
	const char *slash = path ? strrchr(path, '/') : NULL;
	_cleanup_free_ char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

	if (!path || is_device(path))
		return 0;
	leftover.name = strdup(slash ? slash + 1 : path);
	if (dir && leftover.name && vm->leftover_count < LEFTOVERS_MAX)
		leftover.dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (leftover.dir < 0) {
		log_error("%s: its directory cannot be kept open", path);
		free(leftover.name);
		return -EINVAL;
	}
	vm->leftovers[vm->leftover_count++] = leftover;
	return 0;
}

static int write_pidfile(const char *path)
{
	_cleanup_close_ int fd = -1;
	int err = output_open("--pidfile", path, &fd);

	if (!err && dprintf(fd, "%d\n", getpid()) < 0) {
		err = -errno;
		log_error("--pidfile %s: it cannot be written: %s", path, strerror(-err));
	}
	return err;
}

static int remember_made(struct vm *vm, const struct config_device *device)
{
	int err = 0;

	for (const struct opt *opt = device->class->opts; !err && opt->key; opt++)
		if (opt->made)
			err = remember(vm, *(char *const *)((const char *)device->conf + opt->offset));
	return err;
}

static int remember_display(struct vm *vm)
{
	const struct display *display = &vm->machine.display;
	char path[USOCK_PATH_MAX];
	int err = 0;

	for (unsigned int i = 0; !err && display->path && i < display->heads; i++) {
		err = display_socket(display, i, path);
		if (!err)
			err = remember(vm, path);
	}
	return err;
}

/* What outlasts the process unless it is removed. -errno, reported. */
static int open_files(struct vm *vm)
{
	const struct config *config = vm->config;
	int err = 0;

	if (config->summary)
		err = output_open("--summary", config->summary, &vm->summary_fd);
	if (!err)
		err = output_open_pictures(config->screenshot, &vm->machine.display);
	if (!err && config->pidfile)
		err = write_pidfile(config->pidfile);
	if (!err)
		err = remember(vm, config->pidfile);
	if (!err && config->has_serial)
		err = remember(vm, config->serial.socket);
	if (!err)
		err = remember_display(vm);
	for (size_t i = 0; !err && i < config->device_count; i++)
		err = remember_made(vm, &config->devices[i]);
	return err;
}

static int confine(const struct vm *vm)
{
	struct landlock_dir dirs[LEFTOVERS_MAX];

	for (size_t i = 0; i < vm->leftover_count; i++)
		dirs[i] = (struct landlock_dir){ vm->leftovers[i].dir, LANDLOCK_REMOVE };
	return machine_confine(&vm->machine, dirs, vm->leftover_count);
}

/* Everything up to the first instruction of the guest. */
static int prepare(struct vm *vm)
{
	const struct machine_events events = {
		.opaque = vm,
		.fd = vm->wake.fd,
		.request = on_request,
		.stopped = on_stopped,
		.escape = on_escape,
	};
	int err;

	err = filter_report_violations(chardev_restore_terminal);
	if (err)
		log_error("no system call filters can be used: %s", strerror(-err));
	if (!err)
		err = machine_build(&vm->machine, vm->config, &events);
	if (!err)
		err = machine_reset(&vm->machine);
	if (!err)
		err = open_files(vm);
	if (!err)
		err = confine(vm);
	if (!err)
		err = machine_launch(&vm->machine);
	if (!err && !vm->config->no_sandbox) {
		err = filter_enter(&main_sandbox);
		if (err)
			log_error("the main thread cannot be confined: %s", strerror(-err));
	}
	return err;
}

/* ---- the end ---- */

static int finish(struct vm *vm)
{
	int status = exit_status(vm);

	machine_drain(&vm->machine);
	/* So that what we say does not run down the screen in steps. */
	chardev_restore_terminal();
	if (vm->end == VM_ERROR)
		log_error("%s", vm->text);
	else
		log_info("%s after %.3f seconds, exit status %d", ends[vm->end].name, seconds(vm),
			 status);
	output_write_pictures(vm->config->screenshot, &vm->machine.display);
	if (vm->summary_fd >= 0)
		summary_write(vm->summary_fd, &vm->machine,
			      &(struct summary){
				      .end = ends[vm->end].name,
				      .status = status,
				      .seconds = seconds(vm),
				      .restarts = vm->restarts,
			      });
	return status;
}

static void cleanup(struct vm *vm)
{
	machine_free(&vm->machine);
	for (size_t i = 0; i < vm->leftover_count; i++) {
		if (vm->leftovers[i].name)
			(void)unlinkat(vm->leftovers[i].dir, vm->leftovers[i].name, 0);
		close(vm->leftovers[i].dir);
		free(vm->leftovers[i].name);
	}
	timer_free(&vm->timeout);
	timer_free(&vm->grace);
	util_closep(&vm->signals.fd);
	util_closep(&vm->wake.fd);
	util_closep(&vm->summary_fd);
	loop_free(&vm->loop);
}

int vm_run(const struct config *config)
{
	_cleanup_(cleanup) struct vm vm;

	/* One arena: a thread of its own would cost memory for nothing, workers do not allocate. */
	mallopt(M_ARENA_MAX, 1);
	if (init(&vm, config) < 0 || prepare(&vm) < 0)
		return EXIT_FAILURE;
	vcpus_run(&vm.machine.vcpus);
	if (loop_run(&vm.loop) < 0)
		end(&vm, VM_ERROR, 0, "the event loop failed");
	vcpus_park(&vm.machine.vcpus);
	return finish(&vm);
}
