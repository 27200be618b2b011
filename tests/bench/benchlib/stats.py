# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and paired ratios of samples."""

import statistics


def summary(samples):
    """{"n", "median", "min", "max", "q1", "q3"} of a list with at least one number."""
    ordered = sorted(samples)
    if len(ordered) > 1:
        q1, _, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
    else:
        q1 = q3 = ordered[0]
    return {"n": len(ordered), "median": statistics.median(ordered), "min": ordered[0], "max": ordered[-1],
            "q1": q1, "q3": q3}


def paired_ratios(numerators, denominators):
    """A/B of each round in which both contestants have a sample (None: it failed in that round).

    Pairs of one round ran next to each other, so a drift of the machine's speed cancels out of them.
    """
    return [a / b for a, b in zip(numerators, denominators) if a is not None and b]
