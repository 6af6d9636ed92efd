// SPDX-License-Identifier: Apache-2.0
/*
 * Receive modes, MAC table and VLANs as a classic BPF program, which the
 * kernel runs before a packet is queued: what the guest does not want costs
 * neither a wake-up nor a copy, and the workers share nothing.
 *
 * It keeps the first 32 bits of the destination in M[0], the rest in X, and
 * tests one thing after another; jumps lead a few instructions on.
 */
#include <assert.h>
#include <string.h>
#include "core/util.h"
#include "devices/netdev/netdev.h"

#define PASS UINT32_MAX
#define DROP 0
/* Of VLANs, each a jump over those behind it, which is 255 instructions at the most. */
#define FILTER_VLANS_MAX 64
#define MULTICAST 0x01000000 /* in the first 32 bits */
#define MATCH_LEN 5

struct program {
	struct sock_filter *instructions;
	unsigned int count;
};

static_assert((2 + NETDEV_MACS_MAX) * MATCH_LEN + FILTER_VLANS_MAX + 32 <= NETDEV_PROGRAM_MAX,
	      "the longest program fits");

static void emit(struct program *program, uint16_t code, uint32_t k)
{
	program->instructions[program->count++] = (struct sock_filter)BPF_STMT(code, k);
}

static void emit_jump(struct program *program, uint16_t op, uint32_t k, unsigned int if_true,
		      unsigned int if_false)
{
	program->instructions[program->count++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | op | BPF_K, k, (uint8_t)if_true, (uint8_t)if_false);
}

static bool has_mode(const struct netdev_filter *filter, unsigned int command)
{
	return filter->modes >> command & 1;
}

static bool has_vlan(const struct netdev_filter *filter, unsigned int vid)
{
	return filter->vlans[vid / 8] >> vid % 8 & 1;
}

static unsigned int vlan_count(const struct netdev_filter *filter)
{
	unsigned int count = 0;

	for (size_t i = 0; i < sizeof(filter->vlans); i++)
		count += (unsigned int)__builtin_popcount(filter->vlans[i]);
	return count;
}

/* Goes on behind this part when the packet has no tag, a priority tag alone, or one of these. */
static void compile_vlans(struct program *program, const struct netdev_filter *filter,
			  unsigned int count)
{
	/* The host holds the tag beside the packet, or it is still within. */
	emit(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT));
	emit_jump(program, BPF_JEQ, 0, 2, 0);
	emit(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG));
	emit(program, BPF_JMP | BPF_JA, 3);
	emit(program, BPF_LD | BPF_H | BPF_ABS, 2 * ETH_ALEN);
	emit_jump(program, BPF_JEQ, ETH_P_8021Q, 0, count + 4);
	emit(program, BPF_LD | BPF_H | BPF_ABS, ETH_HLEN);
	emit(program, BPF_ALU | BPF_AND | BPF_K, NETDEV_VLANS - 1);
	emit_jump(program, BPF_JEQ, 0, count + 1, 0);
	for (unsigned int vid = 0; vid < NETDEV_VLANS; vid++)
		if (has_vlan(filter, vid))
			emit_jump(program, BPF_JEQ, vid, count--, 0);
	emit(program, BPF_RET | BPF_K, DROP);
}

static void compile_match(struct program *program, const uint8_t mac[ETH_ALEN], uint32_t verdict)
{
	emit(program, BPF_LD | BPF_MEM, 0);
	emit_jump(program, BPF_JEQ,
		  (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 | (uint32_t)mac[2] << 8 | mac[3], 0,
		  MATCH_LEN - 2);
	emit(program, BPF_MISC | BPF_TXA, 0);
	emit_jump(program, BPF_JEQ, (uint32_t)mac[4] << 8 | mac[5], 0, 1);
	emit(program, BPF_RET | BPF_K, verdict);
}

/* All packets to one address, or all to several: none of them, all, or those that match later. */
static void compile_kind(struct program *program, bool multicast, bool none, bool all)
{
	if (!none && !all)
		return;
	emit(program, BPF_LD | BPF_MEM, 0);
	emit_jump(program, BPF_JSET, MULTICAST, !multicast, multicast);
	emit(program, BPF_RET | BPF_K, none ? DROP : PASS);
}

static void compile_addresses(struct program *program, const struct netdev_filter *filter)
{
	static const uint8_t broadcast[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const bool any = filter->modes & NETDEV_MACS_ALL;

	emit(program, BPF_LD | BPF_H | BPF_ABS, 4);
	emit(program, BPF_MISC | BPF_TAX, 0);
	emit(program, BPF_LD | BPF_W | BPF_ABS, 0);
	emit(program, BPF_ST, 0);
	compile_match(program, broadcast,
		      has_mode(filter, VIRTIO_NET_CTRL_RX_NOBCAST) ? DROP : PASS);
	compile_kind(program, true, has_mode(filter, VIRTIO_NET_CTRL_RX_NOMULTI),
		     any || has_mode(filter, VIRTIO_NET_CTRL_RX_ALLMULTI));
	compile_kind(program, false, has_mode(filter, VIRTIO_NET_CTRL_RX_NOUNI),
		     any || has_mode(filter, VIRTIO_NET_CTRL_RX_ALLUNI));
	compile_match(program, filter->mac, PASS);
	for (unsigned int i = 0; i < filter->mac_count; i++)
		compile_match(program, filter->macs[i], PASS);
	emit(program, BPF_RET | BPF_K, DROP);
}

unsigned int netdev_filter_compile(const struct netdev_filter *filter,
				   struct sock_filter instructions[NETDEV_PROGRAM_MAX])
{
	struct program program = { .instructions = instructions };
	unsigned int vlans = vlan_count(filter);

	if (has_mode(filter, VIRTIO_NET_CTRL_RX_PROMISC))
		return 0;
	if (filter->modes & NETDEV_VLANS_SOME && vlans <= FILTER_VLANS_MAX)
		compile_vlans(&program, filter, vlans);
	compile_addresses(&program, filter);
	return program.count;
}
