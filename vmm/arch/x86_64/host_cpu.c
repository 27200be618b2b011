// SPDX-License-Identifier: Apache-2.0
/* The host's processor. */
#include "vmm/arch/x86_64/host_cpu.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum cpuid_register { EAX, EBX, ECX, EDX };

/* Words of feature bits. set_by_us: bits that guests see whatever KVM says of them. */
static const struct feature_word {
	uint32_t leaf, subleaf;
	enum cpuid_register reg;
	uint32_t set_by_us;
} feature_words[] = {
	/* TSC deadline, OSXSAVE (a mirror of CR4), hypervisor, x2APIC */
	{0x1, 0, ECX, 1u << 24 | 1u << 27 | 1u << 31 | 1u << 21},
	{0x1, 0, EDX, 1u << 28 /* HTT: more than one vCPU */},
	{0x7, 0, EBX, 1u << 6 | 1u << 13 /* FPU: what is deprecated */},
	/* OSPKE, a mirror of CR4 */
	{0x7, 0, ECX, 1u << 4},
	{0x7, 0, EDX, 0},
	{0x7, 1, EAX, 0},
	{0xd, 1, EAX, 0},
	{0x80000001, 0, ECX, 1u << 22 /* topology extensions */ | 1u << 1 /* legacy cores */},
	{0x80000001, 0, EDX, 0},
	{0x80000008, 0, EBX, 0},
};
#define WORD_COUNT (sizeof(feature_words) / sizeof(feature_words[0]))

static uint32_t ask_processor(const struct feature_word *word)
{
	uint32_t regs[4] = {0};

	if (!__get_cpuid_count(word->leaf, word->subleaf, &regs[EAX], &regs[EBX], &regs[ECX],
			       &regs[EDX]))
		return 0;
	/* What the kernel that runs right now, or the processor that we are on, has put there. */
	if (word->leaf == 0x1 && word->reg == ECX)
		return regs[ECX] & ~word->set_by_us;
	return regs[word->reg];
}

static void identify_model(struct host_cpu *cpu)
{
	uint32_t eax = 0, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
		return;
	cpu->family = eax >> 8 & 0xf;
	cpu->model = eax >> 4 & 0xf;
	cpu->stepping = eax & 0xf;
	if (cpu->family == 0x6 || cpu->family == 0xf)
		cpu->model |= (eax >> 16 & 0xf) << 4;
	if (cpu->family == 0xf)
		cpu->family += eax >> 20 & 0xff;
}

void host_cpu_identify(struct host_cpu *cpu)
{
	uint32_t eax, ebx = 0, ecx = 0, edx = 0;

	*cpu = (struct host_cpu){.features_hash = UINT64_C(0xcbf29ce484222325)};
	(void)__get_cpuid(0, &eax, &ebx, &ecx, &edx);
	memcpy(cpu->vendor, &ebx, 4);
	memcpy(cpu->vendor + 4, &edx, 4);
	memcpy(cpu->vendor + 8, &ecx, 4);
	identify_model(cpu);
	for (size_t i = 0; i < WORD_COUNT; i++) {
		cpu->features_hash ^= ask_processor(&feature_words[i]);
		cpu->features_hash *= UINT64_C(0x9e3779b97f4a7c15);
		cpu->features_hash ^= cpu->features_hash >> 32;
	}
}

static uint32_t word_of(const struct kvm_cpuid2 *list, const struct feature_word *word)
{
	for (uint32_t i = 0; i < list->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &list->entries[i];
		const uint32_t regs[] = {[EAX] = entry->eax,
					 [EBX] = entry->ebx,
					 [ECX] = entry->ecx,
					 [EDX] = entry->edx};

		if (entry->function == word->leaf && entry->index == word->subleaf)
			return regs[word->reg];
	}
	return 0;
}

/*
 * Every processor that runs this code has SSE3. A KVM that does not say so cannot intercept CPUID (as the paravirtual one,
 * which needs no hardware for virtualization) and shows its guests the processor as it is.
 */
static bool describes_guests(const struct kvm_cpuid2 *supported)
{
	static const struct feature_word sse3 = {0x1, 0, ECX, 0};

	return (word_of(supported, &sse3) & 1u) != 0;
}

int host_cpu_check(const struct kvm_cpuid2 *wanted, const struct kvm_cpuid2 *supported,
		   struct error *err)
{
	static const char *const names[] = {
		[EAX] = "eax", [EBX] = "ebx", [ECX] = "ecx", [EDX] = "edx"};
	bool describes = describes_guests(supported);

	for (size_t i = 0; i < WORD_COUNT; i++) {
		const struct feature_word *word = &feature_words[i];
		uint32_t here = describes ? word_of(supported, word) : ask_processor(word);
		uint32_t missing = word_of(wanted, word) & ~here & ~word->set_by_us;

		if (missing)
			return error_set(err, -ENOTSUP,
					 "the snapshot's guest knows processor features that this "
					 "host does not have: CPUID leaf 0x%x.%u, %s bits 0x%x",
					 word->leaf, word->subleaf, names[word->reg], missing);
	}
	return 0;
}
