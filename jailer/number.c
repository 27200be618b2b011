// SPDX-License-Identifier: Apache-2.0
/* Decimal numbers of the command line; the words are the ones that Firecracker's users know. */
#include "jailer/number.h"

const char *number_parse(const char *text, uint64_t max, uint64_t *value)
{
	uint64_t sum = 0;
	if (!*text)
		return "cannot parse integer from empty string";
	if (*text == '+')
		text++;
	if (!*text)
		return "invalid digit found in string";
	for (const char *at = text; *at; at++)
		if (*at < '0' || *at > '9')
			return "invalid digit found in string";
	for (; *text; text++) {
		uint64_t digit = (uint64_t)(*text - '0');
		if (sum > (max - digit) / 10 || digit > max)
			return "number too large to fit in target type";
		sum = sum * 10 + digit;
	}
	*value = sum;
	return NULL;
}
