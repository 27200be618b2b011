// SPDX-License-Identifier: Apache-2.0
/* Builds ACPI Machine Language (ACPI 6.5, chapter 20) into a buffer: only what this machine's DSDT says. */
#ifndef ARCH_X86_64_AML_H
#define ARCH_X86_64_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The buffer is borrowed. Once something did not fit, full is set and nothing more is written: check it at the end. */
struct aml {
	uint8_t *bytes;
	size_t capacity;
	size_t len;
	bool full;
};

void aml_init(struct aml *aml, uint8_t *buffer, size_t capacity);

/* A path as in ASL with four-letter segments: an optional '\\', then at most one segment. */
void aml_path(struct aml *aml, const char *path);
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);

/* What has a length and so must be closed. The value that is given back goes to aml_close(). */
size_t aml_open_scope(struct aml *aml, const char *path) __attribute__((warn_unused_result));
size_t aml_open_device(struct aml *aml, const char *name) __attribute__((warn_unused_result));
size_t aml_open_method(struct aml *aml, const char *name, unsigned arg_count)
	__attribute__((warn_unused_result));
size_t aml_open_package(struct aml *aml, uint8_t elements) __attribute__((warn_unused_result));
/* If (Arg0 == value) */
size_t aml_open_if_arg0_is(struct aml *aml, uint64_t value) __attribute__((warn_unused_result));
void aml_close(struct aml *aml, size_t mark);

/* Name (name, ...): the value follows, by the next call; or given here. */
void aml_name(struct aml *aml, const char *name);
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *text);

void aml_notify(struct aml *aml, const char *object, uint8_t value);

/* A resource template (6.4) is collected here and then written as one Buffer by aml_name_resources(). */
#define AML_RESOURCES_MAX 64
struct aml_resources {
	uint8_t bytes[AML_RESOURCES_MAX];
	size_t len;
};
void aml_add_memory32(struct aml_resources *resources, bool writable, uint32_t base, uint32_t len);
void aml_add_ports(struct aml_resources *resources, uint16_t base, uint8_t len);
/* Edge-triggered, active high, exclusive. */
void aml_add_interrupt(struct aml_resources *resources, uint32_t gsi);
/* Name (_CRS, ResourceTemplate () {...}) */
void aml_name_resources(struct aml *aml, const struct aml_resources *resources);

#endif
