# SPDX-License-Identifier: Apache-2.0
"""The benchmark that compares monitors: see ../README.md."""
