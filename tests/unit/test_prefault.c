// SPDX-License-Identifier: Apache-2.0
/* KVM_PRE_FAULT_MEMORY, with a kernel that is faked: few have it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/kvm.h"

#define KVM_FD  100
#define VCPU_FD 101
#define PAGE    4096u
/* Linux 6.10's include/uapi/linux/kvm.h: _IOWR(0xAE, 0xd5, 64 bytes) */
#define PRE_FAULT 0xc040aed5u

static struct {
	bool capable;
	unsigned calls, interrupt_at, fail_at;
	int error;
	uint64_t start, end;
} fake;

static int answer(uint64_t *range)
{
	fake.calls++;
	if (fake.calls == fake.fail_at || fake.calls == fake.interrupt_at) {
		errno = fake.calls == fake.fail_at ? fake.error : EINTR;
		return -1;
	}
	if (fake.end == 0)
		fake.start = fake.end = range[0];
	/* One page a call, as when signals keep coming. */
	assert_int_equal(range[0], fake.end);
	fake.end += PAGE;
	range[0] += PAGE;
	range[1] -= PAGE;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;

	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	if (fd == KVM_FD && request == KVM_CHECK_EXTENSION)
		return fake.capable && (uintptr_t)argument == 236;
	assert_int_equal(fd, VCPU_FD);
	assert_int_equal((unsigned)request, PRE_FAULT);
	return answer(argument);
}

static int prefault(uint64_t start, uint64_t bytes)
{
	struct kvm kvm = {.kvm_fd = KVM_FD, .vm_fd = -1};

	return kvm_prefault(&kvm, VCPU_FD, gpa(start), bytes);
}

static int reset(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.capable = true;
	return 0;
}

static void test_all_of_it(void **state)
{
	(void)state;
	fake.interrupt_at = 3;
	assert_int_equal(prefault(0x10000, 8 * PAGE), 0);
	assert_int_equal(fake.start, 0x10000);
	assert_int_equal(fake.end, 0x10000 + 8 * PAGE);
	assert_int_equal(fake.calls, 9);
}

static void test_a_kernel_without(void **state)
{
	(void)state;
	fake.capable = false;
	assert_int_equal(prefault(0, PAGE), -ENOTSUP);
	assert_int_equal(fake.calls, 0);
}

static void test_failures(void **state)
{
	(void)state;
	fake.fail_at = 2;
	fake.error = EOPNOTSUPP;
	assert_int_equal(prefault(0, 4 * PAGE), -ENOTSUP);
	fake.fail_at = fake.calls + 1;
	fake.error = EFAULT;
	assert_int_equal(prefault(fake.end, 4 * PAGE), -EFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_all_of_it, reset),
		cmocka_unit_test_setup(test_a_kernel_without, reset),
		cmocka_unit_test_setup(test_failures, reset),
	};

	return RUN_TESTS(tests);
}
