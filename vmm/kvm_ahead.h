// SPDX-License-Identifier: Apache-2.0
/* A KVM machine that is made while the client still says what it will be. */
#ifndef VMM_KVM_AHEAD_H
#define VMM_KVM_AHEAD_H

#include <stdbool.h>

struct kvm;
struct kvm_ahead;

/*
 * Begins to make a KVM machine with its interrupt controllers and a settled memory map, in a thread of its own, and does not
 * wait for it. NULL: not begun, for lack of memory or of a thread. For kvm_ahead_take() or kvm_ahead_free().
 */
struct kvm_ahead *kvm_ahead_start(void);

/*
 * Waits until the machine is made and moves it to *kvm, which has none. false: it could not be made, and whoever makes it
 * now learns why. Frees ahead, which may be NULL: false, too.
 */
bool kvm_ahead_take(struct kvm_ahead *ahead, struct kvm *kvm);

/* Waits for the thread and frees what it made. NULL allowed. */
void kvm_ahead_free(struct kvm_ahead *ahead);

#endif
