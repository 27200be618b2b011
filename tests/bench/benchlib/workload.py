# SPDX-License-Identifier: Apache-2.0
"""Runs one of the guest's scripts (guest/*.sh) and reads what it reports on the serial console."""

import re

from .image import INIT
from .monitor import BASE_BOOT_ARGS

# Enough memory that the guest's page cache holds its tools; the monitor's own memory is not measured here.
WORK_MEM_MIB = 512


class WorkloadError(Exception):
    """The guest's script reported an error or ended without its results."""


def boot_args(script, **settings):
    """Kernel command line that makes the guest's init run /bench/SCRIPT.sh with these settings."""
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    return f"{BASE_BOOT_ARGS} console=ttyS0 init={INIT} bench={script} {words}"


def parse_results(text):
    """The "RESULT key value" lines as {key: float}; WorkloadError for "RESULT error ...".

    The console may put other output before a line's beginning, and ends its lines with CR LF.
    """
    results = {}
    for name, value in re.findall(r"RESULT (\w+) ([^\r\n]+)", text):
        if name == "error":
            raise WorkloadError(value)
        try:
            results[name] = float(value)
        except ValueError:
            raise WorkloadError(f"{name} is not a number: {value!r}") from None
    return results


def run_script(context, instance):
    """Start the configured guest and wait for its script's end; returns parse_results of its output."""
    instance.instance_start()
    end, _ = instance.process.wait_for_output(rb"BENCH-END (\d+)\r?\n", context.timeout_s)
    output = bytes(instance.process.output).decode(errors="replace")
    results = parse_results(output)
    if int(end[1]) != 0:
        raise WorkloadError(f"the guest's script ended with {int(end[1])}: {instance.process.last_words()}")
    return results
