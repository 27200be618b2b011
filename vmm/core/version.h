// SPDX-License-Identifier: Apache-2.0
/* The release that this tree builds. */
#ifndef BANTAM_CORE_VERSION_H
#define BANTAM_CORE_VERSION_H

#define BANTAM_VERSION "1.0.0"
#define BANTAM_NAME    "bantam"

#endif
