// SPDX-License-Identifier: Apache-2.0
/* The checksum of a snapshot's files (README.md). Against accidents, not against people. */
#ifndef SNAPSHOTS_CHECKSUM_H
#define SNAPSHOTS_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include "vmm/core/bytes.h"

/*
 * Each step maps the sum one to one for a given word and the word one to one for a given sum, so bytes with one changed
 * word never have the same sum. len is a multiple of 8; what comes first begins with sum 0.
 */
static inline uint64_t checksum(uint64_t sum, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		sum = (sum ^ get_le64(bytes + i)) * UINT64_C(0x9e3779b97f4a7c15);
		sum ^= sum >> 32;
	}
	return sum;
}

#endif
