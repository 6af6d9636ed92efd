// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include "core/log.h"
#include "devices/virtio/transport.h"
#include "seccomp/jail.h"
#include "vmm/config.h"
#include "vmm/kvm_hints.h"
#include "vmm/shm.h"

#define LOADER_STACK KIB(128)
/* A few times what it costs to put a thread to sleep and to wake it. */
#define POLL_US 100

/* A peer may come to its socket. */
const struct sandbox serial_sandbox = SANDBOX(CHARDEV_CALLS);

static const struct hint memory_hints[] = {
	{ ENOMEM, "the host has not that much memory, or not enough free huge pages (see "
		  "/sys/kernel/mm/hugepages): use less, or set some aside" },
	{ ENOSPC, "the host has not that much memory, even with its swap: use less" },
	{ EINVAL, "the size is not a multiple of the page size" },
	{ EFAULT, "this host's processor cannot give a guest that many addresses: use less" },
	{ 0 },
};

static const struct hint cmdline_hints[] = {
	{ E2BIG, "with what microvm adds it is longer than 2047 characters, or than this kernel takes: "
		 "shorten it" },
	{ ENOSPC, "the memory map has too many entries" },
	{ 0 },
};

static const struct hint root_hints[] = {
	{ ENODEV, "there is no such device: it is disk, with --disk FILE, or fs, with --fs DIR,tag=NAME" },
	{ 0 },
};

static const struct hint vcpu_hints[] = {
	{ EINVAL, "this host gives fewer, microvm check says how many" },
	{ 0 },
};

static const struct hint pci_hints[] = {
	{ ENOSPC, "the PCI bus has 31 slots and all are taken: use fewer devices" },
	{ 0 },
};

static const struct hint mmio_hints[] = {
	{ ENOSPC, "no interrupt is left for it: use fewer devices, or --transport pci, which has more" },
	{ 0 },
};

/* Says what failed, and what to do about it; returns err. */
__attribute__((format(printf, 3, 4))) static int report(int err, const struct hint *hints,
							const char *format, ...)
{
	char what[512];
	va_list args;

	if (!err)
		return 0;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	log_error("%s: %s", what, hint_find(hints, err));
	return err;
}

/* ---- KVM and memory ---- */

static int open_kvm(struct machine *machine)
{
	machine->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	return report(machine->kvm_fd < 0 ? -errno : 0, kvm_hints, "/dev/kvm");
}

static int create_vm(struct machine *machine)
{
	int fd = arch_vm_create(machine->kvm_fd);

	if (fd < 0)
		return report(fd, kvm_hints, "/dev/kvm: no virtual machine can be made");
	machine->vm_fd = fd;
	return report(arch_irqchip_new(fd, (unsigned int)machine->config->cpus, &machine->irqchip),
		      kvm_hints, "/dev/kvm: no interrupt controller can be made");
}

/* Pages come when they are touched, so what the host can never back would only show much later. */
static int check_memory(uint64_t size)
{
	struct sysinfo host;

	if (sysinfo(&host) < 0)
		return -errno;
	return size / host.mem_unit > host.totalram + host.totalswap ? -ENOSPC : 0;
}

static int add_memory(struct machine *machine)
{
	const struct config_memory *memory = &machine->config->memory;
	struct mem_range ranges[2];
	size_t count = arch_ram_ranges(memory->size, ranges);
	int err = check_memory(memory->size);

	for (size_t i = 0; !err && i < count; i++)
		err = mem_add(&machine->mem, ranges[i].gpa, ranges[i].len, &memory->backing);
	return report(err, memory_hints, "--memory");
}

static int plug_memory(struct machine *machine)
{
	const struct mem *mem = &machine->mem;
	int err = 0;

	for (size_t i = 0; !err && i < mem->count; i++)
		err = shm_plug(machine, mem->regions[i].gpa, mem->regions[i].len,
			       mem->regions[i].hva);
	return report(err, memory_hints, "--memory");
}

/* Before the devices, since some interrupt controllers take nothing before they know all vCPUs. */
static int add_vcpus(struct machine *machine, const struct machine_events *events)
{
	int err;

	machine->vcpus = (struct vcpus){
		.mmio = &machine->mmio,
		.ports = &machine->ports,
		.stopped = events->stopped,
		.opaque = events->opaque,
		.mend_memory = shm_mend,
		.machine = machine,
		.confine = !machine->config->no_sandbox,
	};
	err = vcpus_init(&machine->vcpus, machine->kvm_fd, machine->vm_fd,
			 (unsigned int)machine->config->cpus);
	if (err)
		return report(err, vcpu_hints, "--cpus");
	return report(arch_irqchip_start(machine->irqchip), NULL, "the interrupt controller");
}

static int add_buses(struct machine *machine)
{
	bus_init(&machine->mmio, machine->vm_fd, false);
	bus_init(&machine->ports, machine->vm_fd, true);
	return report(irq_router_init(&machine->irqs, machine->vm_fd, arch_layout.irq_chip,
				      arch_layout.irq_pins, arch_irqchip_msi_pins(machine->irqchip)),
		      NULL, "interrupt routes");
}

/* ---- platform devices ---- */

static int add_platform(struct machine *machine, const struct arch_place *place, uint64_t len,
			const struct bus_ops *ops, void *opaque)
{
	return bus_add(place->port ? &machine->ports : &machine->mmio, place->base, len, ops,
		       opaque);
}

static int add_serial(struct machine *machine, const struct machine_events *events)
{
	const struct config *config = machine->config;
	int fds[UART_FDS_MAX], err;

	err = chardev_open(&machine->serial, &config->serial);
	if (err)
		return report(err, chardev_hints, "--serial");
	err = worker_init(&machine->serial_worker, "serial", &serial_sandbox, !config->no_sandbox);
	if (!err)
		err = irq_line_pin(&machine->irqs, &machine->serial_line, arch_layout.uart.pin);
	if (!err)
		err = uart_new(&machine->serial, &machine->serial_line,
			       &machine->serial_worker.loop, events->escape, events->opaque,
			       &machine->uart);
	if (!err)
		err = worker_keep_fd(&machine->serial_worker, events->fd);
	if (!err)
		err = worker_keep_fds(&machine->serial_worker, fds, uart_fds(machine->uart, fds));
	if (err)
		return report(err, NULL, "--serial");
	if (*machine->serial.path)
		log_warn("--serial: it is at %s", machine->serial.path);
	return add_platform(machine, &arch_layout.uart, UART_LEN, &uart_ops, machine->uart);
}

/* With ACPI the button is an interrupt, without it is an input of the gpio. */
static int add_power(struct machine *machine)
{
	const struct arch_place *power = &arch_layout.power, *gpio = &arch_layout.gpio;
	int err = irq_line_pin(&machine->irqs, &machine->power_button,
			       power->base ? power->pin : gpio->pin);

	if (!err && power->base)
		err = add_platform(machine, power, POWER_LEN, &power_ops, &machine->platform_host);
	if (err || !gpio->base)
		return err;
	err = pl061_new(&machine->power_button, &machine->gpio);
	return err ? err : add_platform(machine, gpio, PL061_LEN, &pl061_ops, machine->gpio);
}

static int add_clock(struct machine *machine)
{
	const struct arch_place *clock = &arch_layout.clock;
	int err;

	if (!clock->base)
		return 0;
	err = pl031_new(&machine->clock);
	return err ? err : add_platform(machine, clock, PL031_LEN, &pl031_ops, machine->clock);
}

static int add_platforms(struct machine *machine, const struct machine_events *events)
{
	int err;

	machine->platform_host = (struct platform_host){ events->opaque, events->request };
	err = add_power(machine);
	if (!err)
		err = add_clock(machine);
	if (!err)
		err = add_platform(machine, &arch_layout.panic, PVPANIC_LEN, &pvpanic_ops,
				   &machine->platform_host);
	if (!err && machine->config->debug_exit)
		err = add_platform(machine, &arch_layout.debug_exit, DEBUG_EXIT_LEN,
				   &debug_exit_ops, &machine->platform_host);
	if (err)
		return report(err, NULL, "the platform's devices");
	return machine->config->has_serial ? add_serial(machine, events) : 0;
}

/* ---- virtio devices ---- */

static int attach(struct machine *machine, struct machine_device *device, uint32_t index)
{
	if (machine->config->transport == CONFIG_PCI)
		return virtio_pci_new(device->dev, &machine->pci, &machine->irqs, &device->pci);
	if (index >= arch_layout.mmio_pin_count)
		return -ENOSPC;
	return virtio_mmio_new(device->dev, &machine->mmio, &machine->irqs,
			       arch_layout.mmio_base + (uint64_t)index * arch_layout.mmio_stride,
			       arch_layout.mmio_first_pin + index, &device->mmio);
}

/* Of a device that several options make: the one that is at fault. */
static const char *blamed_text(const struct machine *machine, const struct config_device *wanted)
{
	const struct config *config = machine->config;

	for (size_t i = 0; machine->blamed && i < config->device_count; i++)
		if (config->devices[i].conf == machine->blamed)
			return config->devices[i].text;
	return wanted->text;
}

static int add_device(struct machine *machine, const struct config_device *wanted,
		      unsigned int index, const struct machine_events *events)
{
	struct machine_device *device = &machine->devices[machine->device_count];
	int err;

	err = virtio_dev_new(wanted->class, index, wanted->conf, &machine->virtio_host,
			     &device->dev);
	if (err)
		return report(err, wanted->class->hints, "%s", blamed_text(machine, wanted));
	if (device->dev->where)
		log_warn("%s: it is at %s", device->dev->name, device->dev->where);
	if (device->dev->served_by)
		log_info("%s: it is served by %s", device->dev->name, device->dev->served_by);
	machine->device_count++;
	err = report(shm_place(machine, &device->dev->shm), memory_hints, "%s", wanted->text);
	if (err)
		return err;
	err = attach(machine, device, (uint32_t)machine->device_count - 1);
	if (!err)
		err = virtio_dev_keep_fd(device->dev, events->fd);
	return report(err, machine->pci.memory.bus ? pci_hints : mmio_hints, "%s", wanted->text);
}

/* Whether a worker that polls takes a core from no vCPU. */
static bool spare_cores(const struct config *config)
{
	cpu_set_t cores;

	return sched_getaffinity(0, sizeof(cores), &cores) == 0 &&
	       (uint64_t)CPU_COUNT(&cores) > config->cpus;
}

static int add_devices(struct machine *machine, const struct machine_events *events)
{
	const struct config *config = machine->config;
	unsigned int index = 0;
	int err = 0;

	machine->virtio_host = (struct virtio_host){
		.mem = &machine->mem,
		.vm_name = config->name ? config->name : "",
		.confine = !config->no_sandbox,
		.poll_us = spare_cores(config) ? POLL_US : 0,
		.display = &machine->display,
		.blamed = &machine->blamed,
		.opaque = events->opaque,
		.escape = events->escape,
	};
	machine->devices = calloc(config->device_count, sizeof(*machine->devices));
	if (config->device_count && !machine->devices)
		return report(-ENOMEM, NULL, "devices");
	if (config->transport == CONFIG_PCI)
		err = report(pci_root_init(&machine->pci, &machine->mmio, arch_layout.pci_ecam,
					   arch_layout.pci_window),
			     NULL, "the PCI bus");
	machine->pci.ports = (struct pci_space){ &machine->ports, arch_layout.pci_ports };
	for (size_t i = 0; !err && i < config->device_count; i++) {
		const struct config_device *wanted = &config->devices[i];

		if (i && config_is_unit(wanted))
			continue;
		/* The devices of a class stand together: each class counts from 0. */
		index = i && wanted->class == wanted[-1].class ? index + 1 : 0;
		err = add_device(machine, wanted, index, events);
	}
	return err;
}

/* What it will show devices have opened by now. */
static int start_display(struct machine *machine)
{
	const char *name = machine->config->name ?: "microvm";

	return report(display_start(&machine->display, name), display_hints, "microvm-display");
}

/* ---- the kernel ---- */

/* What has the guest's root file system; NULL: nothing. */
static const struct virtio_dev *root_device(const struct machine *machine)
{
	const char *root = machine->config->root ?: "disk";

	for (size_t i = 0; i < machine->device_count; i++) {
		const struct virtio_dev *dev = machine->devices[i].dev;

		if (dev->class->root_words && !strcmp(dev->class->option, root))
			return dev;
	}
	return NULL;
}

static int add_root(struct boot_cmdline *line, const struct virtio_dev *dev)
{
	const uint8_t *conf = dev->conf;

	return boot_cmdline_add(line, dev->class->root_words,
				*(char *const *)(conf + dev->class->root_name));
}

/*
 * The platform's words, then those of the devices (the last console= becomes
 * /dev/console), then the user's, which therefore win.
 */
static int compose_cmdline(struct machine *machine)
{
	const struct config *config = machine->config;
	_cleanup_free_ struct boot_cmdline *line = NULL;
	const struct virtio_dev *root = root_device(machine);
	const struct virtio_class *before = NULL;
	int err;

	if (config->root && !root)
		return report(-ENODEV, root_hints, "--root %s", config->root);
	line = calloc(1, sizeof(*line));
	if (!line)
		return report(-ENOMEM, NULL, "--cmdline");
	err = boot_cmdline_add(line, "%s", arch_layout.cmdline);
	if (!err)
		err = boot_cmdline_add(line, "%s", config->has_serial ? arch_layout.serial_words
								      : arch_layout.no_serial_words);
	for (size_t i = 0; !err && i < machine->device_count; i++) {
		const struct virtio_class *class = machine->devices[i].dev->class;

		if (class != before && class->kernel_words)
			err = boot_cmdline_add(line, "%s", class->kernel_words);
		before = class;
	}
	if (!err && root)
		err = add_root(line, root);
	if (!err && config->cmdline)
		err = boot_cmdline_add(line, "%s", config->cmdline);
	if (err)
		return report(err, cmdline_hints, "--cmdline");
	machine->cmdline = strdup(line->text);
	return report(machine->cmdline ? 0 : -ENOMEM, NULL, "--cmdline");
}

static int open_images(struct machine *machine)
{
	const struct config *config = machine->config;
	int err = boot_file_open(&machine->kernel, config->kernel);

	if (err || !config->initrd)
		return report(err, arch_kernel_hints, "--kernel %s", config->kernel);
	err = boot_file_open(&machine->initrd, config->initrd);
	return report(err, boot_initrd_hints, "--initrd %s", config->initrd);
}

static void read_images(struct machine *machine)
{
	struct machine_loader *loader = &machine->loader;

	loader->kernel_err = arch_load_kernel(&machine->kernel, &machine->mem, &loader->kernel);
	if (!loader->kernel_err && machine->initrd.size)
		loader->initrd_err = boot_load_initrd(&machine->initrd, &machine->mem,
						      &loader->kernel, &loader->initrd_gpa);
}

static void *loader_main(void *machine)
{
	read_images(machine);
	return NULL;
}

/*
 * The images are read while KVM makes the VM, most of which is waiting for
 * grace periods. Without a thread they are read when they are needed.
 */
static void start_loader(struct machine *machine)
{
	struct machine_loader *loader = &machine->loader;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, LOADER_STACK);
	loader->running = !pthread_create(&loader->thread, &attr, loader_main, machine);
	pthread_attr_destroy(&attr);
}

static void join_loader(struct machine_loader *loader)
{
	if (loader->running)
		pthread_join(loader->thread, NULL);
	loader->running = false;
}

static int load_images(struct machine *machine)
{
	struct machine_loader *loader = &machine->loader;

	if (loader->running)
		join_loader(loader);
	else
		read_images(machine);
	if (loader->kernel_err)
		return report(loader->kernel_err, arch_kernel_hints, "--kernel %s",
			      machine->config->kernel);
	return report(loader->initrd_err, boot_initrd_hints, "--initrd %s",
		      machine->config->initrd);
}

static int load(struct machine *machine, struct arch_entry *ret_entry)
{
	const struct config *config = machine->config;
	const struct arch_devices devices = {
		.irqchip = machine->irqchip,
		.cpus = (unsigned int)config->cpus,
		.uart = config->has_serial,
		.panic = true,
		.debug_exit = config->debug_exit,
		.pci = config->transport == CONFIG_PCI,
		.pci_high = machine->high,
		.mmio_count = config->transport == CONFIG_PCI ? 0 :
								(unsigned int)machine->device_count,
	};
	struct boot_info info = { .cmdline = machine->cmdline, .initrd_len = machine->initrd.size };
	int err = load_images(machine);

	if (!err)
		err = report(shm_add_windows(machine), NULL, "shared memory of devices");
	if (err)
		return err;
	info.initrd_gpa = machine->loader.initrd_gpa;
	err = arch_describe(&devices, &machine->mem, &machine->loader.kernel, &info, ret_entry);
	return report(err, cmdline_hints, "--cmdline");
}

/* ---- life ---- */

int machine_build(struct machine *machine, const struct config *config,
		  const struct machine_events *events)
{
	int err;

	*machine = (struct machine){ .config = config, .kvm_fd = -1, .vm_fd = -1 };
	display_init(&machine->display);
	machine->display.shots = config->screenshot;
	err = open_images(machine);
	if (!err)
		err = open_kvm(machine);
	if (!err)
		err = add_memory(machine);
	if (err)
		return err;
	start_loader(machine);
	err = create_vm(machine);
	if (!err)
		err = plug_memory(machine);
	if (err)
		return err;
	err = add_vcpus(machine, events);
	if (!err)
		err = add_buses(machine);
	if (!err)
		err = add_platforms(machine, events);
	if (!err)
		err = add_devices(machine, events);
	if (!err)
		err = start_display(machine);
	return err ? err : compose_cmdline(machine);
}

/* The n-th of all workers; NULL behind the last. */
static struct worker *nth_worker(struct machine *machine, size_t n)
{
	if (machine->uart && n-- == 0)
		return &machine->serial_worker;
	for (size_t i = 0; i < machine->device_count; i++) {
		struct virtio_dev *dev = machine->devices[i].dev;

		if (n < dev->worker_count)
			return &dev->workers[n];
		n -= dev->worker_count;
	}
	return NULL;
}

uint64_t machine_capabilities(const struct machine *machine)
{
	uint64_t all = 0;

	for (size_t i = 0; i < machine->device_count; i++)
		all |= machine->devices[i].dev->class->capabilities;
	return all;
}

/* Those that keep capabilities, or the others. */
static int launch(struct machine *machine, bool capable, int landlock_fd)
{
	struct worker *worker;
	int err = 0;

	for (size_t n = 0; !err && (worker = nth_worker(machine, n)); n++) {
		if (!!worker->capabilities != capable)
			continue;
		worker->landlock_fd = landlock_fd;
		err = report(worker_launch(worker), NULL, "%s", worker->name);
	}
	return err;
}

int machine_launch(struct machine *machine)
{
	const bool confine = !machine->config->no_sandbox;
	_cleanup_close_ int landlock_fd = -1;
	struct worker *worker;
	int abi, err = 0;

	if (confine)
		err = report(landlock_rules(NULL, 0, &abi, &landlock_fd), NULL, "Landlock");
	/* A thread has those of the one that starts it. */
	if (!err)
		err = launch(machine, true, landlock_fd);
	if (!err && confine && machine_capabilities(machine))
		err = report(jail_drop_capabilities(), NULL, "capabilities");
	if (!err)
		err = launch(machine, false, landlock_fd);
	/* They confine themselves side by side. */
	for (size_t n = 0; !err && (worker = nth_worker(machine, n)); n++)
		err = report(worker_ready(worker), NULL, "%s", worker->name);
	if (!err)
		err = report(vcpus_start(&machine->vcpus), NULL, "vCPU threads");
	return err;
}

static void reset_device(const struct machine_device *device)
{
	virtio_set_status(device->dev, 0);
	virtio_reset_wait(device->dev, -1);
	if (device->pci)
		virtio_pci_reset(device->pci);
}

/* What the last guest left. */
static int undo(struct machine *machine)
{
	int err = 0;

	for (size_t i = 0; i < machine->device_count; i++)
		reset_device(&machine->devices[i]);
	if (machine->uart)
		uart_reset(machine->uart);
	if (machine->gpio)
		pl061_reset(machine->gpio);
	if (machine->clock)
		pl031_reset(machine->clock);
	for (unsigned int i = 0; !err && i < machine->vcpus.count; i++)
		err = arch_vcpu_reset(machine->vm_fd, machine->vcpus.vcpu[i].fd, i);
	if (!err)
		err = arch_irqchip_reset(machine->irqchip);
	return report(err, NULL, "vCPUs and interrupt controllers cannot be reset");
}

int machine_reset(struct machine *machine)
{
	struct arch_entry entry;
	int err = 0;

	/* The first time they are as they were made. */
	if (machine->ran)
		err = undo(machine);
	machine->ran = true;
	if (!err)
		err = load(machine, &entry);
	for (unsigned int i = 0; !err && i < machine->vcpus.count; i++)
		err = report(arch_vcpu_boot(machine->vcpus.vcpu[i].fd, i, &machine->mem, &entry),
			     NULL, "the state of a vCPU");
	return err;
}

void machine_press_power(struct machine *machine)
{
	if (machine->gpio)
		pl061_press(machine->gpio);
	else
		irq_raise(&machine->power_button);
}

void machine_resize(struct machine *machine)
{
	for (size_t i = 0; i < machine->device_count; i++)
		virtio_dev_resize(machine->devices[i].dev);
}

static int drain_serial(void *arg)
{
	uart_drain(arg);
	return 0;
}

void machine_drain(struct machine *machine)
{
	for (size_t i = 0; i < machine->device_count; i++)
		virtio_dev_drain(machine->devices[i].dev);
	if (machine->uart)
		(void)worker_call(&machine->serial_worker, drain_serial, machine->uart);
}

void machine_free(struct machine *machine)
{
	join_loader(&machine->loader);
	vcpus_free(&machine->vcpus);
	/* Each may have buffers in another one's shared memory. */
	for (size_t i = 0; i < machine->device_count; i++) {
		virtio_set_status(machine->devices[i].dev, 0);
		virtio_reset_wait(machine->devices[i].dev, -1);
	}
	for (size_t i = 0; i < machine->device_count; i++) {
		struct machine_device *device = &machine->devices[i];

		virtio_dev_free(device->dev);
		virtio_pci_free(device->pci);
		virtio_mmio_free(device->mmio);
	}
	free(machine->devices);
	/* Zeroed, its files would be the standard input. */
	if (machine->config)
		display_close(&machine->display);
	worker_stop(&machine->serial_worker);
	uart_free(machine->uart);
	worker_free(&machine->serial_worker);
	chardev_close(&machine->serial);
	irq_line_free(&machine->serial_line);
	pl061_free(machine->gpio);
	pl031_free(machine->clock);
	irq_line_free(&machine->power_button);
	irq_router_free(&machine->irqs);
	bus_free(&machine->ports);
	bus_free(&machine->mmio);
	mem_free(&machine->mem);
	boot_file_close(&machine->initrd);
	boot_file_close(&machine->kernel);
	free(machine->cmdline);
	arch_irqchip_free(machine->irqchip);
	util_closep(&machine->vm_fd);
	util_closep(&machine->kvm_fd);
}
