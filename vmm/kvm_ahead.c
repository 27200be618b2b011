// SPDX-License-Identifier: Apache-2.0
/*
 * A KVM machine that is made while the client still says what it will be.
 *
 * DOC: Creating a VM, its interrupt controllers and its first memory slot takes milliseconds of waiting inside the kernel
 * (kvm_settle_memory_map()), none of which depends on the microVM. The time between the API socket's appearance and the
 * request to start or load is the client's; it is used here. The thread ends before any filter is entered. Errors are not
 * kept: a monitor that only answers questions needs no /dev/kvm, and a start that does tries again and tells. KVM names
 * the VM's folder in debugfs after this thread's number, not the process's: mostly the next one.
 */
#include "vmm/kvm_ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include "vmm/core/error.h"
#include "vmm/kvm.h"

#define STACK_BYTES (64u << 10)

struct kvm_ahead {
	pthread_t thread;
	struct kvm kvm; /* the thread's until it is joined; no descriptors: it could not be made */
};

static int make(struct kvm *kvm, struct error *err)
{
	int ret = kvm_open(kvm, err);

	if (!ret)
		ret = kvm_create_irqchip(kvm, err);
	if (!ret)
		ret = kvm_settle_memory_map(kvm, err);
	return ret;
}

static void *make_thread(void *arg)
{
	struct kvm_ahead *ahead = arg;
	struct error err;

	if (make(&ahead->kvm, &err))
		kvm_close(&ahead->kvm);
	return NULL;
}

struct kvm_ahead *kvm_ahead_start(void)
{
	struct kvm_ahead *ahead = malloc(sizeof(*ahead));
	pthread_attr_t attr;

	if (!ahead)
		return NULL;
	ahead->kvm = (struct kvm){.kvm_fd = -1, .vm_fd = -1};
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int ret = pthread_create(&ahead->thread, &attr, make_thread, ahead);

	pthread_attr_destroy(&attr);
	if (!ret)
		return ahead;
	free(ahead);
	return NULL;
}

bool kvm_ahead_take(struct kvm_ahead *ahead, struct kvm *kvm)
{
	if (!ahead)
		return false;
	pthread_join(ahead->thread, NULL);
	*kvm = ahead->kvm;
	free(ahead);
	return kvm->vm_fd >= 0;
}

void kvm_ahead_free(struct kvm_ahead *ahead)
{
	struct kvm kvm;

	if (kvm_ahead_take(ahead, &kvm))
		kvm_close(&kvm);
}
