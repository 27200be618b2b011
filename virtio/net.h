// SPDX-License-Identifier: Apache-2.0
/* virtio-net (virtio 1.2, section 5.1) over a tap. */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/error.h"
#include "vmm/core/rate_limiter.h"

struct virtio_device;
struct metrics_class;

/* The counters of group `net`, for announcing it. */
extern const struct metrics_class net_metrics_class;

#define NET_MAC_BYTES 6

/* A network interface as the API says it; strings owned by whoever holds the struct. */
struct net_config {
	char *iface_id;
	char *host_dev_name; /* the tap's name, shorter than IFNAMSIZ */
	char *guest_mac;     /* "aa:bb:cc:dd:ee:ff"; NULL: the guest chooses */
	uint16_t mtu;        /* 68..65535 */
	bool has_mtu;
	struct rate_limiter_config rx_rate_limiter;
	struct rate_limiter_config tx_rate_limiter;
};

/* "aa:bb:cc:dd:ee:ff" to bytes; false when it is not a MAC address. */
bool net_mac_parse(const char *text, uint8_t mac[NET_MAC_BYTES]);

/* Opens the tap. NULL and a text on error. Copies what it needs of config. Freed by virtio_device_free(). */
struct virtio_device *net_new(const struct net_config *config, struct error *err) must_check;

/* A PATCH; NULL: that direction's limiter stays as it is. */
void net_update_rate_limiters(struct virtio_device *dev, const struct rate_limiter_config *rx,
			      const struct rate_limiter_config *tx);

#endif
