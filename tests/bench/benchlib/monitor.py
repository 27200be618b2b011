# SPDX-License-Identifier: Apache-2.0
"""A Firecracker-compatible monitor under test: started with an API socket, configured by requests."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from .api import wait_for_api
from .process import Process

BOOT_TIMER_LINE = rb"Guest-boot-time\s*=\s*(\d+) us"

# What every guest of the suite gets unless a bench says otherwise: quiet, no probing of what is not there, and
# the reset by which the guest ends the monitor.
BASE_BOOT_ARGS = ("reboot=k panic=1 nomodule quiet loglevel=0 i8042.noaux i8042.nomux i8042.nopnp "
                  "i8042.dumbkbd random.trust_cpu=on tsc=reliable")


class Monitor:
    """A contestant: a name for the tables and the binary; start() makes an Instance."""

    kind = "firecracker-compatible"

    def __init__(self, name, binary, extra_args=()):
        self.name = name
        self.binary = Path(binary)
        self.extra_args = list(extra_args)

    def start(self, boot_timer=False, netns=None, more=()):
        return Instance(self, boot_timer, netns, more)

    def has_flag(self, flag):
        done = subprocess.run([self.binary, "--help"], capture_output=True, text=True, check=False)
        return flag in done.stdout


class Instance:
    """One running monitor process and its API connection; a context manager that leaves nothing behind."""

    def __init__(self, monitor, boot_timer, netns, more):
        self.folder = Path(tempfile.mkdtemp(prefix="bench-vm-"))
        self.socket = self.folder / "api"
        self.vsock = self.folder / "vsock"
        argv = [monitor.binary, "--api-sock", self.socket, *monitor.extra_args, *more]
        if boot_timer:
            argv.append("--boot-timer")
        if netns:
            argv = ["ip", "netns", "exec", netns, *argv]  # which execs in place: the pid stays the monitor's
        self.process = None
        self.api = None
        try:
            self.process = Process(argv, cwd=self.folder)
            self.api = wait_for_api(self.socket, self.process)
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.api:
            self.api.close()
        if self.process:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def configure(self, guest, boot_args, drives=(), tap=None, vsock=False):
        """Everything before InstanceStart. `guest`: context.Guest; drives: (id, path, root, read_only, engine)."""
        self.api.call("PUT", "/machine-config",
                      {"vcpu_count": guest.vcpus, "mem_size_mib": guest.mem_mib})
        self.api.call("PUT", "/boot-source",
                      {"kernel_image_path": str(guest.kernel), "boot_args": boot_args})
        for drive_id, path, root, read_only, engine in drives:
            self.api.call("PUT", f"/drives/{drive_id}",
                          {"drive_id": drive_id, "path_on_host": str(path), "is_root_device": root,
                           "is_read_only": read_only, "io_engine": engine})
        if tap:
            self.api.call("PUT", "/network-interfaces/eth0",
                          {"iface_id": "eth0", "host_dev_name": tap, "guest_mac": "06:00:ac:1f:00:02"})
        if vsock:
            self.api.call("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(self.vsock)})

    def instance_start(self):
        """Start the guest; returns the seconds that the call took."""
        return self.api.call("PUT", "/actions", {"action_type": "InstanceStart"})

    def boot_time_s(self, timeout_s):
        """InstanceStart to the guest's mark at the boot timer, as the monitor's own log says it."""
        match, _ = self.process.wait_for_output(BOOT_TIMER_LINE, timeout_s)
        return int(match[1]) / 1e6
