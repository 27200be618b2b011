# SPDX-License-Identifier: Apache-2.0
"""Runs the benches, the contestants in turns, and collects samples and failures."""

import sys

from .stats import paired_ratios, summary


def _one(context, bench, contestant):
    """One sample, or the reason why there is none: whatever goes wrong ends as a cell, never the whole run."""
    if contestant.kind not in bench.kinds:
        return None, "not measured for this kind of monitor"
    try:
        return bench.run(context, contestant), None
    except Exception as error:  # pylint: disable=broad-except
        return None, " ".join(str(error).split()) or type(error).__name__


def run_bench(context, bench, contestants, runs, say):
    """All rounds of one bench: A B C, A B C, …  A contestant that fails its first two rounds is not tried again."""
    samples = {contestant.name: [] for contestant in contestants}
    reasons = {contestant.name: [] for contestant in contestants}
    for number in range(runs):
        for contestant in contestants:
            name = contestant.name
            if len(reasons[name]) >= 2 and len(reasons[name]) == number or \
                    contestant.kind not in bench.kinds and number:
                sample, reason = None, reasons[name][-1]
            else:
                say(f"{bench.name} {number + 1}/{runs}: {name}")
                sample, reason = _one(context, bench, contestant)
            samples[name].append(sample)
            if reason:
                reasons[name].append(reason)
    return {"bench": bench.name, "title": bench.title, "runs": runs,
            "rows": [_row(metric, contestants, samples, reasons, runs) for metric in bench.metrics]}


def unfinished(bench, contestants, runs):
    """What stands in the results until a bench is done, so that a run cut short shows what it did not measure."""
    reason = "the run ended before this bench was done"
    samples = {contestant.name: [None] * runs for contestant in contestants}
    reasons = {contestant.name: [reason] * runs for contestant in contestants}
    return {"bench": bench.name, "title": bench.title, "runs": runs,
            "rows": [_row(metric, contestants, samples, reasons, runs) for metric in bench.metrics]}


def _row(metric, contestants, samples, reasons, runs):
    cells = {}
    for contestant in contestants:
        name = contestant.name
        values = [sample.get(metric.key) if sample else None for sample in samples[name]]
        good = [value for value in values if value is not None]
        cell = {"samples": values, "failures": len(reasons[name])}
        if good:
            cell.update(summary(good))
        else:
            cell["failed"] = reasons[name][0] if reasons[name] else "the monitor does not have this figure"
        if good and reasons[name]:
            cell["note"] = f"{len(reasons[name])} of {runs} failed: {reasons[name][0]}"
        cells[name] = cell
    first = contestants[0].name
    ratios = {}
    for contestant in contestants[1:]:
        pairs = paired_ratios(cells[first]["samples"], cells[contestant.name]["samples"])
        if pairs:
            ratios[contestant.name] = summary(pairs)
    return {"key": metric.key, "title": metric.title, "unit": metric.unit, "lower_is_better": metric.lower,
            "cells": cells, "ratios": ratios}


def progress(quiet):
    """A function that shows one line of progress on standard error, overwritten where that is a terminal."""
    if quiet:
        return lambda text: None
    terminal = sys.stderr.isatty()

    def say(text):
        sys.stderr.write(f"\r\x1b[K{text}" if terminal else f"{text}\n")
        sys.stderr.flush()
    return say
