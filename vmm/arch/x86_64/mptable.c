// SPDX-License-Identifier: Apache-2.0
/*
 * The MP table (MultiProcessor Specification 1.4), by which a guest with acpi=off finds its processors and the
 * interrupt controller.
 *
 * DOC: The floating pointer lies in the last KiB of base memory, which is one of the three places where a guest
 * looks (4.), and the configuration table right behind it. Every interrupt is described as one of an ISA bus,
 * also those above 15: so it is edge-triggered, active high, and its number is the interrupt controller's pin.
 */
#include "vmm/arch/x86_64/firmware.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "vmm/arch/x86_64/layout.h"

#define MP_SPEC_1_4     4u
#define MP_OEM          "BANTAM  "
#define MP_PRODUCT      "MICROVM     "
#define MP_APIC_VERSION 0x14u
#define MP_IOAPIC_PINS  24u
#define MP_VCPUS_MAX    36u /* as many as the place up to LAYOUT_ACPI_TABLES has room for */

struct mp_pointer { /* 4.1 */
	char signature[4];
	uint32_t table;
	uint8_t length; /* in units of 16 bytes */
	uint8_t revision;
	uint8_t checksum;
	uint8_t features[5];
};
_Static_assert(sizeof(struct mp_pointer) == 16, "MP 1.4, 4.1");

struct mp_header { /* 4.2 */
	char signature[4];
	uint16_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem[8];
	char product[12];
	uint32_t oem_table;
	uint16_t oem_table_bytes;
	uint16_t entry_count;
	uint32_t lapic_address;
	uint16_t extended_bytes;
	uint8_t extended_checksum;
	uint8_t reserved;
};
_Static_assert(sizeof(struct mp_header) == 44, "MP 1.4, 4.2");

enum mp_entry_type { MP_PROCESSOR, MP_BUS, MP_IOAPIC, MP_IO_INTERRUPT, MP_LOCAL_INTERRUPT };
enum mp_interrupt_type { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };

struct mp_processor { /* 4.3.1 */
	uint8_t type;
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
};
_Static_assert(sizeof(struct mp_processor) == 20, "MP 1.4, 4.3.1");

#define MP_CPU_ENABLED   (1u << 0)
#define MP_CPU_BOOT      (1u << 1)
#define MP_CPU_SIGNATURE 0x600u /* family 6 */
#define MP_CPU_FEATURES  0x201u /* FPU, APIC */

struct mp_bus { /* 4.3.2 */
	uint8_t type;
	uint8_t id;
	char name[6];
};

struct mp_ioapic { /* 4.3.3 */
	uint8_t type;
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	uint32_t address;
};

struct mp_interrupt { /* 4.3.4, 4.3.5 */
	uint8_t type;
	uint8_t interrupt_type;
	uint16_t flags; /* 0: as the bus has it */
	uint8_t source_bus;
	uint8_t source_irq;
	uint8_t apic_id;
	uint8_t apic_pin;
};

struct mp_table {
	struct mp_pointer pointer;
	struct mp_header header;
	/* The processors come first; how many there are shifts the rest. */
	uint8_t entries[MP_VCPUS_MAX * sizeof(struct mp_processor) + sizeof(struct mp_bus) +
			sizeof(struct mp_ioapic) +
			(MP_IOAPIC_PINS + 2) * sizeof(struct mp_interrupt)];
};
_Static_assert(sizeof(struct mp_table) <= LAYOUT_ACPI_TABLES - LAYOUT_MPTABLE,
	       "the MP table must end before the ACPI tables");

struct writer {
	struct mp_table *table;
	size_t len;
};

static void add_entry(struct writer *writer, const void *entry, size_t len)
{
	assert(len <= sizeof(writer->table->entries) - writer->len);
	memcpy(writer->table->entries + writer->len, entry, len);
	writer->len += len;
	writer->table->header.entry_count++;
}

static void add_processors(struct writer *writer, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct mp_processor cpu = {
			.type = MP_PROCESSOR,
			.apic_id = (uint8_t)i,
			.apic_version = MP_APIC_VERSION,
			.flags = (uint8_t)(MP_CPU_ENABLED | (i == 0 ? MP_CPU_BOOT : 0)),
			.signature = MP_CPU_SIGNATURE,
			.features = MP_CPU_FEATURES,
		};

		add_entry(writer, &cpu, sizeof(cpu));
	}
}

static void add_interrupts(struct writer *writer, uint8_t ioapic_id)
{
	for (unsigned pin = 0; pin < MP_IOAPIC_PINS; pin++) {
		struct mp_interrupt irq = {MP_IO_INTERRUPT, MP_INT,    0,           0,
					   (uint8_t)pin,    ioapic_id, (uint8_t)pin};

		add_entry(writer, &irq, sizeof(irq));
	}
	struct mp_interrupt extint = {MP_LOCAL_INTERRUPT, MP_EXTINT, 0, 0, 0, 0, 0};
	struct mp_interrupt nmi = {MP_LOCAL_INTERRUPT, MP_NMI, 0, 0, 0, 0xff, 1};

	add_entry(writer, &extint, sizeof(extint));
	add_entry(writer, &nmi, sizeof(nmi));
}

static uint8_t checksum_of(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + at[i]);
	return (uint8_t)-sum;
}

static void fill_heads(struct mp_table *table, size_t entry_bytes)
{
	struct mp_header *header = &table->header;

	memcpy(header->signature, "PCMP", sizeof(header->signature));
	header->length = (uint16_t)(sizeof(*header) + entry_bytes);
	header->revision = MP_SPEC_1_4;
	memcpy(header->oem, MP_OEM, sizeof(header->oem));
	memcpy(header->product, MP_PRODUCT, sizeof(header->product));
	header->lapic_address = LAYOUT_LAPIC;
	header->checksum = checksum_of(header, header->length);
	memcpy(table->pointer.signature, "_MP_", sizeof(table->pointer.signature));
	table->pointer.table = LAYOUT_MPTABLE + offsetof(struct mp_table, header);
	table->pointer.length = sizeof(table->pointer) / 16;
	table->pointer.revision = MP_SPEC_1_4;
	table->pointer.checksum = checksum_of(&table->pointer, sizeof(table->pointer));
}

int firmware_write_mptable(const struct guest_memory *mem, const struct firmware_machine *machine,
			   struct error *err)
{
	struct mp_table table = {.pointer.table = 0};
	struct writer writer = {.table = &table};
	/* An id that no processor has. */
	uint8_t ioapic_id = (uint8_t)(machine->vcpu_count + 1);
	struct mp_bus isa = {MP_BUS, 0, {'I', 'S', 'A', ' ', ' ', ' '}};
	struct mp_ioapic ioapic = {MP_IOAPIC, ioapic_id, MP_APIC_VERSION, 1, LAYOUT_IOAPIC};

	if (machine->vcpu_count > MP_VCPUS_MAX)
		return error_set(err, -EINVAL, "the MP table has room for %u vCPUs, not %u",
				 MP_VCPUS_MAX, machine->vcpu_count);
	add_processors(&writer, machine->vcpu_count);
	add_entry(&writer, &isa, sizeof(isa));
	add_entry(&writer, &ioapic, sizeof(ioapic));
	add_interrupts(&writer, ioapic_id);
	fill_heads(&table, writer.len);
	int ret = guest_memory_write(mem, gpa(LAYOUT_MPTABLE), &table,
				     offsetof(struct mp_table, entries) + writer.len);

	if (ret)
		return error_set_os(err, ret, "the MP table does not fit into guest memory");
	return 0;
}
