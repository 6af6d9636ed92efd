// SPDX-License-Identifier: Apache-2.0
#include "vmm/check.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <inttypes.h>
#include <liburing.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "arch/arch.h"
#include "core/util.h"
#include "vmm/config.h"
#include "vmm/kvm_hints.h"

#define HUGEPAGES "/sys/kernel/mm/hugepages"
#define PROBE_RAM KIB(64)
/* Interpreters do some 2 million simple instructions per second, processors thousands of millions. */
#define NATIVE_PER_SECOND 20000000
#define PROBE_NS 200000000
#define PROBE_LOOPS_MIN (1U << 10)
#define PROBE_LOOPS_MAX (1U << 28)
#define PROBE_LOOP_INSTRUCTIONS 2

enum mark { MARK_OK, MARK_OPTIONAL, MARK_MISSING };

struct check {
	FILE *out;
	bool colour;
	bool runnable;
};

/* One line. What is missing keeps a guest from running. */
__attribute__((format(printf, 3, 4)))
static void tell(struct check *check, enum mark mark, const char *format, ...)
{
	static const char *const words[] = { [MARK_OK] = "ok", [MARK_OPTIONAL] = "optional",
					     [MARK_MISSING] = "missing" };
	static const char *const colours[] = { [MARK_OK] = "\033[32m", [MARK_OPTIONAL] = "\033[33m",
					       [MARK_MISSING] = "\033[31m" };
	va_list args;

	if (mark == MARK_MISSING)
		check->runnable = false;
	fprintf(check->out, "%s%-8s%s  ", check->colour ? colours[mark] : "", words[mark],
		check->colour ? "\033[0m" : "");
	va_start(args, format);
	vfprintf(check->out, format, args);
	va_end(args);
	fputc('\n', check->out);
}

/* Returns an fd, or -1 after having told why there is none. */
static int open_kvm(struct check *check)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), version;

	if (fd < 0) {
		tell(check, MARK_MISSING, "/dev/kvm cannot be opened: %s", hint_find(kvm_hints, errno));
		return -1;
	}
	tell(check, MARK_OK, "/dev/kvm can be opened");
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version == KVM_API_VERSION)
		tell(check, MARK_OK, "KVM's interface has version %d", version);
	else
		tell(check, MARK_MISSING, "KVM's interface has version %d, not %d: use a Linux that "
		     "is newer than 2.6.22", version, KVM_API_VERSION);
	return fd;
}

static void check_capability(struct check *check, int kvm_fd, const struct arch_capability *cap)
{
	if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, cap->number) > 0)
		tell(check, MARK_OK, "KVM_CAP_%s: %s", cap->name, cap->use);
	else
		tell(check, MARK_MISSING, "KVM_CAP_%s: %s; use a newer kernel on the host",
		     cap->name, cap->use);
}

static void check_capabilities(struct check *check, int kvm_fd)
{
	static const struct arch_capability caps[] = {
		{ KVM_CAP_USER_MEMORY, "USER_MEMORY", "memory of this process for a guest" },
		{ KVM_CAP_IRQCHIP, "IRQCHIP", "interrupt controllers in the kernel" },
		{ KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING", "interrupts of PCI devices" },
		{ KVM_CAP_IRQFD, "IRQFD", "interrupts by eventfd" },
		{ KVM_CAP_IOEVENTFD, "IOEVENTFD", "doorbells by eventfd" },
		{ KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH", "doorbells of any width" },
		{ KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", "stopping a processor in time" },
		{ KVM_CAP_MP_STATE, "MP_STATE", "starting more than one processor" },
	};
	int cpus = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		check_capability(check, kvm_fd, &caps[i]);
	for (const struct arch_capability *cap = arch_capabilities; cap->name; cap++)
		check_capability(check, kvm_fd, cap);
	if (cpus > 0)
		tell(check, MARK_OK, "a guest can have %" PRIu64 " processors",
		     util_min((uint64_t)cpus, CONFIG_CPUS_MAX));
}

/* A virtual machine with a little memory and one processor. */
struct probe {
	int vm_fd, vcpu_fd;
	uint8_t *ram;
	struct kvm_run *run;
	size_t run_size;
};

static void probe_free(struct probe *probe)
{
	if (probe->run)
		munmap(probe->run, probe->run_size);
	util_closep(&probe->vcpu_fd);
	util_closep(&probe->vm_fd);
	if (probe->ram)
		munmap(probe->ram, PROBE_RAM);
}

static void *map(size_t size, int flags, int fd)
{
	void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	return mapped == MAP_FAILED ? NULL : mapped;
}

static int probe_init(struct probe *probe, int kvm_fd)
{
	struct kvm_userspace_memory_region slot = { .memory_size = PROBE_RAM };
	int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < (int)sizeof(*probe->run))
		return -ENOTSUP;
	probe->run_size = (size_t)size;
	probe->vm_fd = arch_vm_create(kvm_fd);
	if (probe->vm_fd < 0)
		return probe->vm_fd;
	probe->ram = map(PROBE_RAM, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!probe->ram)
		return -errno;
	slot.userspace_addr = (uintptr_t)probe->ram;
	if (ioctl(probe->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return -errno;
	probe->vcpu_fd = ioctl(probe->vm_fd, KVM_CREATE_VCPU, 0);
	if (probe->vcpu_fd < 0)
		return -errno;
	probe->run = map(probe->run_size, MAP_SHARED, probe->vcpu_fd);
	return probe->run ? 0 : -errno;
}

/* How long the guest takes for a number of loops. -EIO when it does not come to its end. */
static int probe_time(struct probe *probe, uint32_t loops, uint64_t *ret_ns)
{
	const uint32_t expected = arch_layout.debug_exit.port ? KVM_EXIT_IO : KVM_EXIT_MMIO;
	uint64_t start;
	int err;

	assert(probe->run);
	err = arch_probe_guest(probe->vm_fd, probe->vcpu_fd, probe->ram, PROBE_RAM, loops);
	if (err)
		return err;
	start = util_now_ns();
	do
		err = ioctl(probe->vcpu_fd, KVM_RUN, 0);
	while (err < 0 && errno == EINTR);
	if (err < 0)
		return -errno;
	if (probe->run->exit_reason != expected)
		return -EIO;
	*ret_ns = util_max(util_now_ns() - start, 1);
	return 0;
}

/*
 * Rounds grow, because a short one measures the entry and the exit. A KVM that reaches the limit is
 * judged at once; the others get a fifth of a second, so that a busy host does not look like one.
 */
static int probe_speed(int kvm_fd, uint64_t *ret_per_second)
{
	_cleanup_(probe_free) struct probe probe = { .vm_fd = -1, .vcpu_fd = -1 };
	uint64_t ns = 1, spent = 0, best = 0;
	int err;

	err = probe_init(&probe, kvm_fd);
	if (err)
		return err;
	for (uint64_t loops = PROBE_LOOPS_MIN; loops <= PROBE_LOOPS_MAX && spent < PROBE_NS &&
	     best < NATIVE_PER_SECOND; loops *= 4) {
		err = probe_time(&probe, (uint32_t)loops, &ns);
		if (err)
			return err;
		best = util_max(best, loops * PROBE_LOOP_INSTRUCTIONS * 1000000000 / ns);
		spent += ns;
	}
	*ret_per_second = best;
	return 0;
}

static void check_speed(struct check *check, int kvm_fd)
{
	uint64_t per_second = 0, millions;
	int err;

	err = probe_speed(kvm_fd, &per_second);
	if (err) {
		tell(check, MARK_MISSING, "a tiny guest of kernel-mode code does not run (%s): use a "
		     "host whose processor has virtualization", strerror(-err));
		return;
	}
	millions = per_second / 1000000;
	if (per_second >= NATIVE_PER_SECOND)
		tell(check, MARK_OK, "this KVM runs kernel-mode code natively (over %" PRIu64
		     " million instructions per second)", millions);
	else
		tell(check, MARK_MISSING, "this KVM only emulates kernel-mode code (%" PRIu64
		     " million instructions per second), stock kernels will not boot here: use a "
		     "host whose processor has virtualization", millions);
}

static void check_tap(struct check *check)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		tell(check, MARK_OPTIONAL, "tap: /dev/net/tun cannot be opened (%s): modprobe tun, or "
		     "chmod 666 /dev/net/tun", strerror(errno));
	else if (ioctl(fd, TUNSETIFF, &ifr) < 0) /* it is gone when fd is closed */
		tell(check, MARK_OPTIONAL, "tap: you may not make one (%s): have root do it, ip tuntap "
		     "add dev tap0 mode tap user USER", strerror(errno));
	else
		tell(check, MARK_OK, "tap: you may make network interfaces");
}

static void check_passt(struct check *check)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *copy = strdup(path ? path : "");
	char *rest = copy, *dir, name[PATH_MAX];

	while (rest && (dir = strsep(&rest, ":"))) {
		snprintf(name, sizeof(name), "%s/passt", dir);
		if (!access(name, X_OK)) {
			tell(check, MARK_OK, "passt: guests can have the host's network (--net user)");
			return;
		}
	}
	tell(check, MARK_OPTIONAL, "passt: it is not installed; apt install passt, for --net user");
}

static void check_device(struct check *check, const char *path, const char *module,
			 const char *use)
{
	if (!access(path, R_OK | W_OK))
		tell(check, MARK_OK, "%s: %s", path, use);
	else if (errno == ENOENT)
		tell(check, MARK_OPTIONAL, "%s: %s; modprobe %s", path, use, module);
	else
		tell(check, MARK_OPTIONAL, "%s: %s; %s: chmod 666 %s", path, use, strerror(errno), path);
}

/* Of the size that a directory's name tells. */
static void check_hugepages_of(struct check *check, const char *name)
{
	uint64_t kib, free_pages;
	char path[sizeof(HUGEPAGES) + 2UL * NAME_MAX];
	FILE *file;

	snprintf(path, sizeof(path), HUGEPAGES "/%s/free_hugepages", name);
	file = fopen(path, "re");
	if (!file)
		return;
	if (sscanf(name, "hugepages-%" SCNu64, &kib) == 1 &&
	    fscanf(file, "%" SCNu64, &free_pages) == 1)
		tell(check, free_pages ? MARK_OK : MARK_OPTIONAL, "huge pages of %" PRIu64 "%c: %"
		     PRIu64 " are free%s%s%s", kib < 1024 ? kib : kib / 1024, kib < 1024 ? 'K' : 'M',
		     free_pages, free_pages ? "" : "; echo NUMBER > " HUGEPAGES "/",
		     free_pages ? "" : name, free_pages ? "" : "/nr_hugepages");
	fclose(file);
}

/* In a static program glob() has name services and locales behind it, 65 KiB of them. */
static void check_hugepages(struct check *check)
{
	struct dirent **found;
	int count = scandir(HUGEPAGES, &found, NULL, versionsort);

	if (count < 0) {
		tell(check, MARK_OPTIONAL, "huge pages: this kernel has none (CONFIG_HUGETLBFS)");
		return;
	}
	for (int i = 0; i < count; i++) {
		check_hugepages_of(check, found[i]->d_name);
		free(found[i]);
	}
	free(found);
}

static void check_confinement(struct check *check)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	if (!syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		tell(check, MARK_OK, "seccomp: system calls can be filtered");
	else
		tell(check, MARK_MISSING, "seccomp: system calls cannot be filtered (%s): use a kernel "
		     "with CONFIG_SECCOMP_FILTER", strerror(errno));
	if (abi > 0)
		tell(check, MARK_OK, "Landlock: version %ld", abi);
	else
		tell(check, MARK_OPTIONAL, "Landlock: %s; boot the host with lsm=landlock,...",
		     strerror(errno));
}

static void check_uring(struct check *check)
{
	struct io_uring ring;
	int err = io_uring_queue_init(2, &ring, 0);

	if (err < 0) {
		tell(check, MARK_OPTIONAL, "io_uring: %s; sysctl kernel.io_uring_disabled=0, or use "
		     "--disk PATH,engine=sync", strerror(-err));
		return;
	}
	io_uring_queue_exit(&ring);
	tell(check, MARK_OK, "io_uring: disks can use it");
}

static void check_namespaces(struct check *check)
{
	if (!unshare(CLONE_NEWUSER))
		tell(check, MARK_OK, "user namespaces: you may make them");
	else
		tell(check, MARK_OPTIONAL, "user namespaces: %s; sysctl user.max_user_namespaces=10000 "
		     "kernel.unprivileged_userns_clone=1", strerror(errno));
}

bool check_host(FILE *out)
{
	struct check check = { .out = out, .colour = isatty(fileno(out)), .runnable = true };
	_cleanup_close_ int kvm_fd = open_kvm(&check);

	if (kvm_fd >= 0) {
		check_capabilities(&check, kvm_fd);
		check_speed(&check, kvm_fd);
	}
	check_tap(&check);
	check_passt(&check);
	check_device(&check, "/dev/vhost-net", "vhost_net",
		     "networking in the host's kernel, which is faster");
	check_device(&check, "/dev/vhost-vsock", "vhost_vsock",
		     "AF_VSOCK sockets of the host, by --vsock vhost=on");
	check_hugepages(&check);
	check_uring(&check);
	check_confinement(&check);
	check_namespaces(&check);
	fprintf(out, "\n%s\n", check.runnable ? "A guest can run here."
					      : "No guest can run here until what is missing is there.");
	return check.runnable;
}
