// SPDX-License-Identifier: Apache-2.0
/* Loading what the guest starts from: the kernel, whichever format it has, and the initrd. */
#include "vmm/arch/x86_64/boot.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "vmm/arch/x86_64/boot_internal.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

#define PAGE_BYTES 4096u

int boot_read_at(int fd, uint64_t offset, void *out, uint64_t len, struct error *err)
{
	uint8_t *to = out;

	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return 1;
	while (len > 0) {
		ssize_t got = pread(fd, to, len, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_set_errno(err, "reading %llu bytes at offset 0x%llx failed",
					       (unsigned long long)len, (unsigned long long)offset);
		if (got == 0)
			return 1;
		to += got;
		offset += (uint64_t)got;
		len -= (uint64_t)got;
	}
	return 0;
}

static int load_by_format(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
			  struct error *err)
{
	unsigned char magic[SELFMAG];
	int ret = boot_read_at(fd, 0, magic, sizeof(magic), err);

	if (ret < 0)
		return ret;
	if (ret > 0)
		return error_set(err, -ENOEXEC,
				 "the file is shorter than 4 bytes; expected an ELF vmlinux or a "
				 "bzImage");
	if (memcmp(magic, ELFMAG, SELFMAG) == 0)
		return boot_load_elf(mem, fd, kernel, err);
	return boot_load_bzimage(mem, fd, kernel, err);
}

int boot_load_kernel(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
		     struct error *err)
{
	*kernel = (struct boot_kernel){.protocol = BOOT_PVH};
	int ret = load_by_format(mem, fd, kernel, err);

	if (ret)
		error_prefix(err, "Cannot load the kernel: ");
	return ret;
}

static int initrd_size(int fd, uint64_t *size_bytes, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, "fstat failed");
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "not a regular file");
	if (st.st_size == 0)
		return error_set(err, -EINVAL, "the file is empty");
	*size_bytes = (uint64_t)st.st_size;
	return 0;
}

static int load_initrd(const struct guest_memory *mem, int fd, const struct boot_kernel *kernel,
		       struct boot_initrd *initrd, struct error *err)
{
	uint64_t size_bytes = 0;
	int ret = initrd_size(fd, &size_bytes, err);

	if (ret)
		return ret;
	uint64_t ram_end = mem->regions[0].size_bytes;
	uint64_t start = size_bytes <= ram_end ? align_down(ram_end - size_bytes, PAGE_BYTES) : 0;
	void *host = start >= kernel->end.v ? guest_memory_at(mem, gpa(start), size_bytes) : NULL;

	if (!host)
		return error_set(err, -ENOMEM,
				 "%llu bytes do not fit between the kernel's end at 0x%llx and the "
				 "end of low memory at 0x%llx; give the microVM more memory",
				 (unsigned long long)size_bytes, (unsigned long long)kernel->end.v,
				 (unsigned long long)ram_end);
	ret = boot_read_at(fd, 0, host, size_bytes, err);
	if (ret > 0)
		return error_set(err, -EIO, "the file became shorter while it was read");
	if (ret == 0)
		*initrd = (struct boot_initrd){gpa(start), size_bytes};
	return ret;
}

int boot_load_initrd(const struct guest_memory *mem, int fd, const struct boot_kernel *kernel,
		     struct boot_initrd *initrd, struct error *err)
{
	*initrd = (struct boot_initrd){.size_bytes = 0};
	int ret = load_initrd(mem, fd, kernel, initrd, err);

	if (ret)
		error_prefix(err, "Cannot load the initrd: ");
	return ret;
}
