// SPDX-License-Identifier: Apache-2.0
/* The VM descriptor and its ioctls. */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

#define CREATE_VM_TRIES 5

/* What a machine cannot do without, each with the name that the error shows. */
static const struct {
	int cap;
	const char *name;
} needed_caps[] = {
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
	{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
	{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
	{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

static int check_caps(int kvm_fd, struct error *err)
{
	for (size_t i = 0; i < sizeof(needed_caps) / sizeof(needed_caps[0]); i++) {
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed_caps[i].cap) <= 0)
			return error_set(err, -ENOTSUP,
					 "KVM on this host lacks %s, which every microVM needs",
					 needed_caps[i].name);
	}
	return 0;
}

/* A signal may interrupt the creation; the kernel then wants it tried again. */
static int create_vm(int kvm_fd)
{
	int vm_fd = -1;

	for (int i = 0; i < CREATE_VM_TRIES && vm_fd < 0; i++) {
		vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
		if (vm_fd < 0 && errno != EINTR)
			break;
	}
	return vm_fd;
}

int kvm_open_device(struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	error_set_errno(err, "Error creating KVM object");
	size_t used = strlen(err->text);
	strncat(err->text,
		" Make sure the user launching the bantam process is configured on the "
		"/dev/kvm file's ACL.",
		sizeof(err->text) - used - 1);
	return err->code;
}

int kvm_open(struct kvm *kvm, struct error *err)
{
	cleanup_fd int kvm_fd = kvm_open_device(err);

	if (kvm_fd < 0)
		return err->code;
	int ret = check_caps(kvm_fd, err);

	if (ret)
		return ret;
	int run_bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (run_bytes <= 0)
		return error_set_errno(err, "KVM_GET_VCPU_MMAP_SIZE failed");
	cleanup_fd int vm_fd = create_vm(kvm_fd);

	if (vm_fd < 0)
		return error_set_errno(err, "KVM_CREATE_VM failed");
	/* Intel without unrestricted guest mode needs a page for real mode's TSS and one for its page table. */
	uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP;

	if (ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(vm_fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_KVM_TSS) < 0)
		return error_set_errno(err, "KVM_SET_TSS_ADDR failed");
	kvm->kvm_fd = steal_fd(&kvm_fd);
	kvm->vm_fd = steal_fd(&vm_fd);
	kvm->run_bytes = (uint32_t)run_bytes;
	return 0;
}

void kvm_close(struct kvm *kvm)
{
	close_fd(kvm->vm_fd);
	close_fd(kvm->kvm_fd);
	*kvm = (struct kvm){.kvm_fd = -1, .vm_fd = -1};
}

int kvm_settle_memory_map(const struct kvm *kvm, struct error *err)
{
	void *page = mmap(NULL, GUEST_PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.memory_size = GUEST_PAGE_BYTES,
		.userspace_addr = (uintptr_t)page,
	};

	if (page == MAP_FAILED)
		return error_set_errno(err, "no memory for a page");
	int ret = ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);

	slot.memory_size = 0;
	if (ret == 0)
		ret = ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
	if (ret < 0)
		error_set_errno(err, "KVM_SET_USER_MEMORY_REGION failed");
	munmap(page, GUEST_PAGE_BYTES);
	return ret < 0 ? err->code : 0;
}

int kvm_add_memory(const struct kvm *kvm, const struct guest_memory *mem, bool dirty_log,
		   struct error *err)
{
	for (unsigned i = 0; i < mem->region_count; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.flags = dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = mem->regions[i].start.v,
			.memory_size = mem->regions[i].size_bytes,
			.userspace_addr = (uintptr_t)mem->regions[i].host,
		};

		if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return error_set_errno(err,
					       "KVM refused %llu bytes of guest memory at 0x%llx",
					       (unsigned long long)slot.memory_size,
					       (unsigned long long)slot.guest_phys_addr);
	}
	return 0;
}

/* As in the kernel's headers since Linux 6.10. */
struct pre_fault_memory {
	uint64_t gpa, size, flags, padding[5];
};
#define PRE_FAULT_MEMORY     _IOWR(KVMIO, 0xd5, struct pre_fault_memory)
#define CAP_PRE_FAULT_MEMORY 236

int kvm_prefault(const struct kvm *kvm, int vcpu_fd, gpa_t start, uint64_t bytes)
{
	struct pre_fault_memory range = {.gpa = start.v, .size = bytes};

	if (ioctl(kvm->kvm_fd, KVM_CHECK_EXTENSION, CAP_PRE_FAULT_MEMORY) <= 0)
		return -ENOTSUP;
	/* The kernel moves the range's start on, and may stop after any page. */
	while (range.size > 0) {
		if (ioctl(vcpu_fd, PRE_FAULT_MEMORY, &range) < 0 && errno != EINTR &&
		    errno != EAGAIN)
			return errno == EOPNOTSUPP ? -ENOTSUP : -errno;
	}
	return 0;
}

static int collect_slot(const struct kvm *kvm, struct guest_memory *mem, unsigned index,
			uint64_t *log, struct error *err)
{
	const struct guest_region *region = &mem->regions[index];
	uint64_t first = (uint64_t)(region->host - mem->mapping) / GUEST_PAGE_BYTES;
	uint64_t words = align_up(region->size_bytes / GUEST_PAGE_BYTES, 64) / 64;
	struct kvm_dirty_log request = {.slot = index, .dirty_bitmap = log};

	/* boot_ram_layout() cuts RAM at multiples of gigabytes only, so both bitmaps have the same words. */
	if (first % 64 != 0)
		return error_set(err, -EINVAL, "region %u begins in the midst of a bitmap's word",
				 index);
	if (ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &request) < 0)
		return error_set_errno(err, "KVM_GET_DIRTY_LOG failed");
	for (uint64_t i = 0; i < words; i++)
		mem->dirty[first / 64 + i] |= log[i];
	return 0;
}

int kvm_collect_dirty(const struct kvm *kvm, struct guest_memory *mem, struct error *err)
{
	uint64_t *log = calloc(align_up(guest_memory_pages(mem), 64) / 64, sizeof(log[0]));
	int ret = log ? 0 : error_set_os(err, -ENOMEM, "no memory for KVM's log of pages");

	for (unsigned i = 0; log && i < mem->region_count && !ret; i++)
		ret = collect_slot(kvm, mem, i, log, err);
	free(log);
	return ret;
}

int kvm_create_irqchip(const struct kvm *kvm, struct error *err)
{
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return error_set_errno(err, "KVM_CREATE_IRQCHIP failed");
	return 0;
}

int kvm_create_vcpu(const struct kvm *kvm, unsigned index, struct error *err)
{
	int fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);

	if (fd < 0)
		return error_set_errno(err, "KVM_CREATE_VCPU %u failed", index);
	return fd;
}

int kvm_bind_irq(const struct kvm *kvm, const struct irq_line *line, struct error *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)line->eventfd, .gsi = line->gsi};

	if (ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0)
		return error_set_errno(err, "KVM_IRQFD for interrupt %u failed", line->gsi);
	return 0;
}

int kvm_bind_ioeventfd(const struct kvm *kvm, gpa_t addr, uint32_t value, int eventfd,
		       struct error *err)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = value,
		.addr = addr.v,
		.len = sizeof(uint32_t),
		.fd = eventfd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd) < 0)
		return error_set_errno(err, "KVM_IOEVENTFD at 0x%llx failed",
				       (unsigned long long)addr.v);
	return 0;
}
