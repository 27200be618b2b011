// SPDX-License-Identifier: Apache-2.0
/* Decimal numbers of the command line. */
#ifndef BANTAM_JAILER_NUMBER_H
#define BANTAM_JAILER_NUMBER_H

#include <stdint.h>
#include "jailer/scope.h"

/* Digits, perhaps after one "+", nothing else, at most `max`. NULL, or what is wrong in words for an error text. */
const char *number_parse(const char *text, uint64_t max, uint64_t *value) must_check;

#endif
