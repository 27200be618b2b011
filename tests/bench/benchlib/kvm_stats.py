# SPDX-License-Identifier: Apache-2.0
"""KVM's own counters of a VM, from debugfs: what a monitor costs in exits does not depend on the machine's load."""

import os
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

    def _folders(self, pid):
        """A VM's folder is named after the thread that made it, perhaps ended since, and its descriptor: "<tid>-<fd>"."""
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(link) == "anon_inode:kvm-vm":
                makers = [int(folder.name.split("-")[0]) for folder in self.root.glob(f"*-{link.name}")]
                maker = min((tid for tid in makers if tid >= pid), default=pid)
                yield self.root / f"{maker}-{link.name}"

    def read(self, pid):
        """{counter: sum over the process's VMs}; counters that this kernel does not show are left out."""
        found = {}
        for folder in self._folders(pid):
            for name in COUNTERS:
                # A file of the VM holds the sum over its vCPUs on some kernels; others have files of the vCPUs only.
                for file in list(folder.glob(name)) or list(folder.glob(f"vcpu*/{name}")):
                    found[name] = found.get(name, 0) + int(file.read_text())
        return found
