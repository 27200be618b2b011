# SPDX-License-Identifier: Apache-2.0
"""The human table, and reading and merging results that were written as JSON."""

import json
import os
import platform
from pathlib import Path

FORMAT = 1


class ReportError(Exception):
    """A results file cannot be used."""


def number(value):
    """Three significant digits, without exponents."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def cell_text(cell):
    """"median [first..third quartile]", or "failed: reason"."""
    if "failed" in cell:
        return f"failed: {cell['failed']}"
    if cell["n"] == 1:
        return number(cell["median"])
    return f"{number(cell['median'])} [{number(cell['q1'])}..{number(cell['q3'])}]"


def ratio_text(ratio):
    if ratio["n"] == 1:
        return f"{ratio['median']:.2f}"
    return f"{ratio['median']:.2f} [{ratio['q1']:.2f}..{ratio['q3']:.2f}]"


def host_facts():
    """What a reader of the figures must know of the machine."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    return {"kernel": platform.release(), "cpu": model, "cpus": os.cpu_count()}


def _bench_lines(bench, names, notes, host):
    first = names[0]
    place = f", on {bench['host']['cpu']}" if bench.get("host", host) != host else ""
    head = [""] + names + [f"{first} / {other}" for other in names[1:]]
    lines = []
    for row in bench["rows"]:
        better = "" if row["lower_is_better"] else " (more is better)"
        line = [f"{row['title']}, {row['unit']}{better}"]
        for name in names:
            cell = row["cells"].get(name, {"failed": "not in this run"})
            text = cell_text(cell)
            if len(text) > 36:
                mark = notes.setdefault(text, len(notes) + 1)
                text = f"{text[:28].rstrip()}… ({mark})"
            if "note" in cell:
                text += f" ({notes.setdefault(cell['note'], len(notes) + 1)})"
            line.append(text)
        line += [ratio_text(row["ratios"][name]) if name in row["ratios"] else "-" for name in names[1:]]
        lines.append(line)
    widths = [max(len(line[column]) for line in [head] + lines) for column in range(len(head))]
    yield f"{bench['title']} ({bench['bench']}, {bench['runs']} run{'s' if bench['runs'] > 1 else ''}{place})"
    for line in [head] + lines:
        cells = [line[0].ljust(widths[0])] + [text.rjust(width) for text, width in zip(line[1:], widths[1:])]
        yield "  " + "  ".join(cells).rstrip()
    yield ""


def table(results):
    """The whole result as text."""
    names = [contestant["name"] for contestant in results["contestants"]]
    host = results["host"]
    lines = ["Median [first..third quartile] of each contestant, and of the ratio of neighbouring runs.",
             f"Host: {host['cpu']}, {host['cpus']} CPUs, Linux {host['kernel']}."]
    if results.get("emulated"):
        lines.append("No hardware virtualization: guests run under software emulation. Read the ratios only.")
    lines.append("")
    for contestant in results["contestants"]:
        lines.append(f"  {contestant['name']}: {contestant['binary']} ({contestant['version']})")
    lines.append("")
    notes = {}
    for bench in results["benches"]:
        lines += _bench_lines(bench, names, notes, host)
    lines += [f"({mark}) {text}" for text, mark in notes.items()]
    return "\n".join(lines).rstrip() + "\n"


def load(path):
    """Results written by an earlier run."""
    try:
        results = json.loads(Path(path).read_text())
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ReportError(f"{path} is not a results file of this program (format {FORMAT})")
    return results


def merge(parts):
    """Several runs over the same contestants as one: the benches one after the other.

    For a bench that is in several parts the last one counts: a part is a run of other benches, or a repetition.
    """
    names = [contestant["name"] for contestant in parts[0]["contestants"]]
    benches = {}
    for part in parts:
        other = [contestant["name"] for contestant in part["contestants"]]
        if other != names:
            raise ReportError(f"results of different contestants: {', '.join(names)} and {', '.join(other)}")
        for bench in part["benches"]:
            benches[bench["bench"]] = {**bench, "host": bench.get("host", part["host"])}
    return {**parts[0], "emulated": any(part.get("emulated") for part in parts),
            "benches": list(benches.values())}


def as_json(results):
    return json.dumps(results, indent=1, allow_nan=False) + "\n"
