# SPDX-License-Identifier: Apache-2.0
# Run by bench-guest in the guest: serve until the monitor is stopped.
exec bench-guest vsock
