// SPDX-License-Identifier: Apache-2.0
/* virtio-gpu (section 5.7): its monitors, as people and the driver see them, and its life. */
#include <endian.h>
#include <stdio.h>
#include "devices/gpu_device.h"

#define GPU_CONTROL_SIZE 256
#define GPU_CURSOR_SIZE 16
#define GPU_MEMORY MIB(256)
#define GPU_WIDTH 1024
#define GPU_HEIGHT 768

struct gpu_conf {
	struct virtio_conf virtio;
	struct display_conf display;
	char *size;
	uint64_t heads; /* 0: one */
	uint64_t memory; /* 0: GPU_MEMORY */
	bool three_d;
};

static const char *const gpu_counters[] = {
	[GPU_COUNT_REQUESTS] = "requests",
	[GPU_COUNT_ERRORS] = "errors",
	[GPU_COUNT_FLUSHES] = "flushes",
	[GPU_COUNT_SHOWN] = "shown_bytes",
	[GPU_COUNT_CURSORS] = "cursors",
	[GPU_COUNT_EVENTS] = "events",
	NULL,
};

/* ---- monitors ---- */

static struct virtio_gpu_config gpu_config(const struct gpu *gpu)
{
	return (struct virtio_gpu_config){
		.events_read = htole32(gpu->screen.events),
		.num_scanouts = htole32(gpu->screen.count),
		.num_capsets = htole32(gpu->virgl ? VIRGL_CAPSETS : 0),
	};
}

/* Whatever the driver wrote there: only events can be cleared. */
static void gpu_refresh_config(struct gpu *gpu)
{
	struct virtio_gpu_config config;

	pthread_mutex_lock(&gpu->dev.config_lock);
	memcpy(&config, gpu->dev.config, sizeof(config));
	gpu->screen.events &= ~le32toh(config.events_clear);
	config = gpu_config(gpu);
	memcpy(gpu->dev.config, &config, sizeof(config));
	pthread_mutex_unlock(&gpu->dev.config_lock);
}

static void gpu_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	(void)offset, (void)len;
	gpu_refresh_config(container_of(dev, struct gpu, dev));
}

static void gpu_tell_driver(struct gpu *gpu)
{
	const struct virtio_gpu_config config = gpu_config(gpu);

	virtio_config_update(&gpu->dev, 0, &config, sizeof(config));
}

static void gpu_changed(struct gpu_screen *screen)
{
	struct gpu *gpu = container_of(screen, struct gpu, screen);

	screen->events |= VIRTIO_GPU_EVENT_DISPLAY;
	virtq_count(&gpu->dev.queues[GPU_CONTROL], GPU_COUNT_EVENTS, 1);
	gpu_tell_driver(gpu);
}

static int gpu_set_monitor(struct virtio_dev *dev, unsigned int index, uint32_t width,
			   uint32_t height)
{
	struct gpu *gpu = container_of(dev, struct gpu, dev);
	const bool plugged = width || height;
	struct gpu_head *head;
	bool resized;

	if (index >= gpu->screen.count)
		return -ENODEV;
	head = &gpu->screen.heads[index];
	if (plugged && !gpu_monitor_valid(width, height))
		return -EINVAL;
	resized = plugged && gpu_screen_resize(head, width, height);
	if (!resized && plugged == head->now.plugged)
		return 0;
	head->now.plugged = plugged;
	gpu_changed(&gpu->screen);
	return 0;
}

/* ---- life ---- */

static int gpu_start(struct virtio_dev *dev)
{
	struct gpu *gpu = container_of(dev, struct gpu, dev);

	gpu->screen.frozen = false;
	gpu_screen_tell(&gpu->screen);
	/* Of what came while the device was paused, a save's driver has no interrupt. */
	if (gpu->screen.events)
		gpu_tell_driver(gpu);
	return 0;
}

/*
 * What was to be seen stays until there is a driver again: it may be all that a panic left, and
 * Linux resets its devices before it powers off, where a picture of the end would be dark.
 */
static void gpu_reset(struct virtio_dev *dev)
{
	struct gpu *gpu = container_of(dev, struct gpu, dev);

	gpu_screen_reset(&gpu->screen);
	virgl_enter(gpu->virgl);
	gpu_table_clear(&gpu->table);
	virgl_reset(gpu->virgl);
	virgl_leave(gpu->virgl);
	gpu->screen.frozen = true;
	gpu->screen.events = 0;
	gpu_refresh_config(gpu);
}

struct gpu_saving {
	struct gpu *gpu;
	struct state *state;
	struct state_reader *reader;
};

static int gpu_save_all(void *arg)
{
	const struct gpu_saving *saving = arg;

	return gpu_save(&saving->gpu->table, &saving->gpu->screen, saving->state);
}

/* The display's messages come to the worker while the device is paused, too. */
static int gpu_dev_save(struct virtio_dev *dev, struct state *state)
{
	struct gpu_saving saving = { .gpu = container_of(dev, struct gpu, dev), .state = state };

	/* What is in the library's contexts nobody can read out again. */
	if (saving.gpu->virgl)
		return -EOPNOTSUPP;
	return worker_call(&dev->workers[0], gpu_save_all, &saving);
}

static int gpu_load_all(void *arg)
{
	const struct gpu_saving *saving = arg;
	struct gpu *gpu = saving->gpu;
	int err = gpu_load(&gpu->table, &gpu->screen, saving->reader);

	gpu_refresh_config(gpu);
	gpu_screen_tell(&gpu->screen);
	return err;
}

static int gpu_dev_restore(struct virtio_dev *dev, struct state_reader *reader)
{
	struct gpu_saving saving = { .gpu = container_of(dev, struct gpu, dev), .reader = reader };

	return worker_call(&dev->workers[0], gpu_load_all, &saving);
}

/* "WIDTHxHEIGHT" */
static int gpu_parse_size(const char *text, uint32_t *ret_width, uint32_t *ret_height)
{
	unsigned int width, height;
	char end;

	if (sscanf(text, "%5ux%5u%c", &width, &height, &end) != 2 ||
	    !gpu_monitor_valid(width, height))
		return -EINVAL;
	*ret_width = width;
	*ret_height = height;
	return 0;
}

static int gpu_open_display(struct gpu *gpu, struct display *display)
{
	const struct gpu_conf *conf = gpu->dev.conf;
	struct gpu_screen *screen = &gpu->screen;
	int err = display_open(display, &conf->display, screen->count, &screen->memory);

	if (err || !screen->memory)
		return err;
	err = display_connect(display, DISPLAY_GPU, &screen->messages.fd);
	return err ?: worker_watch(&gpu->dev.workers[0], &screen->messages, EPOLLIN);
}

static int gpu_init(struct virtio_dev *dev)
{
	struct gpu *gpu = container_of(dev, struct gpu, dev);
	const struct gpu_conf *conf = dev->conf;
	struct gpu_screen *screen = &gpu->screen;
	uint32_t width = GPU_WIDTH, height = GPU_HEIGHT;
	int err;

	screen->table = &gpu->table;
	screen->count = (unsigned int)util_max(conf->heads, 1);
	screen->messages = (struct event){ .fd = -1, .fn = gpu_screen_hear };
	screen->loop = &dev->workers[0].loop;
	screen->changed = gpu_changed;
	err = conf->size ? gpu_parse_size(conf->size, &width, &height) : 0;
	if (err)
		return err;
	for (unsigned int i = 0; i < screen->count; i++)
		screen->heads[i].now =
			(struct gpu_scanout){ .plugged = true, .width = width, .height = height };
	err = gpu_table_init(&gpu->table, dev->mem, conf->memory ?: GPU_MEMORY);
	if (!err && conf->three_d)
		err = gpu_3d_init(gpu);
	if (!gpu->virgl)
		virtio_withhold(dev, VIRTIO_GPU_F_VIRGL);
	gpu_refresh_config(gpu);
	if (!err && dev->host->display)
		err = gpu_open_display(gpu, dev->host->display);
	return err;
}

static void gpu_free(struct virtio_dev *dev)
{
	struct gpu *gpu = container_of(dev, struct gpu, dev);

	virgl_enter(gpu->virgl);
	gpu_table_free(&gpu->table);
	virgl_leave(gpu->virgl);
	virgl_close(gpu->virgl);
	util_closep(&gpu->screen.messages.fd);
	display_unmap(gpu->screen.memory, gpu->screen.count);
}

static const struct hint gpu_hints[] = {
	DISPLAY_HINTS,
	{ EINVAL, "size= is two numbers from 64 to 4095, such as 1280x800" },
	{ ENOSYS, "this program was built without 3d: leave that out, or build it with make GPU3D=1" },
	{ ENODEV, "3d finds no OpenGL of Mesa's here: install libegl-mesa0 and libgl1-mesa-dri" },
	{ 0 },
};

static const struct opt gpu_opts[] = {
	{ .key = "heads", .type = OPT_UINT, .min = 1, .max = DISPLAY_HEADS_MAX,
	  .offset = offsetof(struct gpu_conf, heads), .arg = "N",
	  .help = "monitors; 1 unless given" },
	{ .key = "size", .type = OPT_STRING, .offset = offsetof(struct gpu_conf, size),
	  .arg = "WIDTHxHEIGHT", .help = "what each of them likes best; 1024x768 unless given" },
	{ .key = "display", .type = OPT_STRING, .offset = offsetof(struct gpu_conf, display.viewer),
	  .arg = "vnc:ADDRESS:PORT|vnc:PATH|headless", .help = "where people see them; nowhere unless given" },
	{ .key = "password-file", .type = OPT_STRING,
	  .offset = offsetof(struct gpu_conf, display.password_file), .arg = "FILE",
	  .help = "its first line is what a viewer has to know" },
	{ .key = "memory", .type = OPT_SIZE, .min = MIB(1), .max = GIB(16),
	  .offset = offsetof(struct gpu_conf, memory), .arg = "SIZE",
	  .help = "what the guest's pictures may take here at the most; 256M unless given" },
	{ .key = "3d", .type = OPT_BOOL, .offset = offsetof(struct gpu_conf, three_d),
	  .help = "OpenGL for the guest, if this program was built with GPU3D=1" },
	VIRTIO_OPTS,
	{ 0 },
};

/* Copies take no system call; the display's messages are in the base set. */
static const struct sandbox gpu_sandbox = { 0 };

const struct virtio_class gpu_class = {
	.name = "gpu",
	.option = "gpu",
	.summary = "a graphics adapter and its monitors",
	.sample = "heads=2",
	.id = VIRTIO_ID_GPU,
	/* Another display controller: one of VGA would take part in its arbitration. */
	.pci_class = 0x038000,
	.queue_sizes = (const uint16_t[]){ GPU_CONTROL_SIZE, GPU_CURSOR_SIZE },
	.queue_count = 2,
	.features = 1ULL << VIRTIO_GPU_F_VIRGL | 1ULL << VIRTIO_GPU_F_EDID |
		    1ULL << VIRTIO_GPU_F_RESOURCE_UUID | 1ULL << VIRTIO_GPU_F_RESOURCE_BLOB,
	.config_size = sizeof(struct virtio_gpu_config),
	.dev_size = sizeof(struct gpu),
	.opts = gpu_opts,
	.conf_size = sizeof(struct gpu_conf),
	.hints = gpu_hints,
	.counters = gpu_counters,
	.sandbox = &gpu_sandbox,
	.max = 1,
	.init = gpu_init,
	.start = gpu_start,
	.kick = gpu_kick,
	.config_write = gpu_config_write,
	.reset = gpu_reset,
	.save = gpu_dev_save,
	.restore = gpu_dev_restore,
	.set_monitor = gpu_set_monitor,
	.free = gpu_free,
};
