// SPDX-License-Identifier: Apache-2.0
/*
 * The interval timer, on demand.
 *
 * DOC: A Linux guest with kvm-clock and a TSC deadline timer never touches the 8254, and KVM's costs the host a kernel
 * thread a machine; but a guest without ACPI and MP table, or one that is not Linux, may have no other timer. So its
 * ports are watched: the first access makes KVM's timer, which answers all later ones in the kernel. That first access
 * has already left the guest and cannot be run again; if it is a control word, as it is with everything that programs
 * the timer, it is put into the new timer's state. A first read gives zero. The gate of channel 2 lies in another port,
 * which guests set just before; it is taken as open.
 */
#include "vmm/arch/x86_64/pit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/core/log.h"

#define CONTROL_OFFSET 3u

enum {
	/* Control word: bits 7-6 channel (3: read-back), 5-4 access (0: latch), 3-1 mode, 0 BCD */
	ACCESS_LATCH = 0,
	ACCESS_BOTH_BYTES = 3,
	CHANNELS = 3,
	STATE_FIRST_OF_TWO = 3, /* kvm_pit_channel_state: low byte next, then the high one */
};

void pit_init(struct pit *pit, int vm_fd)
{
	pit->vm_fd = vm_fd;
	pit->made = false;
	pthread_mutex_init(&pit->lock, NULL);
}

void pit_destroy(struct pit *pit)
{
	pthread_mutex_destroy(&pit->lock);
}

int pit_make(struct pit *pit)
{
	struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(pit->vm_fd, KVM_CREATE_PIT2, &config) < 0)
		return -errno;
	pit->made = true;
	return 0;
}

/* Gives true when this call made it. */
static bool make(struct pit *pit)
{
	pthread_mutex_lock(&pit->lock);
	bool first = !pit->made;

	if (first && pit_make(pit)) {
		log_error("KVM_CREATE_PIT2 failed; the guest has no interval timer");
		pit->made = true; /* not tried again at every access */
		first = false;
	}
	pthread_mutex_unlock(&pit->lock);
	return first;
}

static void write_control(struct pit *pit, uint8_t word)
{
	struct kvm_pit_state2 state;
	unsigned channel = word >> 6, access = (word >> 4) & 3u;

	if (channel >= CHANNELS || access == ACCESS_LATCH ||
	    ioctl(pit->vm_fd, KVM_GET_PIT2, &state) < 0)
		return;
	struct kvm_pit_channel_state *timer = &state.channels[channel];

	timer->rw_mode = (uint8_t)access;
	timer->read_state = access == ACCESS_BOTH_BYTES ? STATE_FIRST_OF_TWO : (uint8_t)access;
	timer->write_state = timer->read_state;
	timer->mode = (word >> 1) & 7u;
	timer->bcd = word & 1u;
	state.channels[CHANNELS - 1].gate = 1;
	if (ioctl(pit->vm_fd, KVM_SET_PIT2, &state) < 0)
		log_error("KVM_SET_PIT2 failed; the guest's first timer setting is lost");
}

static void pit_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	(void)offset;
	(void)make(ctx);
	memset(data, 0, len);
}

static void pit_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	(void)len;
	if (make(ctx) && offset == CONTROL_OFFSET)
		write_control(ctx, *(const uint8_t *)data);
}

const struct bus_ops pit_bus_ops = {.read = pit_read, .write = pit_write};
