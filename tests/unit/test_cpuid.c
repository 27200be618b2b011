// SPDX-License-Identifier: Apache-2.0
/* What a vCPU is given: CPUID of made-up Intel and AMD hosts, and the state that real KVM accepts and gives back. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/bytes.h"

#define LIST_MAX 300u

/* ---- made-up hosts ---- */

static struct kvm_cpuid2 *list_new(void)
{
	struct kvm_cpuid2 *list =
		calloc(1, sizeof(*list) + LIST_MAX * sizeof(struct kvm_cpuid_entry2));

	assert_non_null(list);
	return list;
}

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *list, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *entry = &list->entries[list->nent++];

	*entry = (struct kvm_cpuid_entry2){.function = function, .index = index};
	return entry;
}

static void add_vendor(struct kvm_cpuid2 *list, const char *name, uint32_t maximum)
{
	struct kvm_cpuid_entry2 *entry = add(list, 0, 0);

	entry->eax = maximum;
	memcpy(&entry->ebx, name, 4);
	memcpy(&entry->edx, name + 4, 4);
	memcpy(&entry->ecx, name + 8, 4);
}

static void add_brand(struct kvm_cpuid2 *list, const char *brand)
{
	char padded[48] = {0};

	memcpy(padded, brand, strlen(brand));
	for (uint32_t i = 0; i < 3; i++)
		memcpy(&add(list, 0x80000002 + i, 0)->eax, padded + 16 * i, 16);
}

/* A leaf with all bits set, so that what is cleared shows. */
static void add_full(struct kvm_cpuid2 *list, uint32_t function)
{
	struct kvm_cpuid_entry2 *entry = add(list, function, 0);

	entry->eax = entry->ebx = entry->ecx = entry->edx = UINT32_MAX;
}

static void add_cache(struct kvm_cpuid2 *list, uint32_t function, uint32_t index, uint32_t level)
{
	add(list, function, index)->eax = 0xffffc000u | level << 5 | 1;
}

static struct kvm_cpuid2 *intel_host(uint32_t maximum, const char *brand)
{
	struct kvm_cpuid2 *list = list_new();

	add_vendor(list, "GenuineIntel", maximum);
	add_full(list, 1);
	for (uint32_t i = 0; i < 3; i++)
		add_cache(list, 4, i, i + 1);
	add(list, 4, 3);
	add_full(list, 6);
	add_full(list, 7);
	add_full(list, 0xa);
	for (uint32_t i = 0; i < 4; i++)
		add(list, 0x1f, i)->ecx = i | 7 << 8;
	add(list, 0x40000000, 0)->eax = 0x40000001;
	add_full(list, 0x40000001);
	add(list, 0x80000000, 0)->eax = 0x80000008;
	add_full(list, 0x80000001);
	add_brand(list, brand);
	add_full(list, 0x80000008);
	return list;
}

static struct kvm_cpuid2 *amd_host(void)
{
	struct kvm_cpuid2 *list = list_new();

	add_vendor(list, "AuthenticAMD", 0x7);
	add_full(list, 1);
	add_full(list, 7);
	add(list, 0x80000000, 0)->eax = 0x80000008;
	add_full(list, 0x80000001);
	add_brand(list, "AMD EPYC 9999 64-Core Processor");
	add_full(list, 0x80000008);
	add_full(list, 0x8000000a);
	for (uint32_t i = 0; i < 4; i++)
		add_cache(list, 0x8000001d, i, i < 2 ? 1 : i);
	return list;
}

/* The vCPU's list; it takes the host's. */
static struct kvm_cpuid2 *made(struct kvm_cpuid2 *host, unsigned index, unsigned vcpus, bool smt)
{
	struct cpu_topology topology = {.vcpu_count = vcpus, .smt = smt};
	struct error err = {0};
	struct kvm_cpuid2 *list = cpu_make_cpuid(host, index, &topology, &err);

	free(host);
	assert_non_null(list);
	return list;
}

static const struct kvm_cpuid_entry2 *leaf_of(const struct kvm_cpuid2 *list, uint32_t function,
					      uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (uint32_t i = 0; i < list->nent; i++) {
		if (list->entries[i].function != function || list->entries[i].index != index)
			continue;
		assert_null(found);
		found = &list->entries[i];
	}
	assert_non_null(found);
	return found;
}

static bool bit(uint32_t value, unsigned number)
{
	return value >> number & 1;
}

static void expect_leaf(const struct kvm_cpuid2 *list, uint32_t function, uint32_t index,
			uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	const struct kvm_cpuid_entry2 *leaf = leaf_of(list, function, index);

	assert_int_equal(leaf->eax, eax);
	assert_int_equal(leaf->ebx, ebx);
	assert_int_equal(leaf->ecx, ecx);
	assert_int_equal(leaf->edx, edx);
}

static void expect_brand(const struct kvm_cpuid2 *list, const char *brand)
{
	char text[49] = {0};

	for (uint32_t i = 0; i < 3; i++)
		memcpy(text + 16 * i, &leaf_of(list, 0x80000002 + i, 0)->eax, 16);
	assert_string_equal(text, brand);
}

static void test_features(void **state)
{
	struct kvm_cpuid2 *list = made(intel_host(0x16, ""), 5, 6, false);
	const struct kvm_cpuid_entry2 *leaf = leaf_of(list, 1, 0);

	(void)state;
	assert_int_equal(leaf->ebx, 5u << 24 | 8u << 16 | 8u << 8 | 0xff);
	assert_false(bit(leaf->ecx, 5));
	assert_false(bit(leaf->ecx, 15));
	assert_true(bit(leaf->ecx, 24));
	assert_true(bit(leaf->ecx, 31));
	assert_true(bit(leaf->edx, 28));
	free(list);

	list = made(intel_host(0x16, ""), 0, 1, true);
	leaf = leaf_of(list, 1, 0);
	assert_int_equal(leaf->ebx, 1u << 16 | 8u << 8 | 0xff);
	assert_false(bit(leaf->edx, 28));
	expect_leaf(list, 0xb, 0, 0, 1, 0x100, 0);
	expect_leaf(list, 0xb, 1, 0, 1, 0x201, 0);
	assert_int_equal(leaf_of(list, 0x40000001, 0)->edx, 0xfffffffe);
	assert_int_equal(leaf_of(list, 0x40000001, 0)->eax, 0xffffffff);
	free(list);
}

static void test_intel_topology(void **state)
{
	struct kvm_cpuid2 *list = made(intel_host(0x1f, ""), 5, 6, true);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t function = i == 0 ? 0xb : 0x1f;

		expect_leaf(list, function, 0, 1, 2, 0x100, 5);
		expect_leaf(list, function, 1, 3, 6, 0x201, 5);
		expect_leaf(list, function, 2, 0, 0, 2, 5);
		assert_int_equal(leaf_of(list, function, 1)->flags,
				 KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	}
	/* The host's fourth level is gone. */
	expect_leaf(list, 0x1f, 3, 0, 0, 0, 0);
	/* Three cores; first and second level belong to a core, the third to all. */
	expect_leaf(list, 4, 0, 2u << 26 | 1u << 14 | 1u << 5 | 1, 0, 0, 0);
	expect_leaf(list, 4, 1, 2u << 26 | 1u << 14 | 2u << 5 | 1, 0, 0, 0);
	expect_leaf(list, 4, 2, 2u << 26 | 5u << 14 | 3u << 5 | 1, 0, 0, 0);
	expect_leaf(list, 4, 3, 0, 0, 0, 0);
	free(list);

	/* Leaf 0xB is there even on a host whose leaves end before it. */
	list = made(intel_host(0x7, ""), 3, 4, false);
	assert_int_equal(leaf_of(list, 0, 0)->eax, 0xb);
	expect_leaf(list, 0xb, 0, 0, 1, 0x100, 3);
	expect_leaf(list, 0xb, 1, 2, 4, 0x201, 3);
	free(list);
}

static void test_intel_leaves(void **state)
{
	struct kvm_cpuid2 *list = made(intel_host(0x16, ""), 0, 2, false);

	(void)state;
	assert_false(bit(leaf_of(list, 6, 0)->eax, 1));
	assert_true(bit(leaf_of(list, 6, 0)->eax, 2));
	assert_false(bit(leaf_of(list, 6, 0)->ecx, 3));
	assert_true(bit(leaf_of(list, 7, 0)->ebx, 6));
	assert_true(bit(leaf_of(list, 7, 0)->ebx, 13));
	assert_false(bit(leaf_of(list, 7, 0)->ecx, 5));
	assert_true(bit(leaf_of(list, 7, 0)->edx, 29));
	expect_leaf(list, 0xa, 0, 0, 0, 0, 0);
	free(list);
}

static void test_intel_brand(void **state)
{
	struct kvm_cpuid2 *list;

	(void)state;
	list = made(intel_host(0x16, "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"), 0, 1, false);
	expect_brand(list, "Intel(R) Xeon(R) Processor @ 2.90GHz");
	free(list);
	list = made(intel_host(0x16, "INTEL(R) XEON(R) PLATINUM 8581C"), 0, 1, false);
	expect_brand(list, "Intel(R) Xeon(R) Processor");
	free(list);
	list = made(intel_host(0x16, "x @ 0123456789012345678901234567890"), 0, 1, false);
	expect_brand(list, "Intel(R) Xeon(R) Processor");
	free(list);
}

static void test_amd(void **state)
{
	struct kvm_cpuid2 *list = made(amd_host(), 7, 8, true);
	uint32_t ecx = leaf_of(list, 0x80000001, 0)->ecx;

	(void)state;
	assert_true(bit(ecx, 1));
	assert_false(bit(ecx, 2));
	assert_true(bit(ecx, 22));
	assert_false(bit(leaf_of(list, 7, 0)->edx, 29));
	assert_int_equal(leaf_of(list, 0x80000008, 0)->ecx, 0xffff3f07);
	expect_leaf(list, 0x8000000a, 0, 0, 0, 0, 0);
	expect_leaf(list, 0x8000001e, 0, 7, 0x103, 0, 0);
	assert_int_equal(leaf_of(list, 0x80000000, 0)->eax, 0x8000001e);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(leaf_of(list, 0x8000001d, i)->eax >> 14 & 0xfff, i < 3 ? 1 : 7);
	expect_leaf(list, 0xb, 1, 3, 8, 0x201, 7);
	expect_brand(list, "AMD EPYC");
	free(list);

	list = made(amd_host(), 0, 1, false);
	assert_false(bit(leaf_of(list, 0x80000001, 0)->ecx, 1));
	expect_leaf(list, 0x8000001e, 0, 0, 0, 0, 0);
	free(list);
}

static void test_too_many_entries(void **state)
{
	struct cpu_topology topology = {.vcpu_count = 1};
	struct kvm_cpuid2 *host = list_new();
	struct error err = {0};

	(void)state;
	host->nent = 257;
	assert_null(cpu_make_cpuid(host, 0, &topology, &err));
	assert_int_equal(err.code, -EINVAL);
	/* A host that says nothing is no reason to fall over. */
	host->nent = 0;
	struct kvm_cpuid2 *list = cpu_make_cpuid(host, 0, &topology, &err);

	assert_non_null(list);
	free(list);
	free(host);
}

/* ---- real KVM ---- */

struct vcpu {
	int kvm_fd, vm_fd, fd;
	struct error err;
};

static int open_vcpu(void **state)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

	*state = vcpu;
	vcpu->vm_fd = vcpu->fd = -1;
	vcpu->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vcpu->kvm_fd < 0)
		return 0;
	vcpu->vm_fd = ioctl(vcpu->kvm_fd, KVM_CREATE_VM, 0);
	assert_true(vcpu->vm_fd >= 0);
	assert_int_equal(ioctl(vcpu->vm_fd, KVM_CREATE_IRQCHIP, 0), 0);
	vcpu->fd = ioctl(vcpu->vm_fd, KVM_CREATE_VCPU, 0);
	assert_true(vcpu->fd >= 0);
	return 0;
}

static int close_vcpu(void **state)
{
	struct vcpu *vcpu = *state;

	close_fd(vcpu->fd);
	close_fd(vcpu->vm_fd);
	close_fd(vcpu->kvm_fd);
	free(vcpu);
	return 0;
}

static struct vcpu *need_kvm(void **state)
{
	struct vcpu *vcpu = *state;

	if (vcpu->kvm_fd < 0) {
		print_message("SKIPPED: /dev/kvm does not open here\n");
		skip();
	}
	return vcpu;
}

static void set_cpuid(struct vcpu *vcpu)
{
	struct cpu_topology topology = {.vcpu_count = 4};
	struct kvm_cpuid2 *supported = cpu_supported_cpuid(vcpu->kvm_fd, &vcpu->err);

	assert_non_null(supported);
	assert_true(supported->nent > 10);
	assert_int_equal(cpu_set_cpuid(vcpu->fd, supported, 0, &topology, &vcpu->err), 0);
	free(supported);
}

static void test_kvm_takes_cpuid(void **state)
{
	struct vcpu *vcpu = need_kvm(state);
	struct kvm_cpuid2 *list = list_new();

	set_cpuid(vcpu);
	list->nent = LIST_MAX;
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_CPUID2, list), 0);
	expect_leaf(list, 0xb, 1, 2, 4, 0x201, 0);
	assert_true(bit(leaf_of(list, 1, 0)->ecx, 31));
	assert_memory_equal(&leaf_of(list, 0x40000000, 0)->ebx, "KVMKVMKVM\0\0\0", 12);
	free(list);
}

static void test_kvm_takes_msrs(void **state)
{
	struct vcpu *vcpu = need_kvm(state);
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + 2 * sizeof(struct kvm_msr_entry)];
	} list = {.head = {.nmsrs = 2}};

	set_cpuid(vcpu);
	assert_int_equal(cpu_set_boot_msrs(vcpu->fd, &vcpu->err), 0);
	list.head.entries[0].index = 0x2ff;
	list.head.entries[1].index = 0x1a0;
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_MSRS, &list.head), 2);
	assert_int_equal(list.head.entries[0].data, 0x806);
	assert_true(list.head.entries[1].data & 1);
}

static void test_kvm_takes_lint(void **state)
{
	struct vcpu *vcpu = need_kvm(state);
	struct kvm_lapic_state lapic;

	assert_int_equal(cpu_set_lapic_lint(vcpu->fd, &vcpu->err), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic), 0);
	assert_int_equal(get_le32(lapic.regs + 0x350) >> 8 & 7, 7);
	assert_int_equal(get_le32(lapic.regs + 0x360) >> 8 & 7, 4);
}

static void get_state(struct vcpu *vcpu, enum boot_protocol protocol, struct kvm_regs *regs,
		      struct kvm_sregs *sregs)
{
	struct boot_kernel kernel = {.protocol = protocol, .entry = gpa(0x1234560)};
	struct kvm_xsave xsave;
	struct kvm_fpu fpu;

	set_cpuid(vcpu);
	assert_int_equal(cpu_set_boot_state(vcpu->fd, &kernel, &vcpu->err), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_REGS, regs), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_SREGS, sregs), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_FPU, &fpu), 0);
	assert_int_equal(fpu.fcw, 0x37f);
	/* KVM_GET_FPU leaves MXCSR out: it is the seventh word of the legacy area. */
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave), 0);
	assert_int_equal(xsave.region[6], 0x1f80);
	assert_int_equal(regs->rip, 0x1234560);
	assert_int_equal(regs->rflags, 2);
	assert_int_equal(regs->rsp, LAYOUT_BOOT_STACK);
	assert_int_equal(sregs->gdt.base, LAYOUT_BOOT_GDT);
	assert_int_equal(sregs->gdt.limit, 31);
	assert_int_equal(sregs->cs.selector, 8);
	assert_int_equal(sregs->cs.type, 0xb);
	assert_int_equal(sregs->ds.selector, 16);
	assert_int_equal(sregs->ds.limit, UINT32_MAX);
	assert_int_equal(sregs->tr.type, 0xb);
	assert_int_equal(sregs->cr0 & (1u << 30 | 1u << 29), 0); /* caches on */
}

static void test_state_linux(void **state)
{
	struct vcpu *vcpu = need_kvm(state);
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	get_state(vcpu, BOOT_LINUX_64, &regs, &sregs);
	assert_int_equal(regs.rsi, LAYOUT_ZERO_PAGE);
	assert_int_equal(regs.rbx, 0);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);
	assert_int_equal(sregs.cr3, LAYOUT_BOOT_PML4);
	assert_int_equal(sregs.cr4, 1u << 5);
	assert_int_equal(sregs.efer, 1u << 8 | 1u << 10);
	assert_int_equal(sregs.cr0, 1u << 31 | 1u << 4 | 1u);
}

static void test_state_pvh(void **state)
{
	struct vcpu *vcpu = need_kvm(state);
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	get_state(vcpu, BOOT_PVH, &regs, &sregs);
	assert_int_equal(regs.rbx, LAYOUT_PVH_START_INFO);
	assert_int_equal(regs.rsi, 0);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(sregs.cs.limit, UINT32_MAX);
	assert_int_equal(sregs.tr.limit, 0x67);
	assert_int_equal(sregs.cr4, 0);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.cr0, 1u << 4 | 1u);
}

/* Each call names itself when KVM refuses; a descriptor that is no vCPU is the easiest refusal. */
static void test_kvm_refuses(void **state)
{
	struct boot_kernel kernel = {.protocol = BOOT_PVH};
	struct cpu_topology topology = {.vcpu_count = 1};
	struct kvm_cpuid2 *host = intel_host(0x16, "");
	struct error err = {0};

	(void)state;
	assert_null(cpu_supported_cpuid(-1, &err));
	assert_non_null(strstr(err.text, "KVM_GET_SUPPORTED_CPUID failed"));
	assert_int_equal(cpu_set_cpuid(-1, host, 3, &topology, &err), -EBADF);
	assert_non_null(strstr(err.text, "KVM_SET_CPUID2 for vCPU 3 failed"));
	assert_int_equal(cpu_set_boot_msrs(-1, &err), -EBADF);
	assert_non_null(strstr(err.text, "KVM_SET_MSRS failed"));
	assert_int_equal(cpu_set_lapic_lint(-1, &err), -EBADF);
	assert_non_null(strstr(err.text, "KVM_GET_LAPIC failed"));
	assert_int_equal(cpu_set_boot_state(-1, &kernel, &err), -EBADF);
	assert_non_null(strstr(err.text, "KVM_GET_SREGS failed"));
	free(host);
}

#define KVM_TEST(name) cmocka_unit_test_setup_teardown(name, open_vcpu, close_vcpu)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_intel_topology),
		cmocka_unit_test(test_intel_leaves),
		cmocka_unit_test(test_intel_brand),
		cmocka_unit_test(test_amd),
		cmocka_unit_test(test_too_many_entries),
		KVM_TEST(test_kvm_takes_cpuid),
		KVM_TEST(test_kvm_takes_msrs),
		KVM_TEST(test_kvm_takes_lint),
		KVM_TEST(test_state_linux),
		KVM_TEST(test_state_pvh),
		cmocka_unit_test(test_kvm_refuses),
	};

	return RUN_TESTS(tests);
}
