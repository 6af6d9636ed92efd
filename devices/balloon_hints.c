// SPDX-License-Identifier: Apache-2.0
/*
 * Rounds of hints (section 5.5.6.5): we ask, and the driver names what is free.
 * It may use such a page again at any time, before we see it named or after, and
 * only what was not written since we asked may be lost. So nothing is given back:
 * the host's kernel is told that it is cold, which changes nothing in it. Then we
 * need no hint any more, and the driver has its pages back as soon as it has named
 * all.
 */
#include "devices/balloon_device.h"

static void balloon_command(struct balloon *balloon, uint32_t command)
{
	balloon->command = command;
	balloon->hinting = false;
	virtio_config_update(&balloon->dev,
			     offsetof(struct virtio_balloon_config, free_page_hint_cmd_id), &command,
			     sizeof(command));
}

/* The driver says of which round the pages are that follow, or that there are no more. */
static const char *take_command(struct balloon *balloon, struct chain *chain)
{
	uint32_t command;

	if (chain_pull(chain, &command, sizeof(command)) < sizeof(command))
		return "a command of hints that is too short";
	if (command == VIRTIO_BALLOON_CMD_ID_STOP && balloon->hinting) {
		balloon_command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
		balloon_count(balloon, BALLOON_ROUNDS, 1);
	}
	balloon->hinting = command > VIRTIO_BALLOON_CMD_ID_DONE && command == balloon->command;
	return NULL;
}

const char *balloon_take_hint(struct balloon *balloon, struct chain *chain)
{
	const char *fault = chain->out.left ? take_command(balloon, chain) : NULL;

	if (balloon->hinting)
		balloon_take_buffers(balloon, BALLOON_HINTED, chain);
	return fault;
}

void balloon_hints_end(struct balloon *balloon)
{
	if (balloon->command > VIRTIO_BALLOON_CMD_ID_DONE)
		balloon_command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
}

static int balloon_begin(void *arg)
{
	struct balloon *balloon = arg;
	struct virtio_dev *dev = &balloon->dev;

	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK) || virtio_failed(dev) ||
	    !virtio_has(dev, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return -EAGAIN;
	/* Never the last one again. */
	if (++balloon->rounds <= VIRTIO_BALLOON_CMD_ID_DONE)
		balloon->rounds = VIRTIO_BALLOON_CMD_ID_DONE + 1;
	balloon_command(balloon, balloon->rounds);
	return 0;
}

int balloon_hint(struct virtio_dev *dev)
{
	return worker_call(&dev->workers[0], balloon_begin, balloon_of(dev));
}
