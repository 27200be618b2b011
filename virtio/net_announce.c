// SPDX-License-Identifier: Apache-2.0
/*
 * Telling the network where a restored guest is now: a RARP request with its address as the sender (RFC 903), which every
 * bridge on the way learns from and no host answers. Without it frames for the guest go where it was until it speaks.
 */
#include <string.h>
#include <sys/uio.h>
#include "virtio/net_internal.h"

#define FRAME_BYTES    60 /* the least that Ethernet carries */
#define ETHERTYPE_RARP 0x8035u

enum {
	AT_DESTINATION = 0,
	AT_SOURCE = 6,
	AT_TYPE = 12,
	AT_HARDWARE = 14, /* Ethernet: 1 */
	AT_PROTOCOL = 16, /* IPv4 */
	AT_LENGTHS = 18,
	AT_OPERATION = 20,
	AT_SENDER = 22,
	AT_TARGET = 32,
	REVERSE_REQUEST = 3,
};

static void put_be16(uint8_t *out, unsigned value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
}

void net_announce(struct net *net)
{
	struct net_header header = {0};
	uint8_t frame[FRAME_BYTES] = {0};
	struct iovec iov[] = {
		{.iov_base = &header, .iov_len = sizeof(header)},
		{.iov_base = frame, .iov_len = sizeof(frame)},
	};

	if (!net->has_mac)
		return; /* the guest has chosen one, which only it knows */
	memset(frame + AT_DESTINATION, 0xff, NET_MAC_BYTES);
	memcpy(frame + AT_SOURCE, net->mac, NET_MAC_BYTES);
	put_be16(frame + AT_TYPE, ETHERTYPE_RARP);
	put_be16(frame + AT_HARDWARE, 1);
	put_be16(frame + AT_PROTOCOL, 0x0800);
	frame[AT_LENGTHS] = NET_MAC_BYTES;
	frame[AT_LENGTHS + 1] = 4;
	put_be16(frame + AT_OPERATION, REVERSE_REQUEST);
	memcpy(frame + AT_SENDER, net->mac, NET_MAC_BYTES);
	memcpy(frame + AT_TARGET, net->mac, NET_MAC_BYTES);
	if (writev(net->tap_fd, iov, 2) < 0) /* a tap that is down, as for the guest's own frames */
		metric_add(&net->metrics.tap_write_fails, 1);
}
