// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID: what KVM supports on this host, made into one consistent processor.
 *
 * DOC: KVM's answer describes the host: its topology, caches as the host's threads share them, its brand. A guest is to
 * see one socket of its own vCPUs, whose APIC ids are 0, 1, 2 …, and nothing by which two hosts of one processor
 * model differ (clock modes, brand), so that a snapshot moves between them. Nested virtualization is hidden: it
 * is the largest single attack surface that KVM offers to a guest. KVM's own leaves (0x40000000 on) stay
 * as KVM gives them, with kvm-clock; a leaf that states the TSC frequency is left out on purpose: kvm-clock tells it
 * already without calibration, and keeps telling the truth after a snapshot has moved to another host.
 */
#include "vmm/arch/x86_64/cpu.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KVM_ENTRIES    256u /* more than the kernel ever gives */
#define OWN_ENTRIES    16u  /* room for what is added */
#define CPUID_CAPACITY (KVM_ENTRIES + OWN_ENTRIES)

/* Leaves and bits by the names of Intel's SDM (volume 2A, CPUID) and AMD's APM (volume 3, appendix E). */
enum {
	LEAF_VENDOR = 0x0,
	LEAF_FEATURES = 0x1,
	LEAF_CACHES = 0x4,
	LEAF_POWER = 0x6,
	LEAF_EXTENDED_FEATURES = 0x7,
	LEAF_PERFORMANCE = 0xa,
	LEAF_TOPOLOGY = 0xb,
	LEAF_TOPOLOGY_V2 = 0x1f,
};
#define LEAF_EXT_VENDOR     0x80000000u
#define LEAF_EXT_FEATURES   0x80000001u
#define LEAF_BRAND          0x80000002u
#define LEAF_SIZES          0x80000008u
#define LEAF_SVM            0x8000000au
#define LEAF_AMD_CACHES     0x8000001du
#define LEAF_AMD_TOPOLOGY   0x8000001eu
#define LEAF_KVM_FEATURES   0x40000001u
#define KVM_HINTS_REALTIME_ 0x1u

#define BIT(n) (1u << (n))

enum cpu_vendor { VENDOR_INTEL, VENDOR_AMD, VENDOR_OTHER };

/* One vCPU in its package. */
struct place {
	unsigned index;
	unsigned vcpus;
	unsigned threads;     /* a core */
	unsigned thread_bits; /* of the APIC id, below the core's */
	unsigned vcpu_bits;   /* of the APIC id, in the package */
	enum cpu_vendor vendor;
};

/* ---- the list ---- */

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *list, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < list->nent; i++) {
		if (list->entries[i].function == leaf && list->entries[i].index == index)
			return &list->entries[i];
	}
	return NULL;
}

/* The entry, all zero when it is new. NULL when the list is full, which OWN_ENTRIES rules out. */
static struct kvm_cpuid_entry2 *find_or_add(struct kvm_cpuid2 *list, uint32_t leaf, uint32_t index,
					    uint32_t flags)
{
	struct kvm_cpuid_entry2 *entry = find(list, leaf, index);

	if (!entry && list->nent < CPUID_CAPACITY) {
		entry = &list->entries[list->nent++];
		*entry = (struct kvm_cpuid_entry2){.function = leaf, .index = index};
	}
	if (entry)
		entry->flags = flags;
	return entry;
}

static void clear_leaf(struct kvm_cpuid2 *list, uint32_t function)
{
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &list->entries[i];

		if (entry->function == function)
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
	}
}

static uint32_t with_field(uint32_t value, unsigned shift, unsigned bits, uint32_t field)
{
	uint32_t mask = (BIT(bits) - 1) << shift;

	return (value & ~mask) | ((field << shift) & mask);
}

static uint32_t with_bit(uint32_t value, unsigned bit, bool on)
{
	return on ? value | BIT(bit) : value & ~BIT(bit);
}

static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while (BIT(bits) < count)
		bits++;
	return bits;
}

/* ---- every vendor ---- */

static void set_features(struct kvm_cpuid2 *list, const struct place *place)
{
	struct kvm_cpuid_entry2 *leaf = find(list, LEAF_FEATURES, 0);

	if (!leaf)
		return;
	leaf->ebx = with_field(leaf->ebx, 8, 8, 64 / 8); /* CLFLUSH line */
	leaf->ebx = with_field(leaf->ebx, 16, 8, BIT(place->vcpu_bits));
	leaf->ebx = with_field(leaf->ebx, 24, 8, place->index);
	leaf->ecx = with_bit(leaf->ecx, 5, false);  /* VMX */
	leaf->ecx = with_bit(leaf->ecx, 15, false); /* PDCM: there is no performance unit */
	leaf->ecx = with_bit(leaf->ecx, 24, true);  /* TSC deadline, which KVM's local APIC has */
	leaf->ecx = with_bit(leaf->ecx, 31, true);  /* hypervisor */
	leaf->edx = with_bit(leaf->edx, 28, place->vcpus > 1); /* HTT */
}

/* Extended topology: threads of a core, then cores of the package, then nothing. */
static void set_topology(struct kvm_cpuid2 *list, uint32_t leaf, const struct place *place)
{
	const struct {
		uint32_t shift, count, type;
	} levels[] = {
		{place->thread_bits, place->threads, 1},
		{place->vcpu_bits, place->vcpus, 2},
		{0, 0, 0},
	};

	/* The host may have more levels: modules, dies. */
	clear_leaf(list, leaf);
	for (uint32_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct kvm_cpuid_entry2 *entry =
			find_or_add(list, leaf, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);

		if (!entry)
			return;
		entry->eax = levels[i].shift;
		entry->ebx = levels[i].count;
		entry->ecx = i | levels[i].type << 8;
		entry->edx = place->index;
	}
}

/* Deterministic cache parameters, Intel's leaf 4 and AMD's 0x8000001D alike: who shares a cache. */
static void set_cache_sharing(struct kvm_cpuid2 *list, uint32_t leaf, const struct place *place)
{
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &list->entries[i];
		uint32_t level = entry->eax >> 5 & 7;

		if (entry->function != leaf || (entry->eax & 0x1f) == 0)
			continue;
		uint32_t sharing = level < 3 ? place->threads : place->vcpus;

		entry->eax = with_field(entry->eax, 14, 12, sharing - 1);
		if (place->vendor == VENDOR_INTEL)
			entry->eax =
				with_field(entry->eax, 26, 6, place->vcpus / place->threads - 1);
	}
}

static void set_kvm_features(struct kvm_cpuid2 *list)
{
	struct kvm_cpuid_entry2 *leaf = find(list, LEAF_KVM_FEATURES, 0);

	/* vCPUs share host processors: a guest that spins instead of halting would harm its neighbours. */
	if (leaf)
		leaf->edx &= ~KVM_HINTS_REALTIME_;
}

static void set_brand(struct kvm_cpuid2 *list, const char brand[48])
{
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 *entry = find_or_add(list, LEAF_BRAND + i, 0, 0);

		if (entry)
			memcpy(&entry->eax, brand + 16 * i, 16);
	}
}

/* The leaf reaches at least this far. */
static void raise_maximum(struct kvm_cpuid2 *list, uint32_t first, uint32_t leaf)
{
	struct kvm_cpuid_entry2 *entry = find(list, first, 0);

	if (entry && entry->eax < leaf)
		entry->eax = leaf;
}

/* ---- Intel ---- */

/* "Intel(R) Xeon(R) Processor", with the frequency that the host's own brand names, if it does. */
static void set_intel_brand(struct kvm_cpuid2 *list)
{
	static const char generic[] = "Intel(R) Xeon(R) Processor";
	char host[49] = {0};
	char brand[48] = {0};

	for (uint32_t i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *entry = find(list, LEAF_BRAND + i, 0);

		if (entry)
			memcpy(host + 16 * i, &entry->eax, 16);
	}
	const char *frequency = strstr(host, " @ ");
	size_t room = sizeof(brand) - sizeof(generic);

	memcpy(brand, generic, sizeof(generic));
	if (frequency && strlen(frequency) <= room)
		memcpy(brand + sizeof(generic) - 1, frequency, strlen(frequency));
	set_brand(list, brand);
}

static void normalise_intel(struct kvm_cpuid2 *list, const struct place *place)
{
	const struct kvm_cpuid_entry2 *vendor = find(list, LEAF_VENDOR, 0);
	struct kvm_cpuid_entry2 *leaf = find(list, LEAF_POWER, 0);

	set_cache_sharing(list, LEAF_CACHES, place);
	if (leaf) {
		leaf->eax = with_bit(leaf->eax, 1, false); /* turbo */
		leaf->ecx = with_bit(leaf->ecx, 3, false); /* energy bias */
	}
	leaf = find(list, LEAF_EXTENDED_FEATURES, 0);
	if (leaf) {
		leaf->ebx = with_bit(leaf->ebx, 6, true);  /* FPU data pointer on exceptions only */
		leaf->ebx = with_bit(leaf->ebx, 13, true); /* FPU CS and DS deprecated */
		leaf->ecx = with_bit(leaf->ecx, 5, false); /* WAITPKG: a wait without an exit */
	}
	clear_leaf(list, LEAF_PERFORMANCE);
	if (vendor && vendor->eax >= LEAF_TOPOLOGY_V2)
		set_topology(list, LEAF_TOPOLOGY_V2, place);
	set_intel_brand(list);
}

/* ---- AMD ---- */

static void set_amd_topology(struct kvm_cpuid2 *list, const struct place *place)
{
	struct kvm_cpuid_entry2 *leaf = find(list, LEAF_SIZES, 0);

	if (leaf) {
		leaf->ecx = with_field(leaf->ecx, 0, 8, place->vcpus - 1);
		leaf->ecx = with_field(leaf->ecx, 12, 4, place->vcpu_bits);
	}
	leaf = find_or_add(list, LEAF_AMD_TOPOLOGY, 0, 0);
	if (leaf) {
		leaf->eax = place->index;
		leaf->ebx = place->index / place->threads | (place->threads - 1) << 8;
		leaf->ecx = 0; /* node 0 of 1 */
		leaf->edx = 0;
	}
	raise_maximum(list, LEAF_EXT_VENDOR, LEAF_AMD_TOPOLOGY);
}

static void normalise_amd(struct kvm_cpuid2 *list, const struct place *place)
{
	static const char brand[48] = "AMD EPYC";
	struct kvm_cpuid_entry2 *leaf = find(list, LEAF_EXTENDED_FEATURES, 0);

	if (leaf)
		leaf->edx = with_bit(leaf->edx, 29, false); /* ARCH_CAPABILITIES is Intel's */
	leaf = find(list, LEAF_EXT_FEATURES, 0);
	if (leaf) {
		leaf->ecx = with_bit(leaf->ecx, 1, place->vcpus > 1); /* CmpLegacy */
		leaf->ecx = with_bit(leaf->ecx, 2, false);            /* SVM */
		leaf->ecx = with_bit(leaf->ecx, 22, true);            /* topology extensions */
	}
	clear_leaf(list, LEAF_SVM);
	set_amd_topology(list, place);
	set_cache_sharing(list, LEAF_AMD_CACHES, place);
	set_brand(list, brand);
}

/* ---- all of it ---- */

static enum cpu_vendor vendor_of(struct kvm_cpuid2 *list)
{
	const struct kvm_cpuid_entry2 *leaf = find(list, LEAF_VENDOR, 0);
	char name[12];

	if (!leaf)
		return VENDOR_OTHER;
	memcpy(name, &leaf->ebx, 4);
	memcpy(name + 4, &leaf->edx, 4);
	memcpy(name + 8, &leaf->ecx, 4);
	if (memcmp(name, "GenuineIntel", sizeof(name)) == 0)
		return VENDOR_INTEL;
	if (memcmp(name, "AuthenticAMD", sizeof(name)) == 0)
		return VENDOR_AMD;
	return VENDOR_OTHER;
}

static void normalise(struct kvm_cpuid2 *list, const struct place *place)
{
	set_features(list, place);
	set_topology(list, LEAF_TOPOLOGY, place);
	raise_maximum(list, LEAF_VENDOR, LEAF_TOPOLOGY);
	set_kvm_features(list);
	if (place->vendor == VENDOR_INTEL)
		normalise_intel(list, place);
	if (place->vendor == VENDOR_AMD)
		normalise_amd(list, place);
}

/* Refused on processors without AMX and on kernels before 5.17: both are fine. */
void cpu_allow_amx(void)
{
	(void)syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, 18 /* XTILEDATA */);
}

struct kvm_cpuid2 *cpu_supported_cpuid(int kvm_fd, struct error *err)
{
	struct kvm_cpuid2 *supported =
		calloc(1, sizeof(*supported) + KVM_ENTRIES * sizeof(supported->entries[0]));

	if (!supported) {
		error_set_os(err, -ENOMEM, "no memory for CPUID");
		return NULL;
	}
	supported->nent = KVM_ENTRIES;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, supported) < 0) {
		error_set_errno(err, "KVM_GET_SUPPORTED_CPUID failed");
		free(supported);
		return NULL;
	}
	return supported;
}

struct kvm_cpuid2 *cpu_make_cpuid(const struct kvm_cpuid2 *supported, unsigned index,
				  const struct cpu_topology *topology, struct error *err)
{
	struct kvm_cpuid2 *list;
	struct place place = {
		.index = index,
		.vcpus = topology->vcpu_count,
		.threads = topology->smt && topology->vcpu_count > 1 ? 2 : 1,
		.vcpu_bits = bits_for(topology->vcpu_count),
	};

	if (supported->nent > KVM_ENTRIES) {
		error_set(err, -EINVAL, "%u CPUID entries, at most %u are handled", supported->nent,
			  KVM_ENTRIES);
		return NULL;
	}
	list = calloc(1, sizeof(*list) + CPUID_CAPACITY * sizeof(list->entries[0]));
	if (!list) {
		error_set_os(err, -ENOMEM, "no memory for CPUID");
		return NULL;
	}
	list->nent = supported->nent;
	memcpy(list->entries, supported->entries, supported->nent * sizeof(list->entries[0]));
	place.thread_bits = bits_for(place.threads);
	place.vendor = vendor_of(list);
	normalise(list, &place);
	return list;
}

int cpu_set_cpuid(int vcpu_fd, const struct kvm_cpuid2 *supported, unsigned index,
		  const struct cpu_topology *topology, struct error *err)
{
	cleanup_free struct kvm_cpuid2 *list = cpu_make_cpuid(supported, index, topology, err);

	if (!list)
		return err->code;
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, list) < 0)
		return error_set_errno(err, "KVM_SET_CPUID2 for vCPU %u failed", index);
	return 0;
}
