# SPDX-License-Identifier: Apache-2.0
"""One Linux guest for many tests: it boots once, then runs scripts that are sent over vsock.

DOC: how a script is run
  Process 1 starts `vsock-tool exec`, which gives each connection a shell of its own. Guest.sh() connects, sends the script
  and reads until the shell ends; the script's standard output and error come back, and its exit status in the last line.
  What a script leaves running in the background must not keep the connection: give it >/dev/null 2>&1.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess

from api_client import PATIENCE_S
from conftest import Vmm
from linux_guest import BOOT_ARGS, stock_kernel, tool

CACHE = pathlib.Path(os.environ.get("BANTAM_CACHE", pathlib.Path.home() / ".cache" / "bantam"))
SMALL_ROOT = ("--minimal", "--size", "16")
EXEC_PORT = 5000
SHELL = f"exec vsock-tool exec {EXEC_PORT} sh"
LISTENING = f"vsock-tool: listening on {EXEC_PORT}"


def tuned_kernel(image="vmlinux"):
    """The kernel that resources/guest/build-kernel made last; tests/system/prepare sees to it."""
    path = CACHE / "guest-kernel" / "current" / image
    assert path.exists(), f"{path} is missing: run tests/system/prepare"
    return path.resolve()


def full_root():
    """The root file system with fio, iperf3 and socat. Never to be written to: it is the cache's own."""
    return pathlib.Path(tool("make-rootfs"))


def small_root(folder, name="root.img"):
    """A copy of the root file system with busybox and our helpers only."""
    copy = pathlib.Path(folder) / name
    shutil.copy(tool("make-rootfs", *SMALL_ROOT), copy)
    return copy


CONNECT_TRIES = 5


def connect_vsock(uds, port, patience_s=PATIENCE_S):
    """A connection to a port in the guest, or None when it was refused."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(uds))
    sock.settimeout(patience_s)
    sock.sendall(f"CONNECT {port}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):   # byte by byte: what follows belongs to the caller
        try:
            byte = sock.recv(1)
        except ConnectionResetError:
            byte = b""
        if not byte:
            sock.close()
            assert answer == b"", answer
            return None
        answer += byte
    assert re.fullmatch(rb"OK \d+\n", answer), answer
    return sock


def recv_all(sock):
    parts = []
    while data := sock.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


class Guest:
    """A running guest. .machine is its monitor (conftest.Vmm), .api the monitor's API, .uds the vsock device's socket."""

    def __init__(self, machine, uds):
        self.machine, self.api, self.uds = machine, machine.api, uds

    def try_sh(self, script, patience_s=PATIENCE_S):
        """Runs a script in a shell of its own. Gives (exit status, output)."""
        # A guest on a busy host may miss the two seconds that the monitor gives it to take a connection: clients ask again.
        tries = (connect_vsock(self.uds, EXEC_PORT, patience_s) for _ in range(CONNECT_TRIES))
        sock = next(filter(None, tries), None)
        assert sock, f"no shell in the guest:\n{self.machine.console()[-3000:]}"
        with sock:
            sock.sendall(f"(\n{script}\n) </dev/null 2>&1\nprintf '\\n@%d' $?\nexit\n".encode())
            output = recv_all(sock).decode(errors="replace")
        output, mark, status = output.rpartition("\n@")
        assert mark, f"the shell ended early: {output}{status}"
        return int(status), output

    def sh(self, script, patience_s=PATIENCE_S):
        """Runs a script that must not fail (set -e). Gives its output, without white space around it."""
        status, output = self.try_sh("set -e\n" + script, patience_s)
        assert status == 0, f"{script}\nended with {status}:\n{output}"
        return output.strip()

    def metrics(self):
        """All that was counted so far, as {group: {name: sum}}; store metrics are summed as well."""
        self.api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
        return sum_metrics(self.machine.folder / "metrics")


def sum_metrics(path):
    total = {}
    for line in path.read_text().splitlines():
        for group, values in json.loads(line).items():
            if isinstance(values, dict):
                into = total.setdefault(group, {})
                for name, value in values.items():
                    if isinstance(value, int):
                        into[name] = into.get(name, 0) + value
    return total


def drive(path, **more):
    """A drive's configuration from its file's name: /a/data.img is drive "data"."""
    path = pathlib.Path(path)
    return {"drive_id": re.sub(r"\W", "_", path.name.split(".")[0]), "path_on_host": str(path), "is_root_device": False, **more}


def start(machine, kernel=None, initrd=None, run=None, end=None, args="", drives=(), nets=(), vsock=False, entropy=False,
          **machine_config):
    """Configures and starts a guest. kernel: a path (default: the tuned vmlinux). initrd: None, "tuned" or "stock"."""
    line = BOOT_ARGS + (f" {args}" if args else "")
    if run:
        line += " bantam.run=" + base64.b64encode(run.encode()).decode()
    if end:
        line += f" bantam.end={end}"
    source = {"kernel_image_path": str(kernel or tuned_kernel()), "boot_args": line}
    if initrd:
        source["initrd_path"] = tool("make-initrd", "--modules", stock_kernel() if initrd == "stock" else "none")
    api = machine.api
    api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 256, **machine_config})
    api.ok("PUT", "/boot-source", source)
    for config in drives:
        api.ok("PUT", f"/drives/{config['drive_id']}", config)
    for config in nets:
        api.ok("PUT", f"/network-interfaces/{config['iface_id']}", config)
    if vsock:
        api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(machine.folder / "v")})
    if entropy:
        api.ok("PUT", "/entropy", {})
    api.ok("PUT", "/actions", {"action_type": "InstanceStart"})


@contextlib.contextmanager
def running_guest(folder, **options):
    """A guest that takes scripts until the block ends (options: see start()). The monitor must then still be alive and end
    with exit code 0 when it is told to."""
    folder = pathlib.Path(folder)
    machine = Vmm(folder, ["--log-path", folder / "log", "--metrics-path", folder / "metrics"])
    try:
        start(machine, run=SHELL, vsock=True, **options)
        machine.wait_for_console(LISTENING)
        yield Guest(machine, folder / "v")
        assert machine.alive(), f"the monitor ended with {machine.process.returncode}: {machine.stderr()}"
        assert machine.terminate() == 0
        for word in ("Sanitizer", "runtime error"):
            assert word not in machine.stderr(), machine.stderr()
    except BaseException as error:
        error.add_note(last_words(machine))
        raise
    finally:
        machine.kill()


def end_of(machine):
    """Waits for the monitor's end; gives its exit code."""
    try:
        return machine.wait()
    except subprocess.TimeoutExpired as error:
        error.add_note(last_words(machine))
        raise


def last_words(machine):
    log = machine.folder / "log"
    return (f"the monitor's exit code: {machine.process.poll()}, its log, errors and console end in:\n"
            f"{log.read_text()[-1500:] if log.exists() else ''}\n{machine.stderr()[-1500:]}\n{machine.console()[-1500:]}")


# What a kernel without complaint still says at level "warn" or worse.
ALLOWED = (
    # Devices that are found twice, by ACPI and on the command line, are refused the second time.
    r"virtio-mmio (LNRO0005|virtio-mmio)[.:]\w+: can't request region for resource",
    r"virtio-mmio: probe of virtio-mmio\.\d+ failed with error -16",
    # That is how pci=off ends.
    r"PCI: (Fatal: No config space access function found|System does not support PCI)",
    # There is a keyboard and no mouse.
    r"i8042: PNP: PS/2 appears to have AUX port disabled",
)
# The test host's emulated processor hides XSETBV from its KVM, so no monitor's guest sees the right size there.
TESTHOST_SPLAT = (r"<4>\[ *[\d.]+\] -+\[ cut here \]-+\n<4>.*XSAVE consistency problem(.|\n)*?---\[ end trace \w+ \]---\n"
                  r"|<4>\[ *[\d.]+\] CPUID\[0d, \w+\]:.*\n")
# What a kernel says whose emulated processor was slow, or away for a while.
TESTHOST_ALLOWED = (r"hrtimer: interrupt took \d+ ns", r"sched: RT throttling activated")
# Printed by the guest: a serial port is slow.
COMPLAINTS_SH = "dmesg -r | grep '^<[0-4]>'; true"


def without_splat(said):
    """Output of `dmesg -r` without what is the test host's fault."""
    return re.sub(TESTHOST_SPLAT, "", said) if os.environ.get("BANTAM_TESTHOST") else said


def complaints(said):
    """The lines among what COMPLAINTS_SH printed that ALLOWED does not know."""
    said = without_splat(said)
    lines = [line for line in said.splitlines() if re.match(r"<[0-4]>\[", line)]
    allowed = ALLOWED + (TESTHOST_ALLOWED if os.environ.get("BANTAM_TESTHOST") else ())
    return [line for line in lines if not any(re.search(pattern, line) for pattern in allowed)]
