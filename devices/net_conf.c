// SPDX-License-Identifier: Apache-2.0
/* The options of virtio-net, the netdev that they ask for, and what to tell when there is none. */
#include <limits.h>
#include <stdio.h>
#include "devices/net.h"

/* The kernel puts the next number that is free there. */
#define NET_NEW_TAP "tap%d"

/* Whether a tap is not to be had by this user or on this host, where something else may do. */
static bool net_lacks_taps(int err)
{
	return err == -EPERM || err == -EACCES || err == -ENOENT || err == -ENODEV;
}

static int net_open_user(struct net *net, const struct net_conf *conf)
{
	if (net->dev.set_count > 1)
		return -EOPNOTSUPP;
	if (conf->socket)
		return netdev_passt_join(net->netdevs, conf->socket);
	return netdev_passt_start(net->netdevs, conf->forwards, (uint16_t)conf->mtu);
}

static int net_open_tap(struct net *net, const struct net_conf *conf, const char *name)
{
	int r = netdev_tap_open(net->netdevs, net->dev.set_count, name, (uint16_t)conf->mtu);

	if (!r && conf->bridge)
		r = netdev_tap_join(net->netdevs, conf->bridge);
	/* A pattern was asked for, and the kernel chose. */
	if (!r && strcmp(name, net->netdevs[0].name))
		net->dev.where = net->netdevs[0].name;
	return r;
}

/* Nothing was asked for: what this host can do. */
static int net_open_any(struct net *net, const struct net_conf *conf)
{
	int r = net_open_tap(net, conf, NET_NEW_TAP);

	if (!net_lacks_taps(r) || net->dev.set_count > 1 || conf->bridge)
		return r;
	r = net_open_user(net, conf);
	if (!r)
		net->dev.where = "the user-mode network, passt";
	return r;
}

static int net_open_loops(struct net *net)
{
	int r = 0;

	for (unsigned int i = 0; !r && i < net->dev.set_count; i++)
		r = netdev_loop_open(&net->netdevs[i]);
	return r;
}

static int net_open_netdevs(struct net *net, const struct net_conf *conf)
{
	if ((conf->forwards || conf->socket) && (!conf->user || (conf->forwards && conf->socket)))
		return -ENOPROTOOPT;
	if (conf->bridge && !conf->tap && (conf->fd || conf->user || conf->loop || conf->remote ||
					   conf->remote_server))
		return -ENOTUNIQ;
	if (conf->remote || conf->remote_server)
		return net_remote_open(net, conf->remote ? conf->remote : conf->remote_server,
				       conf->remote_server);
	if (conf->tap)
		return net_open_tap(net, conf, conf->tap);
	if (conf->fd)
		return net->dev.set_count > 1 ? -EOPNOTSUPP :
						   netdev_tap_adopt(net->netdevs, (int)conf->fd);
	if (conf->user)
		return net_open_user(net, conf);
	return conf->loop ? net_open_loops(net) : net_open_any(net, conf);
}

/*
 * FNV-1a of the device's and the VM's name: the same address in each run,
 * another in each VM. VMs without a name are told apart by their interfaces.
 */
static void net_make_mac(const struct net *net, uint8_t mac[ETH_ALEN])
{
	const char *vm = net->dev.host->vm_name;
	uint64_t hash = 0xcbf29ce484222325;
	char text[256];
	int len = snprintf(text, sizeof(text), "%s/%s", net->dev.name,
			   *vm ? vm : net->netdevs[0].name);

	for (int i = 0; i < len && i < (int)sizeof(text) - 1; i++)
		hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = (uint8_t)(hash >> 8 * i);
	/* Unicast, locally administered. */
	mac[0] = (uint8_t)((mac[0] & ~1) | 2);
}

int net_open(struct net *net)
{
	static const uint8_t none[ETH_ALEN];
	const struct net_conf *conf = net->dev.conf;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(net->netdevs); i++)
		net->netdevs[i].fd = -1;
	r = net_open_netdevs(net, conf);
	if (r < 0)
		return r;
	if (memcmp(conf->mac, none, sizeof(none)))
		memcpy(net->mac, conf->mac, sizeof(net->mac));
	else if (memcmp(net->netdevs[0].mac, none, sizeof(none)))
		memcpy(net->mac, net->netdevs[0].mac, sizeof(net->mac));
	else
		net_make_mac(net, net->mac);
	return 0;
}

/* The rows of one direction's limits, which are at that offset. */
#define NET_LIMIT_OPTS(way, rates, does) \
	{ .key = way "-bw", .type = OPT_SIZE, .max = 1ULL << 50, \
	  .offset = (rates) + offsetof(struct bucket_rates, bytes), .arg = "BYTES", \
	  .help = "bytes per second that the guest " does " at the most" }, \
	{ .key = way "-bw-burst", .type = OPT_SIZE, .max = 1ULL << 50, \
	  .offset = (rates) + offsetof(struct bucket_rates, bytes_burst), .arg = "BYTES", \
	  .help = "after a pause; a tenth of " way "-bw unless given" }, \
	{ .key = way "-pps", .type = OPT_UINT, .max = UINT32_MAX, \
	  .offset = (rates) + offsetof(struct bucket_rates, requests), .arg = "N", \
	  .help = "packets per second" }, \
	{ .key = way "-pps-burst", .type = OPT_UINT, .max = UINT32_MAX, \
	  .offset = (rates) + offsetof(struct bucket_rates, requests_burst), .arg = "N", \
	  .help = "after a pause; a tenth of " way "-pps unless given" }

static const char *const net_vhost_choices[] = {
	[NET_VHOST_AUTO] = "auto", [NET_VHOST_ON] = "on", [NET_VHOST_OFF] = "off", NULL,
};

const struct opt net_opts[] = {
	{ .key = "tap", .type = OPT_STRING, .bare = true, .one_of = true,
	  .offset = offsetof(struct net_conf, tap), .arg = "NAME",
	  .help = "a tap interface of the host" },
	{ .key = "fd", .type = OPT_UINT, .one_of = true, .offset = offsetof(struct net_conf, fd),
	  .min = 3, .max = INT_MAX, .arg = "N",
	  .help = "instead of tap: an open one, or a macvtap, that was inherited" },
	{ .key = "user", .type = OPT_BOOL, .one_of = true, .offset = offsetof(struct net_conf, user),
	  .help = "instead of tap: the host's own network, by passt; takes no privilege" },
	{ .key = "vhost-user", .type = OPT_STRING, .one_of = true,
	  .offset = offsetof(struct net_conf, remote), .arg = "PATH",
	  .help = "instead of tap: the socket of a program that moves the packets" },
	{ .key = "vhost-user-server", .type = OPT_STRING, .one_of = true, .made = true,
	  .offset = offsetof(struct net_conf, remote_server), .arg = "PATH",
	  .help = "the same, where the program comes to our socket, and may come again" },
	{ .key = "loop", .type = OPT_BOOL, .one_of = true, .offset = offsetof(struct net_conf, loop),
	  .help = "instead of tap: an isolated interface, which hears itself" },
	{ .key = "bridge", .type = OPT_STRING, .offset = offsetof(struct net_conf, bridge),
	  .arg = "NAME", .help = "tap: a bridge of the host that the tap joins" },
	{ .key = "hostfwd", .type = OPT_STRING, .list = true,
	  .offset = offsetof(struct net_conf, forwards), .arg = "tcp|udp:[ADDRESS]:PORT-:PORT",
	  .help = "user: a port of the host that leads to the guest's; may be repeated" },
	{ .key = "socket", .type = OPT_STRING, .offset = offsetof(struct net_conf, socket),
	  .arg = "PATH", .help = "user: of a passt that runs already" },
	{ .key = "mac", .type = OPT_MAC, .offset = offsetof(struct net_conf, mac), .arg = "MAC",
	  .help = "the guest's address; by default made from the VM's name" },
	{ .key = "mtu", .type = OPT_UINT, .offset = offsetof(struct net_conf, mtu), .min = 68,
	  .max = UINT16_MAX, .arg = "BYTES", .help = "the MTU of the tap and of the guest" },
	{ .key = "vhost", .type = OPT_CHOICE, .offset = offsetof(struct net_conf, vhost),
	  .choices = net_vhost_choices,
	  .help = "whether the host's kernel moves the packets of a tap; auto: if it can" },
	NET_LIMIT_OPTS("rx", offsetof(struct net_conf, rx_limit), "receives"),
	NET_LIMIT_OPTS("tx", offsetof(struct net_conf, tx_limit), "sends"),
	VIRTIO_OPT_QUEUES("pairs of queues, each with a thread and a queue of the tap"),
	VIRTIO_OPTS,
	{ 0 },
};

const struct hint net_hints[] = {
	{ EOPNOTSUPP, "fd=N and user have one pair of queues: leave out queues=, or give tap=NAME" },
	{ EINVAL, "not a tap, or not with as many queues: for queues=N it has to be made with "
		  "multi_queue (ip tuntap add NAME mode tap vnet_hdr multi_queue), else without" },
	{ EBUSY, "another process has this tap: stop it, or make another tap" },
	{ EPERM, "not permitted: as root, ip tuntap add NAME mode tap vnet_hdr user YOU, "
		 "and ip link set NAME up; or give user, which takes no privilege" },
	{ EACCES, "/dev/net/tun cannot be opened: give this user access to it" },
	{ ENOENT, "there is no /dev/net/tun: modprobe tun" },
	{ ENODEV, "there is no /dev/net/tun: modprobe tun" },
	{ EBADF, "fd is not open: let the caller pass it on" },
	{ EBADFD, "fd is not a tap with a virtio header: open it with IFF_TAP | IFF_NO_PI | "
		  "IFF_VNET_HDR" },
	{ ENAMETOOLONG, "the name of an interface has 15 characters at the most, the path of a socket "
			"107" },
	{ ENOPROTOOPT, "hostfwd= and socket= go with user, and not with each other" },
	{ ENOTUNIQ, "bridge= goes with a tap that is named, or with none of tap, fd, user and loop" },
	{ ENXIO, "bridge= is no bridge of this host: ip link add NAME type bridge" },
	{ EXDEV, "the tap is in another bridge already: ip link set NAME nomaster" },
	{ EBADMSG, "hostfwd= is tcp or udp, :, an address of the host or none, :, its port, -:, "
		   "and the guest's port, such as tcp::2222-:22" },
	{ EADDRINUSE, "hostfwd=: a port is in use on this host, choose another" },
	{ EADDRNOTAVAIL, "hostfwd=: this host has no such address, leave it out for all that it has" },
	{ E2BIG, "hostfwd= can be given 32 times at the most" },
	{ ENOLINK, "vhost=on, but /dev/vhost-net cannot be used: modprobe vhost_net and give this user "
		   "access to it, or leave out vhost=on" },
	{ EPROTONOSUPPORT, "this kernel's vhost-net does not know packed= or in-order=: leave them out, or "
			   "vhost=on" },
	{ ESOCKTNOSUPPORT, "vhost=on is for taps, and neither it nor vhost-user has limits: leave it out, "
			   "or the limits" },
	{ EMEDIUMTYPE, "vhost-user needs guest memory that its program can map: give --memory SIZE,shared" },
	{ EHOSTUNREACH, "no program listens at vhost-user=, start it first; or give vhost-user-server=, to "
			"which it connects" },
	{ EALREADY, "vhost-user-server=: another process listens there, or a file is in the way" },
	{ ETIMEDOUT, "no program came to vhost-user-server=, or it does not answer: start it at once, as a "
		     "client of that socket" },
	{ EPROTO, "the program at vhost-user= does not speak vhost-user" },
	{ EPFNOSUPPORT, "the program at vhost-user= does not know packed= or in-order=: leave them out" },
	{ ENOBUFS, "the program at vhost-user= has not so many queues: lower queues=, or raise its own" },
	{ ENOPKG, "passt is not installed: apt install passt, or give tap=NAME for a tap of this host" },
	{ ENETUNREACH, "passt gave up: it takes a default route of this host (ip route), and for "
		       "hostfwd= ports from 1024 on; passt --foreground tells more" },
	{ ECONNREFUSED, "no passt listens at socket=, start one there: passt --socket PATH" },
	{ 0 },
};
