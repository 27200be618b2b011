// SPDX-License-Identifier: Apache-2.0
/*
 * vCPU threads.
 *
 * DOC: Stopping a vCPU. A request is set under the lock, then each thread is kicked: immediate_exit makes the next
 * KVM_RUN return at once, the signal breaks the one in progress. A thread looks at the request only after KVM_RUN has
 * returned -EINTR: an access that was in flight has then been completed inside the kernel, so the vCPU's state is whole.
 * immediate_exit is cleared by the thread itself when it goes on, under the lock, so that no kick is lost.
 *
 * The loop waits for the threads, and a thread may be waiting for the loop in loop_call() (virtio activation); therefore
 * the wait polls both the threads' answer and the loop's calls.
 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "vmm/core/bus.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/kvm.h"
#include "vmm/seccomp.h"
#include "vmm/signals.h"

/* vCPU threads call devices, which log: generous for that, small beside glibc's 8 MiB of address space. */
#define VCPU_STACK_BYTES (128u << 10)

static int kick_signal(void)
{
	return SIGRTMIN;
}

static void on_kick(int signal)
{
	(void)signal; /* its only purpose is to interrupt KVM_RUN */
}

static int install_kick_handler(struct error *err)
{
	struct sigaction action = {.sa_handler = on_kick};

	if (sigaction(kick_signal(), &action, NULL) < 0)
		return error_set_errno(err, "cannot install the vCPU signal handler");
	return 0;
}

static int create_one(struct vcpus *vcpus, const struct kvm *kvm, unsigned index, struct error *err)
{
	struct vcpu *vcpu = &vcpus->vcpu[index];

	*vcpu = (struct vcpu){.all = vcpus, .index = index, .fd = -1};
	vcpus->count = index + 1;
	vcpu->fd = kvm_create_vcpu(kvm, index, err);
	if (vcpu->fd < 0)
		return err->code;
	void *run = mmap(NULL, vcpus->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);

	if (run == MAP_FAILED)
		return error_set_errno(err, "cannot map the shared page of vCPU %u", index);
	vcpu->run = run;
	return 0;
}

int vcpus_create(struct vcpus *vcpus, const struct kvm *kvm, unsigned count,
		 const struct bus *ports, const struct bus *mmio, struct loop *loop,
		 struct error *err)
{
	vcpus->run_bytes = kvm->run_bytes;
	vcpus->ports = ports;
	vcpus->mmio = mmio;
	vcpus->loop = loop;
	vcpus->count = 0;
	vcpus->request = VCPUS_PAUSE;
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_cond_init(&vcpus->changed, NULL);
	vcpus->ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vcpus->ack_fd < 0)
		return error_set_errno(err, "cannot make an eventfd for vCPUs");
	for (unsigned i = 0; i < count; i++) {
		int ret = create_one(vcpus, kvm, i, err);

		if (ret)
			return ret;
	}
	return install_kick_handler(err);
}

/* Counts this thread in, under the lock, and wakes whoever waits for it. */
static void answer(struct vcpus *vcpus, unsigned *counter)
{
	const uint64_t one = 1;
	ssize_t written;

	(*counter)++;
	written = write(vcpus->ack_fd, &one, sizeof(one));
	(void)written; /* cannot fill up: one a vCPU and stop */
}

/* Stands still while that is asked for. false: the thread is to end. */
static bool wait_for_leave(struct vcpu *vcpu)
{
	struct vcpus *vcpus = vcpu->all;

	pthread_mutex_lock(&vcpus->lock);
	if (vcpus->request == VCPUS_PAUSE) {
		answer(vcpus, &vcpus->stopped);
		while (vcpus->request == VCPUS_PAUSE)
			pthread_cond_wait(&vcpus->changed, &vcpus->lock);
		vcpus->stopped--;
	}
	bool run = vcpus->request == VCPUS_RUN;

	if (run)
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&vcpus->lock);
	return run;
}

static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool in = run->io.direction == KVM_EXIT_IO_IN;
	uint64_t start_us = metrics_now_us();

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		bool known = in ? bus_read(vcpu->all->ports, run->io.port, data, run->io.size)
				: bus_write(vcpu->all->ports, run->io.port, data, run->io.size);

		if (!known)
			log_limited(LOG_LEVEL_DEBUG, "vCPU %u: no device at I/O port 0x%x",
				    vcpu->index, run->io.port);
	}
	metric_add_shared(in ? &process_metrics.vcpu.exit_io_in : &process_metrics.vcpu.exit_io_out,
			  1);
	metric_agg_record(in ? &process_metrics.vcpu.exit_io_in_agg
			     : &process_metrics.vcpu.exit_io_out_agg,
			  metrics_now_us() - start_us);
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	bool write = run->mmio.is_write;
	uint64_t start_us = metrics_now_us();
	bool known = write ? bus_write(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data,
				       run->mmio.len)
			   : bus_read(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data,
				      run->mmio.len);

	if (!known)
		log_limited(LOG_LEVEL_WARN, "vCPU %u: no device at guest address 0x%llx",
			    vcpu->index, (unsigned long long)run->mmio.phys_addr);
	metric_add_shared(write ? &process_metrics.vcpu.exit_mmio_write
				: &process_metrics.vcpu.exit_mmio_read,
			  1);
	metric_agg_record(write ? &process_metrics.vcpu.exit_mmio_write_agg
				: &process_metrics.vcpu.exit_mmio_read_agg,
			  metrics_now_us() - start_us);
}

static void end_machine(struct vcpu *vcpu, int exit_code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void end_machine(struct vcpu *vcpu, int exit_code, const char *format, ...)
{
	char reason[160];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	if (exit_code != EXIT_CODE_OK)
		metric_add_shared(&process_metrics.vcpu.failures, 1);
	vcpu->all->on_end(vcpu->all->on_end_ctx, exit_code, reason);
}

/* true: the vCPU may run on. */
static bool handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		return true;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SYSTEM_EVENT:
		end_machine(vcpu, EXIT_CODE_OK, "system event %u", run->system_event.type);
		return false;
	case KVM_EXIT_SHUTDOWN:
		end_machine(vcpu, EXIT_CODE_GENERIC, "triple fault on vCPU %u", vcpu->index);
		return false;
	case KVM_EXIT_HLT:
		end_machine(vcpu, EXIT_CODE_GENERIC, "vCPU %u halted", vcpu->index);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		end_machine(vcpu, EXIT_CODE_GENERIC,
			    "KVM could not enter vCPU %u, hardware reason 0x%llx", vcpu->index,
			    (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		end_machine(vcpu, EXIT_CODE_GENERIC, "KVM internal error %u on vCPU %u",
			    run->internal.suberror, vcpu->index);
		return false;
	default:
		end_machine(vcpu, EXIT_CODE_GENERIC, "unexpected exit %u of vCPU %u",
			    run->exit_reason, vcpu->index);
		return false;
	}
}

/* A vCPU at its machine's end stands still like a paused one, until its thread is to end. */
static void stand_still(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	answer(vcpus, &vcpus->stopped);
	while (vcpus->request != VCPUS_EXIT)
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	vcpus->stopped--;
	pthread_mutex_unlock(&vcpus->lock);
}

/* Runs guest code until the thread is to end. */
static void run_guest(struct vcpu *vcpu)
{
	while (true) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			if (!handle_exit(vcpu))
				break;
		} else if (errno == EINTR || errno == EAGAIN) {
			if (!wait_for_leave(vcpu))
				return;
		} else {
			end_machine(vcpu, EXIT_CODE_GENERIC, "KVM_RUN on vCPU %u: error %d",
				    vcpu->index, errno);
			break;
		}
	}
	stand_still(vcpu->all);
}

/* false: the guest must not run on this thread, which has ended the machine and is to end itself. */
static bool enter_filter(struct vcpu *vcpu)
{
	struct error err;

	if (seccomp_enter(vcpu->all->filters, SECCOMP_VCPU, &err) == 0)
		return true;
	end_machine(vcpu, EXIT_CODE_GENERIC, "%s", err.text);
	stand_still(vcpu->all);
	return false;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	snprintf(name, sizeof(name), "fc_vcpu %u", vcpu->index);
	prctl(PR_SET_NAME, name, 0, 0, 0);
	log_set_thread_name(name);
	if (enter_filter(vcpu) && wait_for_leave(vcpu))
		run_guest(vcpu);
	pthread_mutex_lock(&vcpu->all->lock);
	answer(vcpu->all, &vcpu->all->ended);
	pthread_mutex_unlock(&vcpu->all->lock);
	return NULL;
}

int vcpus_start_threads(struct vcpus *vcpus, struct error *err)
{
	pthread_attr_t attr;
	int ret = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
	for (unsigned i = vcpus->started; i < vcpus->count && !ret; i++) {
		ret = pthread_create(&vcpus->vcpu[i].thread, &attr, vcpu_thread, &vcpus->vcpu[i]);
		vcpus->started += ret == 0;
	}
	pthread_attr_destroy(&attr);
	return ret ? error_set_os(err, -ret, "cannot start a vCPU thread") : 0;
}

static void request(struct vcpus *vcpus, enum vcpus_request wanted)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->request = wanted;
	if (wanted != VCPUS_RUN) {
		for (unsigned i = 0; i < vcpus->count; i++) {
			if (vcpus->vcpu[i].run)
				__atomic_store_n(&vcpus->vcpu[i].run->immediate_exit, 1,
						 __ATOMIC_RELAXED);
		}
	}
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
	for (unsigned i = 0; wanted != VCPUS_RUN && i < vcpus->started; i++)
		pthread_kill(vcpus->vcpu[i].thread, kick_signal());
}

void vcpus_run(struct vcpus *vcpus)
{
	request(vcpus, VCPUS_RUN);
}

static bool has_reached(struct vcpus *vcpus, const unsigned *counter, unsigned wanted)
{
	pthread_mutex_lock(&vcpus->lock);
	bool reached = *counter == wanted;
	pthread_mutex_unlock(&vcpus->lock);
	return reached;
}

/* Waits until that many threads have answered, serving the loop's calls (see DOC). */
static void wait_for_threads(struct vcpus *vcpus, const unsigned *counter, unsigned wanted)
{
	while (!has_reached(vcpus, counter, wanted)) {
		struct pollfd fds[] = {
			{.fd = vcpus->ack_fd, .events = POLLIN},
			{.fd = loop_call_fd(vcpus->loop), .events = POLLIN},
		};
		uint64_t count;

		if (poll(fds, 2, -1) < 0)
			continue; /* EINTR */
		ssize_t got = read(vcpus->ack_fd, &count, sizeof(count));
		(void)got;
		loop_run_calls(vcpus->loop);
	}
}

/*
 * Has KVM tell the guest, in its clock's page, that it was stopped: its watchdogs then forgive the time that it did not see
 * pass. EINVAL: the guest has no such clock.
 */
static void mark_stopped(const struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		metric_add_shared(&process_metrics.vcpu.kvmclock_ctrl_fails, 1);
}

void vcpus_mark_stopped(const struct vcpus *vcpus)
{
	for (unsigned i = 0; i < vcpus->count; i++)
		mark_stopped(&vcpus->vcpu[i]);
}

void vcpus_pause(struct vcpus *vcpus)
{
	request(vcpus, VCPUS_PAUSE);
	wait_for_threads(vcpus, &vcpus->stopped, vcpus->count);
	vcpus_mark_stopped(vcpus);
}

void vcpus_free(struct vcpus *vcpus)
{
	if (!vcpus->loop)
		return; /* never created */
	request(vcpus, VCPUS_EXIT);
	wait_for_threads(vcpus, &vcpus->ended, vcpus->started);
	for (unsigned i = 0; i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];

		if (i < vcpus->started)
			pthread_join(vcpu->thread, NULL);
		if (vcpu->run)
			munmap(vcpu->run, vcpus->run_bytes);
		close_fd(vcpu->fd);
	}
	close_fd(vcpus->ack_fd);
	pthread_cond_destroy(&vcpus->changed);
	pthread_mutex_destroy(&vcpus->lock);
	*vcpus = (struct vcpus){.ack_fd = -1};
}
