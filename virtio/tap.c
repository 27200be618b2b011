// SPDX-License-Identifier: Apache-2.0
/* Opening a tap. Frames themselves are read and written by the device, straight from and to guest memory. */
#include "virtio/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include "virtio/net_internal.h"

static int bad_name(const char *name, struct error *err)
{
	return error_set(err, -EINVAL, "Invalid interface name: %s", name);
}

/* The engines' users know this sentence from Firecracker and search for it. */
static int refused(int code, const char *name, struct error *err)
{
	return error_set(err, code,
			 "Error while creating ifreq structure: %s (os error %d). Invalid TUN/TAP "
			 "Backend provided by %s. Check our documentation on setting up the "
			 "network devices.",
			 strerror(-code), -code, name);
}

int tap_open(const char *name, struct error *err)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header_bytes = NET_HEADER_BYTES;
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ)
		return bad_name(name, err);
	memcpy(request.ifr_name, name, len + 1);
	cleanup_fd int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return error_set_errno(err, "Couldn't open /dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &request))
		return refused(-errno, name, err);
	if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes))
		return error_set_errno(err, "Error while setting size of the vnet header");
	return steal_fd(&fd);
}

int tap_set_offload(int fd, struct tap_offload offload)
{
	unsigned long flags = 0;

	/* The kernel refuses segmentation without checksums, and so would a sane driver. */
	if (offload.csum)
		flags = TUN_F_CSUM | (offload.tso4 ? TUN_F_TSO4 : 0u) |
			(offload.tso6 ? TUN_F_TSO6 : 0u) | (offload.ufo ? TUN_F_UFO : 0u);
	return ioctl(fd, TUNSETOFFLOAD, flags) ? -errno : 0;
}
