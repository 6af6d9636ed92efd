/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that serves queues, by the vhost-user protocol over a UNIX socket;
 * this is the driver's side of it, the front end. All of it happens on one
 * thread, which has VHOST_USER_CALLS in its filter.
 *
 *	vhost_user_open() -> vhost_user_watch() -> the operations of struct vhost ... -> vhost_user_close()
 *
 * A program that ends, does not answer or breaks the protocol is gone, which is
 * nobody's fault: all operations but vhost_stop_ring() succeed in vain until
 * another one comes.
 */
#ifndef DEVICES_VHOST_USER_H
#define DEVICES_VHOST_USER_H

#include "core/loop.h"
#include "core/redial.h"
#include "devices/vhost/vhost.h"

struct vhost_user {
	struct vhost vhost;  /* its fd is the connection; -1: nobody is there */
	struct event event;  /* the end of the connection */
	struct event door;   /* where the next one comes: our socket, or the redial's */
	bool server;         /* it comes to us */
	struct loop *loop;   /* that watches both */
	uint64_t protocol;   /* features of the protocol that both know */
	unsigned int sets;   /* of rings that are wanted */
	/* Another one came: start all again; or the last one has gone. */
	void (*changed)(struct vhost_user *user, bool there);
};

#define VHOST_USER_CALLS SC(sendmsg), SC(accept4), SC(dup3), SC(shutdown), REDIAL_CALLS

/*
 * Meets the program that listens at path, as the one that will listen there when
 * this one has ended; or, where this one is the server, the one that comes there
 * within some seconds. It has to serve so many sets of
 * rings. -EMEDIUMTYPE: guest memory is not shared; -ETIMEDOUT: none came;
 * -ENOBUFS: it does not serve as many; -EPROTO: it breaks the protocol; -errno of usock.h.
 */
int vhost_user_open(struct vhost_user *user, const char *path, bool server, unsigned int sets,
		    const struct mem *mem);
/* Has the loop watch for its end and for the next one. changed() and the loop are the owner's. */
int vhost_user_watch(struct vhost_user *user, struct loop *loop,
		     void (*changed)(struct vhost_user *user, bool there));
/* A ring is served while it is enabled, which one that starts is not. */
void vhost_user_enable(struct vhost_user *user, unsigned int index, bool enable);
/* Accepts a zeroed one. */
void vhost_user_close(struct vhost_user *user);

#endif
