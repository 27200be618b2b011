// SPDX-License-Identifier: Apache-2.0
/* Filter files of --seccomp-filter. */
#include "vmm/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err;

	seccomp_free_filters(seccomp_parse_filters(data, size, &err));
	return 0;
}
