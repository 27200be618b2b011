# SPDX-License-Identifier: Apache-2.0
"""What a monitor holds while its guest runs, seen from outside: in a jail, and started by hand without one."""

import os
import pathlib
import re
import subprocess

import pytest

from api_client import wait_for
from conftest import VMM, Vmm
from jail import GID, UID, USER, JailedMonitor, status
from test_tiny_guests import file_of, tiny

pytestmark = [pytest.mark.native, pytest.mark.newer]

MEMORY_MIB = 128
CAP_DAC_OVERRIDE = 1 << 1
# Nodes that the jailer's unprivileged caller may open, as members of the group kvm may; in a mount namespace of the test's own.
OPEN_DEVICES = """mount -t tmpfs none {0} && mknod {0}/kvm c 10 232 && mknod {0}/tun c 10 200 && chmod 666 {0}/kvm {0}/tun &&
mount --bind {0}/kvm /dev/kvm && mount --bind {0}/tun /dev/net/tun && exec setpriv --reuid {1} --regid {1} --clear-groups "$0" "$@"
"""
O_ACCMODE, O_RDWR, O_CLOEXEC = 3, 2, 0o2000000


def open_devices_prefix(site):
    place = site.folder / "devices"
    place.mkdir()
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", OPEN_DEVICES.format(place, USER)]


class UserVmm(Vmm):
    """A monitor that somebody without privileges starts by hand."""

    def __init__(self, site, folder):
        folder.mkdir(mode=0o777)    # pytest's own are closed to others
        folder.chmod(0o777)
        for name in ("log", "metrics"):
            (folder / name).write_text("", encoding="ascii")
            (folder / name).chmod(0o666)
        super().__init__(folder, ["--log-path", folder / "log", "--metrics-path", folder / "metrics"], prefix=open_devices_prefix(site))


def start_jailed(site, _folder, *options, **more):
    machine = JailedMonitor(site, "vm", *options, files=[tiny("spin")], **more)
    for drive in ("one", "two"):
        machine.give(machine.root / drive, bytes(512 * 128))
    return machine, "/spin.elf", {name: f"/{name}" for name in ("one", "two", "log", "metrics")}


def start_by_hand(site, folder, user=False):
    if user:
        machine = UserVmm(site, folder)
    else:
        machine = Vmm(folder, ["--log-path", folder / "log", "--metrics-path", folder / "metrics"])
    for drive in ("one", "two"):
        os.chmod(file_of(folder / drive, 128), 0o666)
    return machine, tiny("spin"), {name: str(folder / name) for name in ("one", "two", "log", "metrics")}


STARTS = {
    "jailed": lambda site, folder: start_jailed(site, folder),
    "jailed, own process ids, in memory": lambda site, folder: start_jailed(site, folder, "--new-pid-ns", "--exec-copy", "memfd"),
    "jailed, rootless": lambda site, folder: start_jailed(site, folder, rootless=True, prefix=open_devices_prefix(site)),
    "by hand, user": lambda site, folder: start_by_hand(site, folder, user=True),
    "by hand, root": lambda site, folder: start_by_hand(site, folder),
}


class Running:
    """A monitor whose guest ticks, with a writable drive, a read-only one, vsock and entropy."""

    def __init__(self, site, folder, mode):
        self.mode = mode
        self.machine, kernel, self.paths = STARTS[mode](site, folder)
        api, self.pid = self.machine.api, self.machine.pid
        self.uds = "/v" if "jailed" in mode else str(folder / "v")
        api.ok("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": MEMORY_MIB})
        api.ok("PUT", "/boot-source", {"kernel_image_path": kernel, "boot_args": ""})
        for drive, read_only in (("one", False), ("two", True)):
            api.ok("PUT", f"/drives/{drive}", {"drive_id": drive, "path_on_host": self.paths[drive], "is_root_device": False,
                                               "is_read_only": read_only})
        api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": self.uds})
        api.ok("PUT", "/entropy", {})
        api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        self.machine.wait_for_console("tick")
        self.paths["kernel"] = kernel

    def uid(self):
        return {"jailed": UID, "by hand, user": USER, "by hand, root": 0}.get(self.mode, USER if "rootless" in self.mode else UID)

    def threads(self):
        """Status of each; KVM's own workers, which some kernels list here, run no code of the process."""
        found = [status(f"{self.pid}/task/{thread}") for thread in os.listdir(f"/proc/{self.pid}/task")]
        return [thread for thread in found if not thread["Name"].startswith("kvm-")]

    def sockets(self):
        """How many are open; one that is closed while we look counts."""
        count = 0
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                count += "socket:" in os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except FileNotFoundError:
                count += 1
        return count

    def descriptors(self):
        """{number: (what it is, its flags)}. Paths are the jail's, whose mount the kernel shows from the folder above it."""
        found = {}
        wait_for(lambda: self.sockets() <= 2, "the end of the last request's connection")
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            info = pathlib.Path(f"/proc/{self.pid}/fdinfo/{fd}").read_text(encoding="ascii")
            target = os.readlink(f"/proc/{self.pid}/fd/{fd}").removeprefix("/root" if "jailed" in self.mode else "")
            found[int(fd)] = target, int(re.search(r"^flags:\s+(\d+)", info, re.M)[1], 8)
        return found


@pytest.fixture(params=STARTS)
def running(request, site, tmp_path):
    machine = Running(site, site.folder / "by-hand" if "user" in request.param else tmp_path, request.param)
    yield machine
    os.kill(machine.pid, 9)
    wait_for(lambda: not os.path.exists(f"/proc/{machine.pid}/exe") or status(machine.pid)["State"][0] in "ZX", "its end")


def test_no_privilege_in_any_thread(running):
    vcpus = {"fc_vcpu 0", "fc_vcpu 1"}
    threads = wait_for(lambda: (found := running.threads()) and vcpus < {thread["Name"] for thread in found} and found, "all vCPUs")
    assert len(threads) == 3
    kept = CAP_DAC_OVERRIDE if running.mode == "by hand, root" else 0
    for thread in threads:
        capabilities = {name: int(thread[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Amb")}
        assert capabilities == {"Inh": 0, "Prm": kept, "Eff": kept, "Amb": 0}, thread
        if running.mode != "by hand, user":     # who may not drop from the bounding set cannot gain from it
            assert int(thread["CapBnd"], 16) == kept
        assert thread["NoNewPrivs"] == "1" and thread["Seccomp"] == "2"
        assert thread["Uid"].split() == [str(running.uid())] * 4
        assert thread["Groups"] == "" or running.mode == "by hand, root"


def test_nobody_of_its_user_looks_in(running):
    """Not dumpable: a process of the same user may not even see its memory's layout."""
    uid = running.uid()
    gid = {UID: GID}.get(uid, uid)
    look = ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
    if uid == 0:
        look = ["setpriv", "--bounding-set", "-sys_ptrace,-sys_admin,-perfmon"]     # they may look at everybody
    if "rootless" in running.mode:
        look += ["unshare", "-U"]   # another jail's; who made a user namespace may do everything in it
    for file in ("maps", "mem", "environ", "fd/3"):
        done = subprocess.run([*look, "head", "-c1", f"/proc/{running.pid}/{file}"], capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "Permission denied" in done.stderr, (file, done)


def test_environment_is_empty(running):
    found = pathlib.Path(f"/proc/{running.pid}/environ").read_bytes().split(b"\0")
    assert [entry for entry in found if entry and not entry.startswith(b"TZ=")] == []


def test_guest_memory_is_in_no_core_dump(running):
    smaps = pathlib.Path(f"/proc/{running.pid}/smaps").read_text(encoding="ascii")
    mappings = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) .*?^VmFlags: ([^\n]*)", smaps, re.M | re.S)
    guest = [flags.split() for begin, end, _, flags in mappings if int(end, 16) - int(begin, 16) == MEMORY_MIB << 20]
    assert len(guest) == 1 and "dd" in guest[0]
    assert not [access for _, _, access, _ in mappings if "w" in access and "x" in access]


def kind_of(running, target, flags):
    """What a descriptor is, in the words of jailer/README.md."""
    names = {path: name for name, path in running.paths.items()}
    if target in names:
        return names[target] + ("" if flags & O_ACCMODE else " read-only")
    kinds = {r"/dev/kvm": "kvm", r"anon_inode:kvm-vm": "vm", r"anon_inode:kvm-vcpu:\d+": "vcpu", r"anon_inode:\[eventpoll\]": "loop",
             r"anon_inode:\[eventfd\]": "event", r"anon_inode:\[signalfd\]": "signals", r"pipe:\[\d+\]": "pipe",
             r"socket:\[\d+\]": "socket"}
    return next((kind for pattern, kind in kinds.items() if re.fullmatch(pattern, target)), target)


def test_every_descriptor_is_accounted_for(running):
    found = running.descriptors()
    assert {fd: flags for fd, (_, flags) in found.items() if not flags & O_CLOEXEC} == {}
    kinds = [kind_of(running, target, flags) for fd, (target, flags) in found.items() if fd > 2]
    counted = {kind: kinds.count(kind) for kind in kinds}
    assert counted == {
        "kvm": 1, "vm": 1, "vcpu": 2,
        "loop": 1, "pipe": 2, "signals": 1,     # the event loop, libevent's wake-up
        "socket": 2,                            # the API's and the vsock device's
        "event": 6 + 2 * 2 + 4 + 2,             # the machine's; an interrupt and each queue of the drives, vsock and entropy
        "log": 1, "metrics": 1,
        "one": 1, "two read-only": 1}, found


def test_no_writable_file_but_what_the_api_named(running):
    """Of the descriptors and of what is mapped; standard output is the caller's."""
    files = {target for fd, (target, flags) in running.descriptors().items()
             if fd > 2 and flags & O_ACCMODE and target.startswith("/")}
    assert files == {running.paths[name] for name in ("one", "log", "metrics")} | {"/dev/kvm"}
    maps = pathlib.Path(f"/proc/{running.pid}/maps").read_text(encoding="utf-8")
    shared = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "ws " in line[:60] or re.match(r"\S+ .w.s", line)}
    assert {re.sub(r"\d+$", "", name) for name in shared} == {"anon_inode:kvm-vcpu:"}
