// SPDX-License-Identifier: Apache-2.0
/* Kernel and initrd loaders against good and broken files; the boot structures that kernels read. */
#include "tests/unit/unit.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

#define RAM_BYTES  MIB(64)
#define TEXT_AT    MIB(16)
#define TEXT_BYTES 0x3000u
#define NOTE_AT    0x400u
#define DATA_AT    0x1000u

/* Filled by setup(); RAM is fresh for each test. */
struct fixture {
	struct guest_memory mem;
	struct error err;
	struct boot_kernel kernel;
	int fd;
};

static int setup(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));
	struct guest_region region = {.start = {0}, .size_bytes = RAM_BYTES};

	*state = fix;
	fix->fd = memfd_create("kernel", MFD_CLOEXEC);
	return guest_memory_map(&fix->mem, &region, 1, GUEST_PAGES_DEFAULT, &fix->err);
}

static int teardown(void **state)
{
	struct fixture *fix = *state;

	close(fix->fd);
	guest_memory_free(&fix->mem);
	free(fix);
	return 0;
}

static void put_file(struct fixture *fix, uint64_t offset, const void *bytes, size_t len)
{
	assert_int_equal(pwrite(fix->fd, bytes, len, (off_t)offset), len);
}

/* ---- ELF ---- */

/* A kernel with one segment of text (and .bss behind it), a second one of data, and a PVH note. */
struct elf_file {
	Elf64_Ehdr header;
	Elf64_Phdr text, data, note;
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint64_t value;
	} __attribute__((packed)) pvh;
};

static struct elf_file good_elf(void)
{
	struct elf_file file = {
		.header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB},
			   .e_machine = EM_X86_64,
			   .e_entry = TEXT_AT,
			   .e_phoff = offsetof(struct elf_file, text),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 3},
		.text = {.p_type = PT_LOAD,
			 .p_offset = DATA_AT,
			 .p_paddr = TEXT_AT,
			 .p_filesz = TEXT_BYTES,
			 .p_memsz = TEXT_BYTES + 0x5000},
		.data = {.p_type = PT_LOAD,
			 .p_offset = DATA_AT + TEXT_BYTES,
			 .p_paddr = TEXT_AT + MIB(2),
			 .p_filesz = 0x10,
			 .p_memsz = 0x1234},
		.note = {.p_type = PT_NOTE,
			 .p_offset = NOTE_AT,
			 .p_filesz = sizeof(file.pvh),
			 .p_align = 4},
		.pvh = {.head = {.n_namesz = 4, .n_descsz = 8, .n_type = 18},
			.name = "Xen",
			.value = TEXT_AT + 0x100},
	};

	return file;
}

static void write_elf(struct fixture *fix, const struct elf_file *file)
{
	uint8_t bytes[TEXT_BYTES + 0x10];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 1);
	assert_int_equal(ftruncate(fix->fd, 0), 0);
	put_file(fix, 0, file, offsetof(struct elf_file, pvh));
	put_file(fix, NOTE_AT, &file->pvh, sizeof(file->pvh));
	put_file(fix, DATA_AT, bytes, sizeof(bytes));
}

static void expect_refused(struct fixture *fix, int code, const char *text)
{
	int ret = boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err);

	if (ret != code || !strstr(fix->err.text, text))
		print_error("got %d \"%s\", wanted \"%s\"\n", ret, fix->err.text, text);
	assert_int_equal(ret, code);
	assert_int_equal(fix->err.code, code);
	assert_non_null(strstr(fix->err.text, text));
	assert_ptr_equal(strstr(fix->err.text, "Cannot load the kernel: "), fix->err.text);
}

static void expect_elf_refused(struct fixture *fix, const struct elf_file *file, const char *text)
{
	write_elf(fix, file);
	expect_refused(fix, -ENOEXEC, text);
}

static void test_elf_pvh(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	write_elf(fix, &file);
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
	assert_int_equal(fix->kernel.protocol, BOOT_PVH);
	assert_int_equal(fix->kernel.entry.v, TEXT_AT + 0x100);
	assert_int_equal(fix->kernel.end.v, TEXT_AT + MIB(2) + 0x1234);

	const uint8_t *text = guest_memory_at(&fix->mem, gpa(TEXT_AT), TEXT_BYTES + 1);
	const uint8_t *data = guest_memory_at(&fix->mem, gpa(TEXT_AT + MIB(2)), 0x11);

	for (size_t i = 0; i < TEXT_BYTES; i++)
		assert_int_equal(text[i], (uint8_t)(i * 7 + 1));
	assert_int_equal(text[TEXT_BYTES], 0);
	assert_int_equal(data[0], (uint8_t)(TEXT_BYTES * 7 + 1));
	assert_int_equal(data[0x10], 0);
}

/* Other notes in front, an entry address of four bytes; what is behind it does not matter. */
static void test_elf_pvh_among_notes(void **state)
{
	static const uint8_t notes[] = {
		4, 0, 0, 0, 3, 0, 0, 0, 1,  0, 0, 0, 'G', 'N', 'U', 0, 1, 2, 3, 0,
		4, 0, 0, 0, 1, 0, 0, 0, 6,  0, 0, 0, 'X', 'e', 'n', 0, 9, 0, 0, 0,
		4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0, 0, 2, 0, 1,
	};
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	file.note.p_filesz = MIB(64);
	write_elf(fix, &file);
	put_file(fix, NOTE_AT, notes, sizeof(notes));
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
	assert_int_equal(fix->kernel.protocol, BOOT_PVH);
	assert_int_equal(fix->kernel.entry.v, TEXT_AT + 0x200);
}

static void test_elf_linux(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	file.note.p_type = PT_NULL;
	write_elf(fix, &file);
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
	assert_int_equal(fix->kernel.protocol, BOOT_LINUX_64);
	assert_int_equal(fix->kernel.entry.v, TEXT_AT);

	/* The same note of somebody else's name does not count. */
	file = good_elf();
	memcpy(file.pvh.name, "Zen", 4);
	write_elf(fix, &file);
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
	assert_int_equal(fix->kernel.protocol, BOOT_LINUX_64);
}

static void test_elf_header_refused(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	file.header.e_ident[EI_CLASS] = ELFCLASS32;
	expect_elf_refused(fix, &file, "not 64-bit little-endian (class 1");
	file = good_elf();
	file.header.e_ident[EI_DATA] = ELFDATA2MSB;
	expect_elf_refused(fix, &file, "not 64-bit little-endian");
	file = good_elf();
	file.header.e_machine = EM_AARCH64;
	expect_elf_refused(fix, &file, "for machine 183, not x86_64 (62)");
	file = good_elf();
	file.header.e_phentsize = 32;
	expect_elf_refused(fix, &file, "headers of 32 bytes, expected 56");
	file = good_elf();
	file.header.e_phnum = 0;
	expect_elf_refused(fix, &file, "0 ELF program headers, expected 1 to 64");
	file.header.e_phnum = 0xffff;
	expect_elf_refused(fix, &file, "65535 ELF program headers");
	file = good_elf();
	file.header.e_phoff = UINT64_MAX - 8;
	expect_elf_refused(fix, &file, "ends before its 3 program headers");
	file.header.e_phoff = MIB(1);
	expect_elf_refused(fix, &file, "ends before its 3 program headers");
	file = good_elf();
	file.text.p_type = file.data.p_type = PT_NULL;
	expect_elf_refused(fix, &file, "no segment to load");
}

static void test_elf_segments_refused(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	file.data.p_filesz = file.data.p_memsz + 1;
	expect_elf_refused(fix, &file, "segment 1 has 0x1235 bytes in the file for 0x1234");
	file = good_elf();
	file.text.p_paddr = LAYOUT_HIGH_RAM - 1;
	expect_elf_refused(fix, &file, "segment 0 is at 0xfffff, below 0x100000");
	file = good_elf();
	file.data.p_paddr = RAM_BYTES - 0x1000;
	expect_elf_refused(fix, &file, "outside the memory that ends at 0x4000000");
	file.data.p_paddr = UINT64_MAX - 1;
	expect_elf_refused(fix, &file, "outside the memory");
	file = good_elf();
	file.data.p_memsz = UINT64_MAX;
	expect_elf_refused(fix, &file, "segment 1 needs 0xffffffffffffffff bytes");
	file = good_elf();
	file.data.p_paddr = TEXT_AT + TEXT_BYTES;
	expect_elf_refused(fix, &file, "segments 0 and 1 overlap");
	file = good_elf();
	file.data.p_offset = MIB(8);
	expect_elf_refused(fix, &file, "the file ends inside segment 1");
	file.data.p_offset = UINT64_MAX;
	expect_elf_refused(fix, &file, "the file ends inside segment 1");
}

static void test_elf_entry_refused(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	file.pvh.value = MIB(1);
	expect_elf_refused(fix, &file, "the PVH entry 0x100000 is in none");
	file.pvh.value = UINT64_MAX;
	expect_elf_refused(fix, &file, "the PVH entry 0xffffffffffffffff is in none");
	file = good_elf();
	file.note.p_type = PT_NULL;
	file.header.e_entry = TEXT_AT + TEXT_BYTES + 0x5000;
	expect_elf_refused(fix, &file, "the ELF entry 0x1008000 is in none");
}

static void test_elf_notes_refused(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();

	file.pvh.head.n_namesz = UINT32_MAX;
	expect_elf_refused(fix, &file, "runs past the notes' end");
	file = good_elf();
	file.pvh.head.n_descsz = UINT32_MAX;
	expect_elf_refused(fix, &file, "runs past the notes' end");
	file.pvh.head.n_descsz = 9;
	expect_elf_refused(fix, &file, "runs past the notes' end");
	file.pvh.head.n_descsz = 2;
	expect_elf_refused(fix, &file, "the PVH entry note has 2 bytes, expected");
	file = good_elf();
	file.note.p_offset = MIB(1);
	expect_elf_refused(fix, &file, "the file ends inside its notes");
	file.note.p_offset = UINT64_MAX;
	file.note.p_filesz = UINT64_MAX;
	expect_elf_refused(fix, &file, "the file ends inside its notes");
	/* Empty notes without end: the file is a hole. */
	file = good_elf();
	file.note.p_offset = MIB(1);
	file.note.p_filesz = GIB(1);
	write_elf(fix, &file);
	assert_int_equal(ftruncate(fix->fd, MIB(2048)), 0);
	expect_refused(fix, -ENOEXEC, "more than 1024 ELF notes");
}

/* However short the file is cut, it is refused, and nothing below 1 MiB is written. */
static void test_elf_cut(void **state)
{
	struct fixture *fix = *state;
	struct elf_file file = good_elf();
	uint32_t whole = DATA_AT + TEXT_BYTES + 0x10;

	write_elf(fix, &file);
	for (uint32_t len = whole - 1; len > 0; len -= len > 0x500 ? 0x100 : 1) {
		assert_int_equal(ftruncate(fix->fd, len), 0);
		assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err),
				 -ENOEXEC);
	}
	assert_int_equal(ftruncate(fix->fd, 0), 0);
	expect_refused(fix, -ENOEXEC, "shorter than 4 bytes");
	const uint8_t *low = guest_memory_at(&fix->mem, gpa(0), LAYOUT_HIGH_RAM);

	for (size_t i = 0; i < LAYOUT_HIGH_RAM; i++)
		assert_int_equal(low[i], 0);
}

static void test_unreadable(void **state)
{
	struct fixture *fix = *state;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	int saved = fix->fd;

	fix->fd = ends[0];
	expect_refused(fix, -ESPIPE, "failed: Illegal seek");
	fix->fd = saved;
	close(ends[0]);
	close(ends[1]);
}

/* ---- bzImage ---- */

#define SETUP_SECTORS 3u
#define PAYLOAD_AT    ((SETUP_SECTORS + 1) * 512u)
#define PAYLOAD_BYTES 0x1000u

static struct setup_header good_header(void)
{
	return (struct setup_header){
		.setup_sects = SETUP_SECTORS,
		.syssize = PAYLOAD_BYTES / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* the header ends at 0x202 + 0x6a */
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.kernel_alignment = MIB(2),
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = MIB(16),
		.init_size = MIB(20),
	};
}

static void write_bzimage(struct fixture *fix, const struct setup_header *header)
{
	uint8_t payload[PAYLOAD_BYTES];

	memset(payload, 0x5a, sizeof(payload));
	assert_int_equal(ftruncate(fix->fd, 0), 0);
	put_file(fix, 0x1f1, header, sizeof(*header));
	put_file(fix, PAYLOAD_AT, payload, sizeof(payload));
}

static void expect_bzimage_refused(struct fixture *fix, const struct setup_header *header,
				   const char *text)
{
	write_bzimage(fix, header);
	expect_refused(fix, -ENOEXEC, text);
}

static void test_bzimage(void **state)
{
	struct fixture *fix = *state;
	struct setup_header header = good_header();

	write_bzimage(fix, &header);
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
	assert_int_equal(fix->kernel.protocol, BOOT_LINUX_BZIMAGE);
	assert_int_equal(fix->kernel.entry.v, MIB(16) + 0x200);
	assert_int_equal(fix->kernel.end.v, MIB(36));
	assert_int_equal(fix->kernel.setup_header_bytes, 0x26c - 0x1f1);
	assert_memory_equal(fix->kernel.setup_header, &header, sizeof(header));
	const uint8_t *payload = guest_memory_at(&fix->mem, gpa(MIB(16)), PAYLOAD_BYTES + 1);

	assert_int_equal(payload[0], 0x5a);
	assert_int_equal(payload[PAYLOAD_BYTES - 1], 0x5a);
	assert_int_equal(payload[PAYLOAD_BYTES], 0);

	/* The last paragraph of 16 bytes may be incomplete. */
	assert_int_equal(ftruncate(fix->fd, PAYLOAD_AT + PAYLOAD_BYTES - 15), 0);
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
}

static void test_bzimage_header_refused(void **state)
{
	struct fixture *fix = *state;
	struct setup_header header = good_header();

	header.boot_flag = 0;
	expect_bzimage_refused(fix, &header, "neither ELF nor a bzImage (boot flag 0x0000");
	header = good_header();
	header.header ^= 1;
	expect_bzimage_refused(fix, &header, "neither ELF nor a bzImage");
	header = good_header();
	header.version = 0x020b;
	expect_bzimage_refused(fix, &header,
			       "does not provide a 64-bit entry point: boot protocol 2.11");
	header = good_header();
	header.xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
	expect_bzimage_refused(fix, &header,
			       "does not provide a 64-bit entry point: xloadflags 0x2");
	header = good_header();
	header.loadflags = 0;
	expect_bzimage_refused(fix, &header, "not to be loaded high");
	header = good_header();
	header.jump = 0xffeb;
	expect_bzimage_refused(fix, &header, "setup header ends at 0x301");
	header.jump = 0x10eb;
	expect_bzimage_refused(fix, &header, "setup header ends at 0x212");
}

static void test_bzimage_place_refused(void **state)
{
	struct fixture *fix = *state;
	struct setup_header header = good_header();

	header.pref_address = 0;
	expect_bzimage_refused(fix, &header, "prefers address 0x0, below 0x100000");
	header.pref_address = UINT64_MAX;
	expect_bzimage_refused(fix, &header, "outside the memory up to 0x4000000");
	header.pref_address = RAM_BYTES - MIB(1);
	expect_bzimage_refused(fix, &header, "outside the memory");
	header = good_header();
	header.init_size = UINT32_MAX;
	expect_bzimage_refused(fix, &header, "needs 0xffffffff bytes at 0x1000000");
	header = good_header();
	header.syssize = UINT32_MAX;
	expect_bzimage_refused(fix, &header, "is cut off");
	header.syssize = 0;
	expect_bzimage_refused(fix, &header, "no protected-mode code");
	header = good_header();
	header.setup_sects = 255;
	expect_bzimage_refused(fix, &header, "is cut off");
	header = good_header();
	write_bzimage(fix, &header);
	assert_int_equal(ftruncate(fix->fd, PAYLOAD_AT + PAYLOAD_BYTES - 16), 0);
	expect_refused(fix, -ENOEXEC, "is cut off");
	assert_int_equal(ftruncate(fix->fd, 0x250), 0);
	expect_refused(fix, -ENOEXEC, "neither ELF nor long enough");
}

/* ---- initrd ---- */

static void test_initrd(void **state)
{
	struct fixture *fix = *state;
	struct boot_initrd initrd;
	struct boot_kernel kernel = {.end = gpa(MIB(32))};

	assert_int_equal(ftruncate(fix->fd, 0x1801), 0);
	put_file(fix, 0x1800, "z", 1);
	assert_int_equal(boot_load_initrd(&fix->mem, fix->fd, &kernel, &initrd, &fix->err), 0);
	assert_int_equal(initrd.start.v, RAM_BYTES - 0x2000);
	assert_int_equal(initrd.size_bytes, 0x1801);
	assert_int_equal(*(uint8_t *)guest_memory_at(&fix->mem, gpa(initrd.start.v + 0x1800), 1),
			 'z');

	/* It may fill all that the kernel leaves. */
	assert_int_equal(ftruncate(fix->fd, MIB(32)), 0);
	assert_int_equal(boot_load_initrd(&fix->mem, fix->fd, &kernel, &initrd, &fix->err), 0);
	assert_int_equal(initrd.start.v, MIB(32));
}

static void test_initrd_refused(void **state)
{
	struct fixture *fix = *state;
	struct boot_initrd initrd;
	struct boot_kernel kernel = {.end = gpa(MIB(32))};
	const off_t too_big[] = {MIB(32) + 1, RAM_BYTES, RAM_BYTES + 1, INT64_MAX};

	assert_int_equal(boot_load_initrd(&fix->mem, fix->fd, &kernel, &initrd, &fix->err),
			 -EINVAL);
	assert_string_equal(fix->err.text, "Cannot load the initrd: the file is empty");
	for (size_t i = 0; i < sizeof(too_big) / sizeof(too_big[0]); i++) {
		assert_int_equal(ftruncate(fix->fd, too_big[i]), 0);
		assert_int_equal(boot_load_initrd(&fix->mem, fix->fd, &kernel, &initrd, &fix->err),
				 -ENOMEM);
		assert_non_null(strstr(fix->err.text, "do not fit between the kernel's end"));
		assert_int_equal(initrd.size_bytes, 0);
	}
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(boot_load_initrd(&fix->mem, ends[0], &kernel, &initrd, &fix->err),
			 -EINVAL);
	assert_non_null(strstr(fix->err.text, "not a regular file"));
	close(ends[0]);
	close(ends[1]);
}

/* ---- memory ---- */

static void expect_layout(uint64_t size_bytes, unsigned count, const uint64_t (*expected)[2])
{
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX];

	assert_int_equal(boot_ram_layout(size_bytes, regions), count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(regions[i].start.v, expected[i][0]);
		assert_int_equal(regions[i].size_bytes, expected[i][1]);
	}
}

static void test_ram_layout(void **state)
{
	(void)state;
	expect_layout(MIB(128), 1, (const uint64_t[][2]){{0, MIB(128)}});
	expect_layout(GIB(3), 1, (const uint64_t[][2]){{0, GIB(3)}});
	expect_layout(GIB(3) + MIB(1), 2, (const uint64_t[][2]){{0, GIB(3)}, {GIB(4), MIB(1)}});
	expect_layout(GIB(4), 2, (const uint64_t[][2]){{0, GIB(3)}, {GIB(4), GIB(1)}});
	expect_layout(GIB(255), 2, (const uint64_t[][2]){{0, GIB(3)}, {GIB(4), GIB(252)}});
	expect_layout(GIB(1022), 3,
		      (const uint64_t[][2]){{0, GIB(3)}, {GIB(4), GIB(252)}, {GIB(512), GIB(767)}});
	expect_layout(GIB(1022) + 1, 0, NULL);
	expect_layout(0, 0, NULL);
}

/* ---- boot parameters ---- */

static void *at(const struct fixture *fix, uint64_t addr, uint64_t len)
{
	void *host = guest_memory_at(&fix->mem, gpa(addr), len);

	assert_non_null(host);
	return host;
}

static uint64_t read64(const struct fixture *fix, uint64_t addr)
{
	uint64_t value;

	memcpy(&value, at(fix, addr, sizeof(value)), sizeof(value));
	return value;
}

static uint32_t read32(const struct fixture *fix, uint64_t addr)
{
	uint32_t value;

	memcpy(&value, at(fix, addr, sizeof(value)), sizeof(value));
	return value;
}

static void test_params_pvh(void **state)
{
	struct fixture *fix = *state;
	struct boot_kernel kernel = {.protocol = BOOT_PVH};
	struct boot_initrd initrd = {.start = gpa(MIB(50)), .size_bytes = 0x1234};

	assert_int_equal(boot_write_params(&fix->mem, &kernel, &initrd, "quiet", gpa(LAYOUT_RSDP),
					   &fix->err),
			 0);
	assert_string_equal(at(fix, LAYOUT_CMDLINE, 6), "quiet");
	assert_int_equal(read32(fix, 0x6000), 0x336ec578);
	assert_int_equal(read32(fix, 0x6004), 1);
	assert_int_equal(read32(fix, 0x600c), 1);      /* modules */
	assert_int_equal(read64(fix, 0x6010), 0x6040); /* module list */
	assert_int_equal(read64(fix, 0x6018), LAYOUT_CMDLINE);
	assert_int_equal(read64(fix, 0x6020), LAYOUT_RSDP);
	assert_int_equal(read64(fix, 0x6028), 0x7000); /* memory map */
	assert_int_equal(read32(fix, 0x6030), 3);
	assert_int_equal(read64(fix, 0x6040), MIB(50));
	assert_int_equal(read64(fix, 0x6048), 0x1234);
	static const uint64_t map[][3] = {{0, 0x9fc00, 1},
					  {0x9fc00, 0x60400, 2},
					  {MIB(1), RAM_BYTES - MIB(1), 1}};

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(read64(fix, 0x7000 + 24 * i), map[i][0]);
		assert_int_equal(read64(fix, 0x7008 + 24 * i), map[i][1]);
		assert_int_equal(read64(fix, 0x7010 + 24 * i), map[i][2]);
	}
	assert_int_equal(read64(fix, LAYOUT_BOOT_GDT), 0);
	assert_int_equal(read64(fix, LAYOUT_BOOT_GDT + 8), 0x00cf9b000000ffff);
	assert_int_equal(read64(fix, LAYOUT_BOOT_PML4), 0);
}

static void test_params_linux(void **state)
{
	struct fixture *fix = *state;
	struct boot_kernel kernel = {.protocol = BOOT_LINUX_64};
	struct boot_initrd initrd = {.start = gpa(MIB(50)), .size_bytes = 0x1234};
	const struct boot_params *params = at(fix, LAYOUT_ZERO_PAGE, sizeof(*params));

	assert_int_equal(boot_write_params(&fix->mem, &kernel, &initrd, "quiet", gpa(LAYOUT_RSDP),
					   &fix->err),
			 0);
	assert_int_equal(params->hdr.boot_flag, 0xaa55);
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_int_equal(params->hdr.kernel_alignment, 0x1000000);
	assert_int_equal(params->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	assert_int_equal(params->hdr.ramdisk_image, MIB(50));
	assert_int_equal(params->hdr.ramdisk_size, 0x1234);
	assert_int_equal(params->acpi_rsdp_addr, LAYOUT_RSDP);
	assert_int_equal(params->e820_entries, 3);
	assert_int_equal(params->e820_table[2].addr, MIB(1));
	assert_int_equal(params->e820_table[2].size, RAM_BYTES - MIB(1));
	assert_int_equal(params->e820_table[2].type, 1);
	assert_int_equal(params->sentinel, 0);
	assert_int_equal(read64(fix, LAYOUT_BOOT_GDT + 8), 0x00af9b000000ffff);

	/* The first GiB is mapped one to one, and nothing else. */
	assert_int_equal(read64(fix, LAYOUT_BOOT_PML4), LAYOUT_BOOT_PDPT | 3);
	assert_int_equal(read64(fix, LAYOUT_BOOT_PML4 + 8), 0);
	assert_int_equal(read64(fix, LAYOUT_BOOT_PDPT), LAYOUT_BOOT_PD | 3);
	assert_int_equal(read64(fix, LAYOUT_BOOT_PDPT + 8), 0);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(read64(fix, LAYOUT_BOOT_PD + 8 * i), i << 21 | 0x83);
}

static void test_params_bzimage(void **state)
{
	struct fixture *fix = *state;
	struct setup_header header = good_header();
	struct boot_initrd initrd = {.size_bytes = 0};
	const struct boot_params *params = at(fix, LAYOUT_ZERO_PAGE, sizeof(*params));

	write_bzimage(fix, &header);
	assert_int_equal(boot_load_kernel(&fix->mem, fix->fd, &fix->kernel, &fix->err), 0);
	assert_int_equal(boot_write_params(&fix->mem, &fix->kernel, &initrd, "", gpa(0), &fix->err),
			 0);
	header.type_of_loader = 0xff;
	header.cmd_line_ptr = LAYOUT_CMDLINE;
	assert_memory_equal(&params->hdr, &header, sizeof(header));
	assert_int_equal(params->acpi_rsdp_addr, 0);
	assert_int_equal(params->hdr.ramdisk_size, 0);
}

static void test_params_refused(void **state)
{
	struct fixture *fix = *state;
	struct boot_kernel kernel = {.protocol = BOOT_PVH};
	struct boot_initrd initrd = {.size_bytes = 0};
	struct guest_memory tiny = fix->mem;
	char text[LAYOUT_CMDLINE_MAX + 1];

	memset(text, 'x', sizeof(text));
	text[LAYOUT_CMDLINE_MAX] = 0;
	assert_int_equal(boot_write_params(&fix->mem, &kernel, &initrd, text, gpa(0), &fix->err),
			 -E2BIG);
	tiny.regions[0].size_bytes = 0x10000;
	assert_int_equal(boot_write_params(&tiny, &kernel, &initrd, "", gpa(0), &fix->err),
			 -EFAULT);
	assert_non_null(strstr(fix->err.text, "no room for the boot parameters"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_elf_pvh),
		TEST(test_elf_pvh_among_notes),
		TEST(test_elf_linux),
		TEST(test_elf_header_refused),
		TEST(test_elf_segments_refused),
		TEST(test_elf_entry_refused),
		TEST(test_elf_notes_refused),
		TEST(test_elf_cut),
		TEST(test_unreadable),
		TEST(test_bzimage),
		TEST(test_bzimage_header_refused),
		TEST(test_bzimage_place_refused),
		TEST(test_initrd),
		TEST(test_initrd_refused),
		TEST(test_ram_layout),
		TEST(test_params_pvh),
		TEST(test_params_linux),
		TEST(test_params_bzimage),
		TEST(test_params_refused),
	};

	return RUN_TESTS(tests);
}
