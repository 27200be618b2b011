// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables (6.5) of a hardware-reduced machine: RSDP -> XSDT -> FADT (-> DSDT), MADT.
 *
 * DOC: Hardware-reduced means: no PM timer, no SCI, no fixed power button, no 8259 and no PIT as far as the guest is
 * concerned. Events come through a Generic Event Device; power-off and reset through byte ports (layout.h). The FADT
 * says that there is no CMOS clock and no VGA, which spares the guest their probes. The tables lie one after another
 * from LAYOUT_ACPI_TABLES, each aligned to 16 bytes, in memory that the guest's map calls reserved.
 */
#include "vmm/arch/x86_64/firmware.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "vmm/arch/x86_64/aml.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"

#define OEM_ID           "BANTAM"
#define CREATOR_ID       "BNTM"
#define OEM_REVISION     1u
#define CREATOR_REVISION 1u
#define TABLE_ALIGN      16u

/* ACPI 6.5, 5.2.6. All of it packed, all little-endian; so is the host. */
struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.5, 5.2.6");

/* Where the next table goes. */
struct placer {
	const struct guest_memory *mem;
	uint64_t next;
};

static uint8_t checksum_of(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + at[i]);
	return (uint8_t)-sum;
}

/* oem_table_id must have eight letters. */
static void fill_header(struct acpi_header *header, const char *signature, uint8_t revision,
			const char *oem_table_id, size_t length)
{
	*header = (struct acpi_header){
		.length = (uint32_t)length,
		.revision = revision,
		.oem_revision = OEM_REVISION,
		.creator_revision = CREATOR_REVISION,
	};
	memcpy(header->signature, signature, sizeof(header->signature));
	memcpy(header->oem_id, OEM_ID, sizeof(header->oem_id));
	memcpy(header->oem_table_id, oem_table_id, sizeof(header->oem_table_id));
	memcpy(header->creator_id, CREATOR_ID, sizeof(header->creator_id));
}

/* Completes the table's checksum, writes it and says where it is. */
static int place_table(struct placer *placer, void *table, uint64_t *addr)
{
	struct acpi_header *header = table;

	header->checksum = checksum_of(table, header->length);
	*addr = placer->next;
	if (!range_within(placer->next, header->length, LAYOUT_VMCLOCK))
		return -ENOSPC;
	placer->next = align_up(placer->next + header->length, TABLE_ALIGN);
	return guest_memory_write(placer->mem, gpa(*addr), table, header->length);
}

/* ---- DSDT ---- */

#define DSDT_BYTES_MAX 4096u
#define NOTIFY_CHANGED 0x80u

static void describe_virtio(struct aml *aml, const struct firmware_virtio_device *device,
			    unsigned index)
{
	struct aml_resources resources = {.len = 0};
	char name[8];

	snprintf(name, sizeof(name), "V%03u", index % 1000);
	size_t mark = aml_open_device(aml, name);

	aml_name_string(aml, "_HID", "LNRO0005");
	aml_name_integer(aml, "_UID", index);
	aml_name_integer(aml, "_CCA", 1);
	aml_add_memory32(&resources, true, (uint32_t)device->base, LAYOUT_VIRTIO_MMIO_BYTES);
	aml_add_interrupt(&resources, device->gsi);
	aml_name_resources(aml, &resources);
	aml_close(aml, mark);
}

/*
 * "Virtual Machine Generation ID", Microsoft 2012: the id's address as two halves in ADDR, and VM_Gen_Counter as
 * compatible id. Linux cannot match a name that long on some versions and so knows VMGENCTR as well.
 */
static void describe_vmgenid(struct aml *aml)
{
	size_t device = aml_open_device(aml, "VGEN");

	aml_name_string(aml, "_HID", "BNTM0001");
	aml_name(aml, "_CID");
	size_t package = aml_open_package(aml, 2);

	aml_string(aml, "VM_Gen_Counter");
	aml_string(aml, "VMGENCTR");
	aml_close(aml, package);
	aml_name_string(aml, "_DDN", "VM_Gen_Counter");
	aml_name(aml, "ADDR");
	package = aml_open_package(aml, 2);
	aml_integer(aml, LAYOUT_VMGENID);
	aml_integer(aml, 0);
	aml_close(aml, package);
	aml_close(aml, device);
}

static void describe_vmclock(struct aml *aml)
{
	struct aml_resources resources = {.len = 0};
	size_t device = aml_open_device(aml, "VCLK");

	aml_name_string(aml, "_HID", "AMZNC10C");
	aml_name_string(aml, "_CID", "VMCLOCK");
	aml_name_string(aml, "_DDN", "VMCLOCK");
	aml_add_memory32(&resources, false, LAYOUT_VMCLOCK, LAYOUT_VMGENID - LAYOUT_VMCLOCK);
	aml_name_resources(aml, &resources);
	aml_close(aml, device);
}

/* Generic Event Device (5.6.9): one interrupt for both, whose drivers look whether anything has changed. */
static void describe_event_device(struct aml *aml)
{
	struct aml_resources resources = {.len = 0};
	size_t device = aml_open_device(aml, "GED_");

	aml_name_string(aml, "_HID", "ACPI0013");
	aml_name_integer(aml, "_UID", 0);
	aml_add_interrupt(&resources, LAYOUT_GSI_GED);
	aml_name_resources(aml, &resources);
	size_t method = aml_open_method(aml, "_EVT", 1);
	size_t branch = aml_open_if_arg0_is(aml, LAYOUT_GSI_GED);

	aml_notify(aml, "VGEN", NOTIFY_CHANGED);
	aml_notify(aml, "VCLK", NOTIFY_CHANGED);
	aml_close(aml, branch);
	aml_close(aml, method);
	aml_close(aml, device);
}

static void describe_serial(struct aml *aml)
{
	struct aml_resources resources = {.len = 0};
	size_t device = aml_open_device(aml, "COM1");

	aml_name_string(aml, "_HID", "PNP0501");
	aml_name_integer(aml, "_UID", 0);
	aml_add_ports(&resources, LAYOUT_PORT_SERIAL, 8);
	aml_add_interrupt(&resources, LAYOUT_GSI_SERIAL);
	aml_name_resources(aml, &resources);
	aml_close(aml, device);
}

static void describe_keyboard(struct aml *aml)
{
	struct aml_resources resources = {.len = 0};
	size_t device = aml_open_device(aml, "PS2_");

	aml_name_string(aml, "_HID", "PNP0303");
	aml_name_integer(aml, "_UID", 0);
	aml_add_ports(&resources, LAYOUT_PORT_I8042, 1);
	aml_add_ports(&resources, LAYOUT_PORT_I8042 + 4, 1);
	aml_add_interrupt(&resources, LAYOUT_GSI_KEYBOARD);
	aml_name_resources(aml, &resources);
	aml_close(aml, device);
}

/* The sleep type that the guest puts into the sleep control register to power off. */
static void describe_power_off(struct aml *aml)
{
	aml_name(aml, "_S5_");
	size_t package = aml_open_package(aml, 4);

	aml_integer(aml, LAYOUT_SLEEP_TYPE_S5);
	aml_integer(aml, LAYOUT_SLEEP_TYPE_S5);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_close(aml, package);
}

static int write_dsdt(struct placer *placer, const struct firmware_machine *machine, uint64_t *addr)
{
	uint8_t table[DSDT_BYTES_MAX];
	struct acpi_header header;
	struct aml aml;

	aml_init(&aml, table + sizeof(header), sizeof(table) - sizeof(header));
	size_t scope = aml_open_scope(&aml, "\\_SB_");

	for (unsigned i = 0; i < machine->virtio_count; i++)
		describe_virtio(&aml, &machine->virtio[i], i);
	describe_vmgenid(&aml);
	describe_vmclock(&aml);
	describe_event_device(&aml);
	describe_serial(&aml);
	describe_keyboard(&aml);
	aml_close(&aml, scope);
	describe_power_off(&aml);
	if (aml.full)
		return -ENOSPC;
	fill_header(&header, "DSDT", 2, "BANTDSDT", sizeof(header) + aml.len);
	memcpy(table, &header, sizeof(header));
	return place_table(placer, table, addr);
}

/* ---- FADT (5.2.9) ---- */

/* Generic Address Structure, 5.2.3.2 */
struct acpi_address {
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	uint64_t address;
} __attribute__((packed));

struct acpi_fadt {
	struct acpi_header header;
	uint8_t legacy_hardware[73]; /* all zero in a hardware-reduced machine */
	uint16_t iapc_boot_arch;
	uint8_t reserved;
	uint32_t flags;
	struct acpi_address reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct acpi_address x_legacy_blocks[8];
	struct acpi_address sleep_control_reg;
	struct acpi_address sleep_status_reg;
	char hypervisor_vendor[8];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, iapc_boot_arch) == 109, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, sleep_control_reg) == 244, "ACPI 6.5, table 5.9");

#define FADT_WBINVD         (1u << 0)
#define FADT_PWR_BUTTON     (1u << 4) /* no fixed power button */
#define FADT_SLP_BUTTON     (1u << 5) /* no fixed sleep button */
#define FADT_RESET_REG_SUP  (1u << 10)
#define FADT_HW_REDUCED     (1u << 20)
#define BOOT_HAS_8042       (1u << 1)
#define BOOT_NO_VGA         (1u << 2)
#define BOOT_NO_CMOS_RTC    (1u << 5)
#define ADDRESS_SYSTEM_IO   1u
#define ADDRESS_ACCESS_BYTE 1u

static struct acpi_address byte_port(unsigned offset)
{
	return (struct acpi_address){
		.space = ADDRESS_SYSTEM_IO,
		.bit_width = 8,
		.access_size = ADDRESS_ACCESS_BYTE,
		.address = LAYOUT_PORT_SLEEP + offset,
	};
}

static int write_fadt(struct placer *placer, uint64_t dsdt, uint64_t *addr)
{
	struct acpi_fadt fadt = {
		.iapc_boot_arch = BOOT_HAS_8042 | BOOT_NO_VGA | BOOT_NO_CMOS_RTC,
		.flags = FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG_SUP |
			 FADT_HW_REDUCED,
		.reset_reg = byte_port(LAYOUT_SLEEP_RESET),
		.reset_value = LAYOUT_RESET_VALUE,
		.minor_version = 5,
		.x_dsdt = dsdt,
		.sleep_control_reg = byte_port(LAYOUT_SLEEP_CONTROL),
		.sleep_status_reg = byte_port(LAYOUT_SLEEP_STATUS),
		.hypervisor_vendor = OEM_ID,
	};

	fill_header(&fadt.header, "FACP", 6, "BANTFADT", sizeof(fadt));
	return place_table(placer, &fadt, addr);
}

/* ---- MADT (5.2.12) ---- */

struct acpi_madt_head {
	struct acpi_header header;
	uint32_t lapic_address;
	uint32_t flags; /* 0: no 8259 for the guest to mask */
} __attribute__((packed));

struct acpi_madt_ioapic {
	uint8_t type, length;
	uint8_t id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
} __attribute__((packed));

struct acpi_madt_lapic {
	uint8_t type, length;
	uint8_t processor_uid;
	uint8_t apic_id;
	uint32_t flags;
} __attribute__((packed));

struct acpi_madt_lapic_nmi {
	uint8_t type, length;
	uint8_t processor_uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

#define MADT_LAPIC      0u
#define MADT_IOAPIC     1u
#define MADT_LAPIC_NMI  4u
#define MADT_ENABLED    1u
#define MADT_ALL_UIDS   0xffu
#define MADT_LAPICS_MAX 255u

static int write_madt(struct placer *placer, const struct firmware_machine *machine, uint64_t *addr)
{
	struct {
		struct acpi_madt_head head;
		struct acpi_madt_ioapic ioapic;
		struct acpi_madt_lapic_nmi nmi;
		struct acpi_madt_lapic lapics[MADT_LAPICS_MAX];
	} __attribute__((packed)) madt = {
		.head.lapic_address = LAYOUT_LAPIC,
		.ioapic = {MADT_IOAPIC, sizeof(madt.ioapic), 0, 0, LAYOUT_IOAPIC, 0},
		.nmi = {MADT_LAPIC_NMI, sizeof(madt.nmi), MADT_ALL_UIDS, 0, 1},
	};
	size_t unused = (MADT_LAPICS_MAX - machine->vcpu_count) * sizeof(madt.lapics[0]);

	for (unsigned i = 0; i < machine->vcpu_count; i++)
		madt.lapics[i] = (struct acpi_madt_lapic){MADT_LAPIC, sizeof(madt.lapics[i]),
							  (uint8_t)i, (uint8_t)i, MADT_ENABLED};
	fill_header(&madt.head.header, "APIC", 6, "BANTMADT", sizeof(madt) - unused);
	return place_table(placer, &madt, addr);
}

/* ---- XSDT (5.2.8) and RSDP (5.2.5.3) ---- */

static int write_xsdt(struct placer *placer, uint64_t fadt, uint64_t madt, uint64_t *addr)
{
	struct {
		struct acpi_header header;
		uint64_t tables[2];
	} __attribute__((packed)) xsdt = {.tables = {fadt, madt}};

	fill_header(&xsdt.header, "XSDT", 1, "BANTXSDT", sizeof(xsdt));
	return place_table(placer, &xsdt, addr);
}

struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum; /* of all */
	uint8_t reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.5, 5.2.5.3");

static int write_rsdp(const struct guest_memory *mem, uint64_t xsdt)
{
	struct acpi_rsdp rsdp = {.revision = 2, .length = sizeof(rsdp), .xsdt = xsdt};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum_of(&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = checksum_of(&rsdp, sizeof(rsdp));
	return guest_memory_write(mem, gpa(LAYOUT_RSDP), &rsdp, sizeof(rsdp));
}

int firmware_write_acpi(const struct guest_memory *mem, const struct firmware_machine *machine,
			gpa_t *rsdp, struct error *err)
{
	struct placer placer = {.mem = mem, .next = LAYOUT_ACPI_TABLES};
	uint64_t dsdt = 0, fadt = 0, madt = 0, xsdt = 0;

	if (machine->vcpu_count > MADT_LAPICS_MAX || machine->virtio_count > LAYOUT_VIRTIO_MAX)
		return error_set(err, -EINVAL,
				 "ACPI tables for %u vCPUs and %u devices, at most %u and %u",
				 machine->vcpu_count, machine->virtio_count, MADT_LAPICS_MAX,
				 LAYOUT_VIRTIO_MAX);
	int ret = write_dsdt(&placer, machine, &dsdt);

	if (!ret)
		ret = write_fadt(&placer, dsdt, &fadt);
	if (!ret)
		ret = write_madt(&placer, machine, &madt);
	if (!ret)
		ret = write_xsdt(&placer, fadt, madt, &xsdt);
	if (!ret)
		ret = write_rsdp(mem, xsdt);
	if (ret)
		return error_set_os(err, ret, "the ACPI tables do not fit into guest memory");
	*rsdp = gpa(LAYOUT_RSDP);
	return 0;
}
