// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel loaders (ELF and bzImage) over arbitrary files, and the boot parameters for what they take. RAM is small,
 * so that its end is easily reached, and lies between pages that nobody may touch.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

#define RAM_BYTES   MIB(4)
#define GUARD_BYTES MIB(1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *map_ram(void)
{
	uint8_t *all = mmap(NULL, RAM_BYTES + 2 * GUARD_BYTES, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED || mprotect(all + GUARD_BYTES, RAM_BYTES, PROT_READ | PROT_WRITE) < 0)
		abort();
	return all + GUARD_BYTES;
}

static void put_file(int fd, const uint8_t *data, size_t size)
{
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
}

/* What a loader promises of a kernel that it took. */
static void check_kernel(const struct boot_kernel *kernel)
{
	if (kernel->entry.v < LAYOUT_HIGH_RAM || kernel->entry.v >= kernel->end.v ||
	    kernel->end.v > RAM_BYTES || kernel->setup_header_bytes > sizeof(kernel->setup_header))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *ram;
	static int fd = -1;

	if (fd < 0) {
		ram = map_ram();
		fd = memfd_create("kernel", MFD_CLOEXEC);
	}
	struct guest_memory mem = {.regions = {{gpa(0), RAM_BYTES, ram}},
				   .region_count = 1,
				   .total_bytes = RAM_BYTES};
	struct boot_kernel kernel;
	struct boot_initrd initrd = {.size_bytes = 0};
	struct error err = {0};

	put_file(fd, data, size);
	int ret = boot_load_kernel(&mem, fd, &kernel, &err);

	if ((ret != 0) != (err.code != 0) || (ret != 0) != (err.text[0] != 0))
		abort();
	if (ret)
		return 0;
	check_kernel(&kernel);
	if (boot_load_initrd(&mem, fd, &kernel, &initrd, &err) == 0 &&
	    initrd.start.v < kernel.end.v)
		abort();
	if (boot_write_params(&mem, &kernel, &initrd, "quiet", gpa(LAYOUT_RSDP), &err))
		abort();
	return 0;
}
