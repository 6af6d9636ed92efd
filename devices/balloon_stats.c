// SPDX-License-Identifier: Apache-2.0
/*
 * Statistics of the guest's memory (section 5.5.6.3). The driver's buffer has
 * them, and is kept until others are wanted: using it is the question.
 */
#include "devices/balloon_device.h"

/* Entries of a driver that knows more of them than we do. */
#define BALLOON_STATS_MAX 64

static void take_stats(struct balloon *balloon, struct chain *chain)
{
	struct virtio_balloon_stat stat;

	for (unsigned int i = 0; i < BALLOON_STATS_MAX; i++) {
		if (chain_pull(chain, &stat, sizeof(stat)) < sizeof(stat))
			break;
		if (stat.tag < VIRTIO_BALLOON_S_NR)
			balloon_show(balloon, BALLOON_TAGS + stat.tag, stat.val);
	}
	balloon_count(balloon, BALLOON_UPDATES, 1);
}

/* The buffer stays until it is wanted again; there is one at a time. */
void balloon_stats_kick(struct balloon *balloon, struct virtq *queue)
{
	const struct balloon_conf *conf = balloon->dev.conf;

	if (balloon->stats || !(balloon->stats = virtq_pop(queue)))
		return;
	take_stats(balloon, balloon->stats);
	if (conf->stats)
		timer_set(&balloon->timer, conf->stats * NS_PER_SEC);
}

/* The core puts the buffer back or forgets it. */
void balloon_stats_stop(struct balloon *balloon, const struct virtq *queue)
{
	if (balloon->stats && balloon->stats->queue == queue)
		balloon->stats = NULL;
}

static int balloon_request(void *arg)
{
	struct balloon *balloon = arg;
	struct chain *chain = balloon->stats;
	struct virtq *queue;

	if (!chain || virtio_failed(&balloon->dev))
		return -EAGAIN;
	balloon->stats = NULL;
	queue = chain->queue;
	virtq_done(queue, chain);
	virtio_kick(queue);
	return 0;
}

static void balloon_timer(struct timer *timer)
{
	(void)balloon_request(container_of(timer, struct balloon, timer));
}

int balloon_stats_init(struct balloon *balloon)
{
	return worker_timer(&balloon->dev.workers[0], &balloon->timer, balloon_timer);
}

int balloon_ask(struct virtio_dev *dev)
{
	return worker_call(&dev->workers[0], balloon_request, balloon_of(dev));
}
