// SPDX-License-Identifier: Apache-2.0
/* ACPI and MP tables: every table reachable, every checksum right, every device named; the ACPI compiler agrees. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/arch/x86_64/aml.h"
#include "vmm/arch/x86_64/firmware.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/bytes.h"

#define RAM_BYTES 0x100000u
#define VCPUS     32u

struct fixture {
	uint8_t ram[RAM_BYTES];
	struct guest_memory mem;
	struct firmware_virtio_device virtio[LAYOUT_VIRTIO_MAX];
	struct firmware_machine machine;
	gpa_t rsdp;
	struct error err;
};

static int setup(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));

	*state = fix;
	fix->mem = (struct guest_memory){.regions = {{gpa(0), RAM_BYTES, fix->ram}},
					 .region_count = 1,
					 .total_bytes = RAM_BYTES};
	for (uint32_t i = 0; i < LAYOUT_VIRTIO_MAX; i++)
		fix->virtio[i] = (struct firmware_virtio_device){
			LAYOUT_VIRTIO_MMIO + i * (uint64_t)LAYOUT_VIRTIO_MMIO_BYTES,
			LAYOUT_GSI_VIRTIO_FIRST + i};
	fix->machine = (struct firmware_machine){VCPUS, fix->virtio, LAYOUT_VIRTIO_MAX};
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static uint8_t sum_of(const uint8_t *bytes, uint32_t len)
{
	uint8_t sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return sum;
}

/* The table at addr, if its signature and checksum are right and it lies where tables may. */
static const uint8_t *table_at(const struct fixture *fix, uint64_t addr, const char *signature)
{
	assert_in_range(addr, LAYOUT_ACPI_TABLES, LAYOUT_VMCLOCK - 36);
	const uint8_t *table = fix->ram + addr;
	uint32_t len = get_le32(table + 4);

	assert_memory_equal(table, signature, 4);
	assert_in_range(addr + len, LAYOUT_ACPI_TABLES, LAYOUT_VMCLOCK);
	assert_int_equal(sum_of(table, len), 0);
	assert_memory_equal(table + 10, "BANTAM", 6);
	return table;
}

static const uint8_t *xsdt_of(const struct fixture *fix)
{
	const uint8_t *rsdp = fix->ram + fix->rsdp.v;

	assert_int_equal(fix->rsdp.v, LAYOUT_RSDP);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(get_le32(rsdp + 20), 36);
	assert_int_equal(sum_of(rsdp, 20), 0);
	assert_int_equal(sum_of(rsdp, 36), 0);
	return table_at(fix, get_le64(rsdp + 24), "XSDT");
}

static const uint8_t *fadt_of(const struct fixture *fix)
{
	return table_at(fix, get_le64(xsdt_of(fix) + 36), "FACP");
}

static const uint8_t *madt_of(const struct fixture *fix)
{
	return table_at(fix, get_le64(xsdt_of(fix) + 44), "APIC");
}

static const uint8_t *dsdt_of(const struct fixture *fix)
{
	return table_at(fix, get_le64(fadt_of(fix) + 140), "DSDT");
}

static void write_acpi(struct fixture *fix)
{
	assert_int_equal(firmware_write_acpi(&fix->mem, &fix->machine, &fix->rsdp, &fix->err), 0);
}

static void expect_byte_port(const uint8_t *address, uint64_t port)
{
	static const uint8_t system_io_byte[4] = {1, 8, 0, 1};

	assert_memory_equal(address, system_io_byte, 4);
	assert_int_equal(get_le64(address + 4), port);
}

static void test_fadt(void **state)
{
	struct fixture *fix = *state;

	write_acpi(fix);
	assert_int_equal(get_le32(xsdt_of(fix) + 4), 36 + 2 * 8);
	const uint8_t *fadt = fadt_of(fix);

	assert_int_equal(get_le32(fadt + 4), 276);
	assert_int_equal(fadt[8], 6);
	assert_int_equal(fadt[131], 5);
	/* Keyboard controller; no VGA, no CMOS clock. */
	assert_int_equal(get_le16(fadt + 109), 0x26);
	assert_int_equal(get_le32(fadt + 112), 1u << 20 | 1u << 10 | 1u << 5 | 1u << 4 | 1u);
	expect_byte_port(fadt + 116, LAYOUT_PORT_SLEEP + LAYOUT_SLEEP_RESET);
	assert_int_equal(fadt[128], LAYOUT_RESET_VALUE);
	expect_byte_port(fadt + 244, LAYOUT_PORT_SLEEP + LAYOUT_SLEEP_CONTROL);
	expect_byte_port(fadt + 256, LAYOUT_PORT_SLEEP + LAYOUT_SLEEP_STATUS);
}

static void expect_madt(struct fixture *fix, unsigned vcpus)
{
	unsigned lapics = 0, ioapics = 0, others = 0;

	fix->machine.vcpu_count = vcpus;
	write_acpi(fix);
	const uint8_t *madt = madt_of(fix);
	uint32_t len = get_le32(madt + 4);

	assert_int_equal(get_le32(madt + 36), LAYOUT_LAPIC);
	for (uint32_t i = 44; i < len; i += madt[i + 1]) {
		assert_in_range(madt[i + 1], 6, len - i);
		if (madt[i] == 0) {
			assert_int_equal(madt[i + 3], lapics++);
			assert_int_equal(get_le32(madt + i + 4), 1);
		} else if (madt[i] == 1) {
			assert_int_equal(get_le32(madt + i + 4), LAYOUT_IOAPIC);
			assert_int_equal(get_le32(madt + i + 8), 0);
			ioapics++;
		} else {
			others++;
		}
	}
	assert_int_equal(lapics, vcpus);
	assert_int_equal(ioapics, 1);
	assert_int_equal(others, 1);
}

static void test_madt(void **state)
{
	expect_madt(*state, 1);
	expect_madt(*state, 32);
	expect_madt(*state, 255);
}

static bool holds(const uint8_t *table, const void *bytes, size_t len)
{
	return memmem(table, get_le32(table + 4), bytes, len) != NULL;
}

/* Memory32Fixed and Interrupt as the guest's parser sees them. */
static void expect_virtio_in_dsdt(const uint8_t *dsdt, const struct firmware_virtio_device *device)
{
	uint8_t crs[21] = {0x86, 9, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x89, 6, 0, 3, 1};

	put_le32(crs + 4, (uint32_t)device->base);
	put_le32(crs + 17, device->gsi);
	assert_true(holds(dsdt, crs, sizeof(crs)));
}

static void test_dsdt(void **state)
{
	static const char *const names[] = {"AMZNC10C", "ACPI0013", "PNP0501",
					    "PNP0303",  "VMGENCTR", "VM_Gen_Counter"};
	struct fixture *fix = *state;

	write_acpi(fix);
	const uint8_t *dsdt = dsdt_of(fix);

	for (uint32_t i = 0; i < LAYOUT_VIRTIO_MAX; i++)
		expect_virtio_in_dsdt(dsdt, &fix->virtio[i]);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_true(holds(dsdt, names[i], strlen(names[i]) + 1));
	assert_true(holds(dsdt, "_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00", 13));

	fix->machine.virtio_count = 0;
	write_acpi(fix);
	assert_false(holds(dsdt_of(fix), "LNRO0005", 8));
}

static void test_refused(void **state)
{
	struct fixture *fix = *state;

	fix->machine.virtio_count = LAYOUT_VIRTIO_MAX + 1;
	assert_int_equal(firmware_write_acpi(&fix->mem, &fix->machine, &fix->rsdp, &fix->err),
			 -EINVAL);
	fix->machine.virtio_count = 0;
	fix->machine.vcpu_count = 256;
	assert_int_equal(firmware_write_acpi(&fix->mem, &fix->machine, &fix->rsdp, &fix->err),
			 -EINVAL);
	fix->machine.vcpu_count = 37;
	assert_int_equal(firmware_write_mptable(&fix->mem, &fix->machine, &fix->err), -EINVAL);
	fix->machine.vcpu_count = 1;
	fix->mem.regions[0].size_bytes = LAYOUT_MPTABLE;
	assert_int_equal(firmware_write_mptable(&fix->mem, &fix->machine, &fix->err), -EFAULT);
	assert_int_equal(firmware_write_acpi(&fix->mem, &fix->machine, &fix->rsdp, &fix->err),
			 -EFAULT);
}

/* ---- the ACPI compiler's opinion ---- */

static void save_table(const char *folder, const char *name, const uint8_t *table)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(table, get_le32(table + 4), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

/* Disassembled without a complaint, and what comes of it compiled without one. */
static void test_compiler(void **state)
{
	struct fixture *fix = *state;
	char folder[] = "/tmp/bantam-acpi-XXXXXX";
	char command[512];

	if (system("command -v iasl >/dev/null") != 0) {
		print_message(
			"SKIPPED: no ACPI compiler here (iasl, Debian package acpica-tools)\n");
		skip();
	}
	write_acpi(fix);
	assert_non_null(mkdtemp(folder));
	save_table(folder, "dsdt.dat", dsdt_of(fix));
	save_table(folder, "facp.dat", fadt_of(fix));
	save_table(folder, "apic.dat", madt_of(fix));
	save_table(folder, "xsdt.dat", xsdt_of(fix));
	snprintf(command, sizeof(command),
		 "cd %s && exec >log 2>&1 && iasl -d *.dat && iasl dsdt.dsl && "
		 "! grep -iE 'could not|invalid|incorrect|bad checksum' log *.dsl && "
		 "grep -q '0 Errors, 0 Warnings, 0 Remarks' log",
		 folder);
	int status = system(command);

	if (status != 0) {
		snprintf(command, sizeof(command), "cat %s/log", folder);
		assert_int_equal(system(command), 0);
	}
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	assert_int_equal(status, 0);
}

/* ---- AML ---- */

/* A scope of that many bytes of content: lengths of one, two and three bytes. */
static void expect_scope_length(unsigned content, const uint8_t *length, size_t length_bytes)
{
	static uint8_t buffer[8192];
	struct aml aml;

	aml_init(&aml, buffer, sizeof(buffer));
	size_t mark = aml_open_scope(&aml, "\\_SB_");

	for (unsigned i = 5; i < content; i++)
		aml_integer(&aml, 1);
	aml_close(&aml, mark);
	assert_false(aml.full);
	assert_int_equal(aml.len, 1 + length_bytes + content);
	assert_int_equal(buffer[0], 0x10);
	assert_memory_equal(buffer + 1, length, length_bytes);
	assert_memory_equal(buffer + 1 + length_bytes, "\\_SB_\x01", content > 5 ? 6 : 5);
}

static void test_aml_lengths(void **state)
{
	(void)state;
	expect_scope_length(5, (const uint8_t[]){6}, 1);
	expect_scope_length(62, (const uint8_t[]){63}, 1);
	expect_scope_length(63, (const uint8_t[]){0x41, 0x04}, 2);
	expect_scope_length(4093, (const uint8_t[]){0x4f, 0xff}, 2);
	expect_scope_length(4094, (const uint8_t[]){0x81, 0x00, 0x01}, 3);
}

static void test_aml_integers(void **state)
{
	static const uint8_t expected[] = {0x00, 0x01, 0x0a, 2, 0x0a, 0xff, 0x0b, 0, 1, 0x0c, 0, 0,
					   1,    0,    0x0e, 1, 0,    0,    0,    1, 0, 0,    0};
	uint8_t buffer[64];
	struct aml aml;

	(void)state;
	aml_init(&aml, buffer, sizeof(buffer));
	aml_integer(&aml, 0);
	aml_integer(&aml, 1);
	aml_integer(&aml, 2);
	aml_integer(&aml, 0xff);
	aml_integer(&aml, 0x100);
	aml_integer(&aml, 0x10000);
	aml_integer(&aml, 0x100000001);
	assert_int_equal(aml.len, sizeof(expected));
	assert_memory_equal(buffer, expected, sizeof(expected));
}

static void test_aml_full(void **state)
{
	uint8_t buffer[12];
	struct aml aml;

	(void)state;
	memset(buffer, 0xee, sizeof(buffer));
	aml_init(&aml, buffer, sizeof(buffer) - 1);
	aml_name_string(&aml, "_HID", "TOO-LONG");
	assert_true(aml.full);
	assert_true(aml.len < sizeof(buffer));
	assert_int_equal(buffer[11], 0xee);
	/* Full only when the length is to be put in. */
	aml_init(&aml, buffer, 6);
	size_t mark = aml_open_scope(&aml, "\\_SB_");

	assert_false(aml.full);
	aml_close(&aml, mark);
	assert_true(aml.full);
}

/* ---- MP table ---- */

static void expect_mptable(struct fixture *fix, unsigned vcpus)
{
	static const uint8_t sizes[] = {20, 8, 8, 8, 8};
	unsigned seen[5] = {0};

	fix->machine.vcpu_count = vcpus;
	assert_int_equal(firmware_write_mptable(&fix->mem, &fix->machine, &fix->err), 0);
	const uint8_t *pointer = fix->ram + LAYOUT_MPTABLE;

	assert_memory_equal(pointer, "_MP_", 4);
	assert_int_equal(pointer[8], 1);
	assert_int_equal(sum_of(pointer, 16), 0);
	const uint8_t *table = fix->ram + get_le32(pointer + 4);
	uint16_t len = get_le16(table + 4);

	assert_memory_equal(table, "PCMP", 4);
	assert_true(table + len <= fix->ram + LAYOUT_ACPI_TABLES);
	assert_int_equal(sum_of(table, len), 0);
	assert_int_equal(get_le32(table + 36), LAYOUT_LAPIC);
	const uint8_t *entry = table + 44;

	for (unsigned i = 0; i < get_le16(table + 34); i++) {
		assert_in_range(entry[0], 0, 4);
		if (entry[0] == 0) {
			assert_int_equal(entry[1], seen[0]);
			assert_int_equal(entry[3], seen[0] == 0 ? 3 : 1);
		} else if (entry[0] == 2) {
			assert_true(entry[1] >= vcpus);
			assert_int_equal(get_le32(entry + 4), LAYOUT_IOAPIC);
		} else if (entry[0] == 3) {
			assert_int_equal(entry[5], seen[3]);
			assert_int_equal(entry[7], seen[3]);
		}
		seen[entry[0]]++;
		entry += sizes[entry[0]];
	}
	assert_ptr_equal(entry, table + len);
	assert_int_equal(seen[0], vcpus);
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[2], 1);
	assert_int_equal(seen[3], 24);
	assert_int_equal(seen[4], 2);
}

static void test_mptable(void **state)
{
	expect_mptable(*state, 1);
	expect_mptable(*state, 4);
	expect_mptable(*state, 32);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fadt),
		TEST(test_madt),
		TEST(test_dsdt),
		TEST(test_refused),
		TEST(test_compiler),
		cmocka_unit_test(test_aml_lengths),
		cmocka_unit_test(test_aml_integers),
		cmocka_unit_test(test_aml_full),
		TEST(test_mptable),
	};

	return RUN_TESTS(tests);
}
