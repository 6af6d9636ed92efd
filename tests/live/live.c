// SPDX-License-Identifier: Apache-2.0
/*
 * microvm whose disks and balloon change while the guest runs, by orders that come in the
 * place of a control interface: the same machine, in the same jail, under the
 * same filters, but for the calls that orders take. Its first argument is the fd
 * of a SOCK_SEQPACKET socket, the others are microvm's. An order is a packet, and
 * so is the answer, a number or -errno:
 *
 *	resize-disk DEVICE BYTES   blk0 for one
 *	resize-unit NUMBER BYTES   of scsi0
 *	plug NUMBER FD OPTIONS     a unit of scsi0, with the options of --scsi
 *	unplug NUMBER
 *	monitor HEAD WIDTH HEIGHT  of gpu0; 0 0: none
 *	balloon BYTES              what the guest is to have given back
 *	ask                        the guest for statistics
 *	hint                       likewise for what is free
 *	counter DEVICE NAME
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include "core/log.h"
#include "devices/balloon.h"
#include "devices/block/block.h"
#include "devices/classes.h"
#include "devices/scsi.h"
#include "devices/virtio/transport.h"
#include "seccomp/worker.h"
#include "vmm/config.h"
#include "vmm/machine.h"
#include "vmm/vm.h"

static const struct sandbox live_sandbox = SANDBOX(MAIN_CALLS, SCSI_UNIT_CALLS);

struct live {
	struct config config;
	struct machine machine;
	struct loop loop;
	struct event orders, wake;
	_Atomic int status;
};

static void end(struct live *live, int status)
{
	atomic_store(&live->status, status);
	util_signal(live->wake.fd);
}

static void on_request(void *opaque, enum platform_request request, int code)
{
	struct live *live = opaque;

	(void)code;
	vcpus_request_park(&live->machine.vcpus);
	end(live, request == PLATFORM_POWER_OFF ? 0 : 1);
}

static void on_stopped(void *opaque, enum vcpu_stop why, int code, const char *text)
{
	(void)code, (void)text;
	end(opaque, why == VCPU_POWER_OFF ? 0 : 1);
}

static void on_escape(void *opaque, enum chardev_escape escape)
{
	(void)opaque, (void)escape;
}

static void on_wake(struct event *event, uint32_t revents)
{
	(void)revents;
	loop_stop(&container_of(event, struct live, wake)->loop);
}

static struct virtio_dev *find(const struct live *live, const char *name)
{
	for (size_t i = 0; i < live->machine.device_count; i++)
		if (!strcmp(live->machine.devices[i].dev->name, name))
			return live->machine.devices[i].dev;
	return NULL;
}

static int plug(struct virtio_dev *scsi, unsigned int unit, int fd, const char *text)
{
	void *conf = calloc(1, scsi->class->conf_size);
	struct opt_error error;
	int r = -EINVAL;

	/* The caller's fd stays, for another time. */
	if (!opt_parse(scsi->class->opts, text, conf, &error))
		r = scsi_unit_plug(scsi, unit, conf, fcntl(fd, F_DUPFD_CLOEXEC, 0));
	opt_free(scsi->class->opts, conf);
	free(conf);
	return r;
}

static int64_t count(const struct virtio_dev *dev, const char *name)
{
	const char *found;
	uint64_t sum;

	for (unsigned int n = 0; dev && (found = virtio_nth_counter(dev, n, &sum)); n++)
		if (!strcmp(found, name))
			return (int64_t)sum;
	return -ENODEV;
}

static int64_t obey(const struct live *live, const char *order)
{
	struct virtio_dev *scsi = find(live, "scsi0"), *balloon = find(live, "balloon0"), *dev;
	char name[16], text[256];
	unsigned int unit, width, height;
	uint64_t bytes;
	int fd;

	if (sscanf(order, "resize-disk %15s %" SCNu64, name, &bytes) == 2)
		return (dev = find(live, name)) ? virtio_dev_resize_disk(dev, bytes) : -ENODEV;
	if (sscanf(order, "counter %15s %255s", name, text) == 2)
		return count(find(live, name), text);
	if (balloon && sscanf(order, "balloon %" SCNu64, &bytes) == 1)
		return balloon_resize(balloon, bytes);
	if (balloon && !strcmp(order, "ask"))
		return balloon_ask(balloon);
	if (balloon && !strcmp(order, "hint"))
		return balloon_hint(balloon);
	if (sscanf(order, "monitor %u %u %u", &unit, &width, &height) == 3)
		return (dev = find(live, "gpu0")) ? virtio_dev_set_monitor(dev, unit, width, height) :
						    -ENODEV;
	if (!scsi)
		return -ENODEV;
	if (sscanf(order, "resize-unit %u %" SCNu64, &unit, &bytes) == 2)
		return scsi_unit_resize(scsi, unit, bytes);
	if (sscanf(order, "plug %u %d %255s", &unit, &fd, text) == 3)
		return plug(scsi, unit, fd, text);
	if (sscanf(order, "unplug %u", &unit) == 1)
		return scsi_unit_unplug(scsi, unit);
	return -EINVAL;
}

static void on_order(struct event *event, uint32_t revents)
{
	struct live *live = container_of(event, struct live, orders);
	char text[512] = "";
	ssize_t n = read(event->fd, text, sizeof(text) - 1);

	(void)revents;
	if (n <= 0) {
		loop_del(&live->loop, event);
		return;
	}
	n = snprintf(text, sizeof(text), "%" PRId64, obey(live, text));
	if (write(event->fd, text, (size_t)n) < 0)
		end(live, 1);
}

static int prepare(struct live *live)
{
	const struct machine_events events = { live, live->wake.fd, on_request, on_stopped,
					       on_escape };
	int r = filter_report_violations(NULL);

	if (!r)
		r = machine_build(&live->machine, &live->config, &events);
	if (!r)
		r = machine_reset(&live->machine);
	if (!r)
		r = machine_confine(&live->machine, NULL, 0);
	if (!r)
		r = machine_launch(&live->machine);
	return r || live->config.no_sandbox ? r : filter_enter(&live_sandbox);
}

int main(int argc, char **argv)
{
	struct live live = {
		.machine = { .kvm_fd = -1, .vm_fd = -1 },
		.orders = { .fd = argc > 1 ? atoi(argv[1]) : -1, .fn = on_order },
		.wake = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_wake },
	};
	struct opt_error error;

	if (config_parse(&live.config, virtio_classes, argc - 1, argv + 1, &error) < 0) {
		log_error("%s", error.text);
		return EXIT_FAILURE;
	}
	mallopt(M_ARENA_MAX, 1);
	if (loop_init(&live.loop) < 0 || loop_add(&live.loop, &live.orders, EPOLLIN) < 0 ||
	    loop_add(&live.loop, &live.wake, EPOLLIN) < 0 || prepare(&live) < 0)
		return EXIT_FAILURE;
	vcpus_run(&live.machine.vcpus);
	loop_run(&live.loop);
	vcpus_park(&live.machine.vcpus);
	machine_drain(&live.machine);
	machine_free(&live.machine);
	return atomic_load(&live.status);
}
