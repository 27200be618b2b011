# SPDX-License-Identifier: Apache-2.0
"""What a bench needs to know and may use: the guests to boot, scratch files, the network namespace."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from . import image
from .kvm_stats import KvmStats

TAP = "bench-tap0"
HOST_ADDRESS = "172.31.255.1"
GUEST_ADDRESS = "172.31.255.2"
DISK_SPARE_BYTES = 1 << 30  # beside the scratch file: a snapshot of the largest guest


class Unavailable(Exception):
    """A bench cannot run here; the text says why and becomes the cell."""


@dataclass(frozen=True)
class Guest:
    """What is booted: a kernel, a root file system (None: none), the machine's size."""
    kernel: Path
    rootfs: Path
    vcpus: int
    mem_mib: int

    @property
    def mem_bytes(self):
        return self.mem_mib << 20


def hardware_kvm():
    """True where /proc/cpuinfo says that KVM runs guests in hardware."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return bool(flags) and bool({"vmx", "svm"} & set(flags[1].split()))


def _command(*argv):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, argv))}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


class Context:
    """Made once a run; everything it lays out on the host is undone by close()."""

    def __init__(self, options):
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.timeout_s = options.timeout
        self.seconds = options.seconds
        self._tiny = None
        self._linux = None
        self._scratch = None
        self._slow_path = None
        self._slow_folder = None
        self._slow_names = []   # device-mapper devices
        self._slow_loops = []   # loop devices below them
        self._mounted = None
        self._netns = None
        self.kvm_stats = KvmStats()

    def close(self):
        self.kvm_stats.close()
        if self._netns:
            subprocess.run(["ip", "netns", "delete", self._netns], check=False)
        if self._slow_folder:
            subprocess.run(["umount", self._slow_folder], check=False)
        for name in self._slow_names:
            subprocess.run([image.find_tool("dmsetup"), "remove", name], check=False)
        for loop in self._slow_loops:
            subprocess.run([image.find_tool("losetup"), "--detach", loop], check=False)
        if self._mounted:
            subprocess.run(["umount", self._mounted], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def need_kvm(self):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Unavailable("no access to /dev/kvm")

    def need_root(self):
        if os.geteuid() != 0:
            raise Unavailable("needs root")

    def tiny(self):
        """A guest of a few instructions; runs on any KVM."""
        self.need_kvm()
        if not self._tiny:
            self._tiny = Guest(image.build_tiny_kernel(self.folder / "tiny.elf"), None, 1, 128)
        return self._tiny

    def talking(self):
        """A guest of a few instructions that writes to the serial port for ever."""
        return self._of_code("talking", image.TALKING_CODE)

    def touring(self):
        """A guest that goes round image.TOURING_PAGES of its pages for ever."""
        return self._of_code("touring", image.TOURING_CODE)

    def _of_code(self, name, code):
        self.need_kvm()
        path = self.folder / f"{name}.elf"
        return Guest(path if path.exists() else image.build_tiny_kernel(path, code), None, 1, 128)

    def linux(self, mem_mib=None):
        """The Linux guest of 1 vCPU and --mem MiB (or `mem_mib`); its files are copied to the run's own folder."""
        self.need_kvm()
        if not self.options.kernel:
            raise Unavailable("no --kernel given and none built (make kernel)")
        if not hardware_kvm():
            raise Unavailable("no hardware virtualization here: run it with tests/bench/run")
        if not self._linux:
            rootfs = self.options.rootfs or image.build_image(self.options.cache)
            self._linux = Guest(self.near(self.options.kernel), self.near(rootfs), 1, self.options.mem)
        return replace(self._linux, mem_mib=mem_mib or self.options.mem)

    def near(self, path):
        """A copy in the run's own folder, so that a slow shared file system is not what is measured."""
        target = self.folder / Path(path).name
        if not target.exists():
            shutil.copyfile(path, target)
        return target

    def scratch(self):
        """A file of --scratch-mib MiB, filled, for the guest's second drive."""
        if self._scratch:
            return self._scratch
        size = self.options.scratch_mib << 20
        path = self.disk_folder() / "bench-scratch"
        block = os.urandom(1 << 20)
        with open(path, "wb") as file:
            for _ in range(size >> 20):
                file.write(block)
        self._scratch = path
        return path

    def disk_folder(self):
        """A folder of --scratch on a file system that reads and writes blocks.

        Where --scratch is a tmpfs, an ext4 on a loop device over it is used when root may mount one: io_uring has
        no non-blocking path into tmpfs, so every asynchronous engine would be measured by its thread pool; and a
        tmpfs has no cold pages.
        """
        folder = Path(self.options.scratch or self.folder)
        kind = _command("stat", "-f", "-c", "%T", folder).strip()
        if kind not in ("tmpfs", "ramfs", "overlayfs") or os.geteuid() != 0:
            return folder
        if not self._mounted:
            size = self.options.scratch_mib << 20
            self._mount_ext4(folder, size + (size >> 2) + DISK_SPARE_BYTES)
        return self._mounted

    def slow_disk(self, delay_ms):
        """A block device of --scratch-mib MiB, filled, with nothing of it in the page cache."""
        if not self._slow_path:
            backing = Path(self.options.scratch or self.folder) / "bench-slow"
            shutil.copyfile(self.scratch(), backing)
            self._slow_path = self._slow_device(backing, delay_ms)
        _command(image.find_tool("blockdev"), "--flushbufs", self._slow_path)
        return self._slow_path

    def slow_folder(self, delay_ms):
        """An ext4 on such a disk, with room for a snapshot of the largest guest."""
        if not self._slow_folder:
            backing, folder = Path(self.options.scratch or self.folder) / "bench-slow-ext4", self.folder / "slow"
            with open(backing, "wb") as file:
                file.truncate(DISK_SPARE_BYTES)
            _command(image.find_tool("mke2fs"), "-q", "-t", "ext4", "-O", "^has_journal", "-F", backing)
            folder.mkdir()
            _command("mount", "-o", "noatime", self._slow_device(backing, delay_ms), folder)
            self._slow_folder = folder
        return self._slow_folder

    def _slow_device(self, backing, delay_ms):
        """A device over the file whose reads take delay_ms each, any number of them at a time."""
        self.need_root()
        name = f"bench-slow-{os.getpid()}-{len(self._slow_loops)}"
        loop = _command(image.find_tool("losetup"), "--find", "--show", backing).strip()
        self._slow_loops.append(loop)
        _command(image.find_tool("modprobe"), "dm-delay")
        sectors, dmsetup = Path(backing).stat().st_size >> 9, image.find_tool("dmsetup")
        _command(dmsetup, "create", name, "--table", f"0 {sectors} delay {loop} 0 {delay_ms} {loop} 0 0")
        self._slow_names.append(name)
        # where no udev runs, only the kernel's own name of it is in /dev
        node = _command(dmsetup, "info", "--columns", "--noheadings", "-o", "blkdevname", name).strip()
        return Path("/dev") / node

    def _mount_ext4(self, folder, size_bytes):
        backing, mounted = Path(folder) / "bench-ext4", self.folder / "mnt"
        with open(backing, "wb") as file:
            file.truncate(size_bytes)
        mounted.mkdir()
        _command(image.find_tool("mke2fs"), "-q", "-t", "ext4", "-O", "^has_journal", "-F", backing)
        _command("mount", "-o", "loop,noatime", backing, mounted)
        self._mounted = mounted

    def netns(self):
        """A network namespace of the run's own with a tap for the guest: nothing of the host's net is touched."""
        self.need_root()
        if not self._netns:
            if not Path("/dev/net/tun").exists():
                raise Unavailable("no /dev/net/tun")
            name = f"bench-{os.getpid()}"
            _command("ip", "netns", "add", name)
            self._netns = name
            inside = ("ip", "-n", name)
            _command(*inside, "link", "set", "lo", "up")
            _command(*inside, "tuntap", "add", TAP, "mode", "tap")
            _command(*inside, "addr", "add", f"{HOST_ADDRESS}/30", "dev", TAP)
            _command(*inside, "link", "set", TAP, "up")
        return self._netns
