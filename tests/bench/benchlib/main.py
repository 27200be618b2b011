# SPDX-License-Identifier: Apache-2.0
"""From options to output."""

import os
import subprocess
import sys
from pathlib import Path

from . import options as command_line
from . import plot, report
from .context import Context, hardware_kvm
from .runner import progress, run_bench, unfinished
from .table import BENCHES


def _version(contestant):
    """The first line of its --version."""
    try:
        done = subprocess.run([contestant.binary, "--version"], capture_output=True, text=True, timeout=20,
                              check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no version: {error}"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "no version"


def _emulated():
    """True where guests do not run in hardware: on a machine without it, and inside the test host."""
    return "BANTAM_TESTHOST" in os.environ or not hardware_kvm()


def _write_json(options, results):
    """Replaces the file as a whole, so that what is there is always complete JSON."""
    if options.json:
        unfinished_file = Path(options.json + ".part")
        unfinished_file.write_text(report.as_json(results))
        unfinished_file.replace(options.json)


def measure(options):
    """Run every chosen bench over all contestants."""
    say = progress(options.quiet)
    results = {
        "format": report.FORMAT,
        "host": report.host_facts(),
        "emulated": _emulated(),
        "kernel": options.kernel.name if options.kernel else None,
        "settings": {"mem_mib": options.mem, "seconds": options.seconds, "scratch_mib": options.scratch_mib},
        "contestants": [{"name": c.name, "binary": str(c.binary), "kind": c.kind, "version": _version(c)}
                        for c in options.contestants],
        "benches": [],
    }
    rounds = [options.runs if options.runs and bench.runs > 1 else bench.runs for bench in options.benches]
    results["benches"] = [unfinished(bench, options.contestants, runs)
                          for bench, runs in zip(options.benches, rounds)]
    _write_json(options, results)
    with Context(options) as context:
        for index, (bench, runs) in enumerate(zip(options.benches, rounds)):
            results["benches"][index] = run_bench(context, bench, options.contestants, runs, say)
            _write_json(options, results)
    if not options.quiet and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    return results


def _everything_failed(results):
    return all("failed" in cell for bench in results["benches"] for row in bench["rows"]
               for cell in row["cells"].values())


def main(argv):
    """Exit status: 0 when there are figures, 1 when there is none at all, 2 for bad usage."""
    options = command_line.parse(argv)
    if options.list:
        for bench in BENCHES:
            print(f"{bench.name:12} {bench.title} ({bench.runs} runs)")
        return 0
    try:
        results = report.merge([report.load(path) for path in options.sources]) if options.sources \
            else measure(options)
    except report.ReportError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted", file=sys.stderr)
        return 130
    print(report.table(results), end="")
    _write_json(options, results)
    if options.plot and len(results["contestants"]) < 2:
        print("compare: no plot: it shows ratios, and there is one contestant only", file=sys.stderr)
    elif options.plot:
        Path(options.plot).write_text(plot.draw(results))
    return 1 if _everything_failed(results) else 0
