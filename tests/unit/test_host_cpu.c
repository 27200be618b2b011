// SPDX-License-Identifier: Apache-2.0
/* Whether a host can go on with a guest that began on another one. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/arch/x86_64/host_cpu.h"

#define ENTRIES 3u

/* Leaves 1, 7 and 0x80000001 with the same bits everywhere. */
static struct kvm_cpuid2 *make_cpuid(uint32_t bits)
{
	static const uint32_t leaves[ENTRIES] = {0x1, 0x7, 0x80000001};
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + ENTRIES * sizeof(list->entries[0]));

	assert_non_null(list);
	list->nent = ENTRIES;
	for (unsigned i = 0; i < ENTRIES; i++)
		list->entries[i] = (struct kvm_cpuid_entry2){
			.function = leaves[i], .eax = bits, .ebx = bits, .ecx = bits, .edx = bits};
	return list;
}

static void a_host_with_the_same_or_more(void **state)
{
	struct kvm_cpuid2 *guest = make_cpuid(0x00f1), *host = make_cpuid(0x0ff1);
	struct error err;

	(void)state;
	assert_int_equal(host_cpu_check(guest, guest, &err), 0);
	assert_int_equal(host_cpu_check(guest, host, &err), 0);
	free(guest);
	free(host);
}

static void what_is_missing_is_named(void **state)
{
	struct kvm_cpuid2 *guest = make_cpuid(0x00f1), *host = make_cpuid(0x00f1);
	struct error err;

	(void)state;
	host->entries[1].ebx = 0x00b1;
	/* Bit 6 of that word is one of those that guests see whatever the host has. */
	assert_int_equal(host_cpu_check(guest, host, &err), 0);
	host->entries[1].ebx = 0x0071;
	assert_int_equal(host_cpu_check(guest, host, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "CPUID leaf 0x7.0, ebx bits 0x80"));
	host->nent = 1; /* leaves that are not there have no features */
	assert_int_equal(host_cpu_check(guest, host, &err), -ENOTSUP);
	free(guest);
	free(host);
}

/* Guests of a KVM that says nothing of CPUID see the processor: it has what every one has, and no feature of nobody's. */
static void a_kvm_that_cannot_say(void **state)
{
	struct kvm_cpuid2 *guest = make_cpuid(0), *host = make_cpuid(0);
	struct error err;

	(void)state;
	guest->entries[0].edx = 1u << 25 | 1u << 26; /* SSE, SSE2 */
	assert_int_equal(host_cpu_check(guest, host, &err), 0);
	guest->entries[0].edx = 1u << 20; /* reserved */
	assert_int_equal(host_cpu_check(guest, host, &err), -ENOTSUP);
	free(guest);
	free(host);
}

static void this_host_is_always_the_same(void **state)
{
	struct host_cpu one, other;

	(void)state;
	host_cpu_identify(&one);
	host_cpu_identify(&other);
	assert_int_equal(strlen(one.vendor), HOST_CPU_VENDOR_BYTES);
	assert_memory_equal(&one, &other, sizeof(one));
	assert_int_not_equal(one.features_hash, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_with_the_same_or_more),
		cmocka_unit_test(what_is_missing_is_named),
		cmocka_unit_test(a_kvm_that_cannot_say),
		cmocka_unit_test(this_host_is_always_the_same),
	};

	return RUN_TESTS(tests);
}
