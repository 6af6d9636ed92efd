// SPDX-License-Identifier: Apache-2.0
/*
 * The control queue of virtio-net (section 5.1.6.5): receive modes, addresses,
 * VLANs, pairs in use, offloads, announcements. RSS and hash reports are not
 * offered (docs/architecture.md says why).
 */
#include <assert.h>
#include <endian.h>
#include "devices/net.h"

static_assert(sizeof(struct netdev_filter) ==
		      2 + ETH_ALEN * (1 + NETDEV_MACS_MAX) + NETDEV_VLANS / 8, "no holes");
static_assert(sizeof(struct net_state) == 16 + sizeof(struct netdev_filter), "no holes");

static bool net_is_address(const uint8_t mac[ETH_ALEN])
{
	static const uint8_t none[ETH_ALEN];

	return !(mac[0] & 1) && memcmp(mac, none, sizeof(none));
}

static void net_set_mac(struct net *net, const uint8_t mac[ETH_ALEN])
{
	if (!memcmp(net->state.filter.mac, mac, ETH_ALEN))
		return;
	memcpy(net->state.filter.mac, mac, ETH_ALEN);
	virtio_config_update(&net->dev, offsetof(struct virtio_net_config, mac), mac, ETH_ALEN);
}

/* What follows the command: this many bytes. */
static int control_pull(struct chain *chain, void *buffer, size_t len)
{
	return chain->out.left == len && chain_pull(chain, buffer, len) == len ? 0 : -EINVAL;
}

static int control_mode(struct net *net, uint8_t command, struct chain *chain)
{
	uint8_t on, mode = (uint8_t)(1u << command);

	if (control_pull(chain, &on, sizeof(on)) < 0 || on > 1)
		return -EINVAL;
	net->state.filter.modes = (uint8_t)((net->state.filter.modes & ~mode) | (on ? mode : 0));
	netdev_set_filter(net->netdevs, &net->state.filter);
	return 0;
}

/* One of the two lists, behind what is in the table already. */
static int control_macs(struct netdev_filter *filter, struct chain *chain)
{
	uint32_t count;

	if (chain_pull(chain, &count, sizeof(count)) != sizeof(count))
		return -EINVAL;
	count = le32toh(count);
	if (count > chain->out.left / ETH_ALEN)
		return -EINVAL;
	if (count > NETDEV_MACS_MAX - (uint32_t)filter->mac_count) {
		filter->modes |= NETDEV_MACS_ALL;
		cursor_advance(&chain->out, (size_t)count * ETH_ALEN);
		return 0;
	}
	chain_pull(chain, filter->macs[filter->mac_count], (size_t)count * ETH_ALEN);
	filter->mac_count = (uint8_t)(filter->mac_count + count);
	return 0;
}

static int control_mac_table(struct net *net, uint8_t command, struct chain *chain)
{
	struct netdev_filter filter = net->state.filter;
	int r;

	(void)command;
	filter.mac_count = 0;
	filter.modes &= (uint8_t)~NETDEV_MACS_ALL;
	/* Unicast, then multicast. */
	r = control_macs(&filter, chain);
	if (!r)
		r = control_macs(&filter, chain);
	if (r < 0 || chain->out.left)
		return -EINVAL;
	net->state.filter = filter;
	netdev_set_filter(net->netdevs, &net->state.filter);
	return 0;
}

static int control_mac_address(struct net *net, uint8_t command, struct chain *chain)
{
	uint8_t mac[ETH_ALEN];

	(void)command;
	if (control_pull(chain, mac, sizeof(mac)) < 0 || !net_is_address(mac))
		return -EINVAL;
	net_set_mac(net, mac);
	netdev_set_filter(net->netdevs, &net->state.filter);
	return 0;
}

static int control_vlan(struct net *net, uint8_t command, struct chain *chain)
{
	uint8_t *byte, bit;
	uint16_t vid;

	if (control_pull(chain, &vid, sizeof(vid)) < 0)
		return -EINVAL;
	vid = le16toh(vid);
	if (vid >= NETDEV_VLANS)
		return -EINVAL;
	byte = &net->state.filter.vlans[vid / 8];
	bit = (uint8_t)(1u << vid % 8);
	*byte = (uint8_t)((*byte & ~bit) | (command == VIRTIO_NET_CTRL_VLAN_ADD ? bit : 0));
	netdev_set_filter(net->netdevs, &net->state.filter);
	return 0;
}

static int control_announced(struct net *net, uint8_t command, struct chain *chain)
{
	(void)command;
	if (chain->out.left)
		return -EINVAL;
	net_set_status(net, 0, VIRTIO_NET_S_ANNOUNCE);
	return 0;
}

static int control_pairs(struct net *net, uint8_t command, struct chain *chain)
{
	uint16_t pairs;
	int r;

	(void)command;
	if (control_pull(chain, &pairs, sizeof(pairs)) < 0)
		return -EINVAL;
	pairs = le16toh(pairs);
	if (pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || pairs > net_pairs(net))
		return -EINVAL;
	r = netdev_set_pairs(net->netdevs, net->dev.set_count, pairs);
	if (!r)
		net->state.pairs = pairs;
	if (net_has_remote(net))
		net_remote_use_pairs(net);
	netdev_set_filter(net->netdevs, &net->state.filter);
	return r;
}

static int control_offloads(struct net *net, uint8_t command, struct chain *chain)
{
	uint64_t offloads;
	int r;

	(void)command;
	if (control_pull(chain, &offloads, sizeof(offloads)) < 0)
		return -EINVAL;
	offloads = le64toh(offloads);
	if (offloads & ~(net->dev.features & NET_OFFLOADS))
		return -EINVAL;
	r = netdev_set_offloads(net->netdevs, offloads);
	if (!r)
		net->state.offloads = offloads;
	return r;
}

static const struct net_command {
	uint8_t class, command;
	uint8_t feature; /* that the driver must have accepted */
	int (*fn)(struct net *net, uint8_t command, struct chain *chain);
} commands[] = {
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_F_CTRL_RX, control_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, VIRTIO_NET_F_CTRL_RX, control_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, VIRTIO_NET_F_CTRL_RX_EXTRA, control_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, VIRTIO_NET_F_CTRL_RX_EXTRA, control_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, VIRTIO_NET_F_CTRL_RX_EXTRA, control_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, VIRTIO_NET_F_CTRL_RX_EXTRA, control_mode },
	{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_F_CTRL_RX,
	  control_mac_table },
	{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_F_CTRL_MAC_ADDR,
	  control_mac_address },
	{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, VIRTIO_NET_F_CTRL_VLAN, control_vlan },
	{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, VIRTIO_NET_F_CTRL_VLAN, control_vlan },
	{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, VIRTIO_NET_F_GUEST_ANNOUNCE,
	  control_announced },
	{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_MQ, control_pairs },
	{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
	  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, control_offloads },
};

static int control_command(struct net *net, struct chain *chain)
{
	struct virtio_net_ctrl_hdr header;

	if (chain_pull(chain, &header, sizeof(header)) != sizeof(header))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].class == header.class && commands[i].command == header.cmd &&
		    virtio_has(&net->dev, commands[i].feature))
			return commands[i].fn(net, header.cmd, chain);
	return -EOPNOTSUPP;
}

void net_control_kick(struct net *net, struct virtq *queue)
{
	virtio_net_ctrl_ack ack;
	struct chain *chain;

	while ((chain = virtq_pop(queue))) {
		if (!chain->in.left) {
			virtio_fail(&net->dev, "a command without room for its result");
			return;
		}
		ack = control_command(net, chain) < 0 ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
		chain_push(chain, &ack, sizeof(ack));
		virtq_done(queue, chain);
	}
}

void net_control_reset(struct net *net)
{
	struct netdev_filter filter = { .modes = 1u << VIRTIO_NET_CTRL_RX_PROMISC };

	net->state.offloads = NET_OFFLOADS;
	net->state.pairs = 1;
	net_set_mac(net, net->mac);
	memcpy(filter.mac, net->mac, sizeof(net->mac));
	net->state.filter = filter;
	net_set_status(net, 0, VIRTIO_NET_S_ANNOUNCE);
}

int net_control_check(const struct net *net)
{
	const struct net_state *state = &net->state;

	if (state->offloads & ~NET_OFFLOADS || !state->pairs || state->pairs > net->dev.set_count ||
	    state->status & ~(uint32_t)(VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE | NET_S_UNPLUGGED) ||
	    state->filter.mac_count > NETDEV_MACS_MAX || !net_is_address(state->filter.mac))
		return -EINVAL;
	return 0;
}

int net_control_apply(struct net *net)
{
	struct net_state *state = &net->state;
	int r;

	/* All that were agreed, until the driver says otherwise. */
	state->offloads &= net->dev.features;
	state->filter.modes &= (uint8_t)~NETDEV_VLANS_SOME;
	if (virtio_has(&net->dev, VIRTIO_NET_F_CTRL_VLAN))
		state->filter.modes |= NETDEV_VLANS_SOME;
	r = netdev_set_offloads(net->netdevs, state->offloads);
	if (!r)
		r = netdev_set_pairs(net->netdevs, net->dev.set_count, state->pairs);
	netdev_set_filter(net->netdevs, &state->filter);
	return r;
}
