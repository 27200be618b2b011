# SPDX-License-Identifier: Apache-2.0
"""Monitors without the REST API, for the rows that need none: QEMU's microvm machine and kvmtool."""

from pathlib import Path

from .context import Unavailable
from .process import Process


def is_bzimage(path):
    """True for an x86 Linux boot image ("HdrS" at 0x202)."""
    with open(path, "rb") as file:
        return file.read(0x206)[0x202:0x206] == b"HdrS"


class PeerInstance:
    """Looks like monitor.Instance to the benches; the process begins at instance_start()."""

    def __init__(self, make_argv, netns=None):
        self.make_argv = make_argv
        self.prefix = ["ip", "netns", "exec", netns] if netns else []
        self.argv = None
        self.process = None

    def configure(self, guest, boot_args, drives=(), tap=None, vsock=False):
        if vsock:
            raise Unavailable("this peer has no vsock over a UNIX socket")
        if any(is_root for _, _, is_root, _, _ in drives):
            boot_args += " root=/dev/vda ro"    # which the others' API stands for
        self.argv = [*self.prefix, *self.make_argv(guest, boot_args, drives, tap)]

    def instance_start(self):
        self.process = Process(self.argv)
        return 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()


class Qemu:
    """QEMU -M microvm with what a microVM needs and nothing more; its own seccomp sandbox left off. Network by vhost."""

    kind = "peer"

    def __init__(self, name, binary):
        self.name = name
        self.binary = Path(binary)

    def _argv(self, guest, boot_args, drives, tap):
        argv = [self.binary, "-M", "microvm,accel=kvm,rtc=off,pit=off,pic=off", "-cpu", "host",
                "-m", str(guest.mem_mib), "-smp", str(guest.vcpus), "-nodefaults", "-no-user-config", "-no-reboot",
                "-display", "none", "-serial", "stdio", "-kernel", guest.kernel, "-append", boot_args]
        for drive_id, path, _, read_only, _ in drives:
            mode = "on" if read_only else "off"
            argv += ["-drive", f"id={drive_id},file={path},format=raw,if=none,read-only={mode}",
                     "-device", f"virtio-blk-device,drive={drive_id}"]
        if tap:
            argv += ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no,vhost=on",
                     "-device", "virtio-net-device,netdev=net"]
        return argv

    def start(self, boot_timer=False, netns=None):
        del boot_timer
        return PeerInstance(self._argv, netns)


class Kvmtool:
    """lkvm run; it cannot load an ELF kernel, so it may be given a bzImage of the same kernel."""

    kind = "peer"

    def __init__(self, name, binary, kernel):
        self.name = name
        self.binary = Path(binary)
        self.kernel = kernel

    def _argv(self, guest, boot_args, drives, tap):
        if tap:
            raise Unavailable("kvmtool's network is not measured")
        kernel = self.kernel or guest.kernel
        if not is_bzimage(kernel):
            raise Unavailable(f"kvmtool loads bzImage kernels only: give --kvmtool-kernel beside {kernel.name}")
        argv = [self.binary, "run", "--name", "bench", "-k", kernel, "-m", str(guest.mem_mib),
                "-c", str(guest.vcpus), "--console", "serial", "--network", "mode=none", "-p", boot_args]
        for _, path, _, read_only, _ in drives:
            argv += ["-d", f"{path},ro" if read_only else str(path)]
        return argv

    def start(self, boot_timer=False, netns=None):
        del boot_timer, netns
        return PeerInstance(self._argv)
