# SPDX-License-Identifier: Apache-2.0
"""KVM's own counters of a VM, from debugfs: what a monitor costs in exits does not depend on the machine's load."""

import glob
import subprocess
import tempfile
from pathlib import Path

# Exits in all, and those that ask for the monitor or an ioeventfd (port and memory-mapped registers).
COUNTERS = ("exits", "io_exits", "mmio_exits")


class KvmStats:
    """Finds debugfs, or mounts it at a folder of its own for as long as the object lives; needs root."""

    def __init__(self):
        self.mounted = None
        self.root = Path("/sys/kernel/debug/kvm")
        if not self.root.is_dir():
            folder = tempfile.mkdtemp(prefix="bench-debugfs-")
            done = subprocess.run(["mount", "-t", "debugfs", "none", folder], capture_output=True, check=False)
            if done.returncode == 0:
                self.mounted = folder
                self.root = Path(folder) / "kvm"
            else:
                Path(folder).rmdir()

    def close(self):
        if self.mounted:
            subprocess.run(["umount", self.mounted], check=False)
            Path(self.mounted).rmdir()

    def read(self, pid):
        """{counter: sum over the process's VMs}; counters that this kernel does not show are left out."""
        found = {}
        for name in COUNTERS:
            # A file of the VM holds the sum over its vCPUs on some kernels; others have files of the vCPUs only.
            files = glob.glob(f"{self.root}/{pid}-*/{name}") or glob.glob(f"{self.root}/{pid}-*/vcpu*/{name}")
            if files:
                found[name] = sum(int(Path(file).read_text()) for file in files)
        return found
