# SPDX-License-Identifier: Apache-2.0
"""Linux guests for the system tests: kernel and initrd as tests/system/prepare makes them, commands, and what was said."""

import base64
import functools
import subprocess

from conftest import ROOT

BOOT_ARGS = "console=ttyS0 reboot=k panic=1 quiet"


@functools.cache
def tool(name, *args):
    """The path that one of the image builders prints; the image is in the cache already."""
    done = subprocess.run([ROOT / "resources" / "guest" / name, *args], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def stock_kernel():
    return tool("stock-kernel")


def boot(machine, command=None, end=None, more_args="", image="vmlinux", **machine_config):
    """Starts Debian's kernel with the initrd, whose process 1 runs the command and ends as said (see test-init)."""
    args = BOOT_ARGS + (f" {more_args}" if more_args else "")
    if command:
        args += " bantam.run=" + base64.b64encode(command.encode()).decode()
    if end:
        args += f" bantam.end={end}"
    if machine_config:
        machine.api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 256, **machine_config})
    else:
        machine.api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
    machine.api.ok("PUT", "/boot-source", {
        "kernel_image_path": f"{stock_kernel()}/{image}",
        "initrd_path": tool("make-initrd", "--modules", stock_kernel()),
        "boot_args": args})
    machine.api.ok("PUT", "/actions", {"action_type": "InstanceStart"})


def run(machine, command, **options):
    """Boots, runs one command and lets the guest end. Gives (exit status of the command, what the guest said)."""
    boot(machine, command, **options)
    assert machine.wait() == 0, machine.console()[-3000:] + machine.stderr()
    said = machine.console()
    assert "BANTAM-GUEST-EXIT " in said, said[-3000:]
    return int(said.rsplit("BANTAM-GUEST-EXIT ", 1)[1].split()[0]), said
