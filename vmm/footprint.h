// SPDX-License-Identifier: Apache-2.0
/* The monitor's own memory. */
#ifndef VMM_FOOTPRINT_H
#define VMM_FOOTPRINT_H

/*
 * Gives the mapped pages of code and constants back to the page cache: most of what ran until the guest's start runs
 * once. What is needed again comes back by a minor fault.
 */
void footprint_drop_start_code(void);

#endif
