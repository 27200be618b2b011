# SPDX-License-Identifier: Apache-2.0
"""A Linux guest with a device of each kind, worked through every request of the API, under the filters: started by hand, in root's
jail with cgroups and in a rootless one. No forbidden call, and the kernel of the guest does not complain."""

import base64
import socket
import subprocess

import pytest

from conftest import Vmm
from jail import UID, USER, JailedMonitor, status, v2_controllers
from linux_exec import COMPLAINTS_SH, LISTENING, SHELL, Guest, complaints, small_root, sum_metrics, tuned_kernel
from linux_guest import BOOT_ARGS
from test_confinement import open_devices_prefix

pytestmark = pytest.mark.guest

TAP, HOST, GUEST = "bantam-c0", "172.31.252.1", "172.31.252.2"
BUCKET = {"bandwidth": {"size": 100 << 20, "refill_time": 100}}
MIB = 1 << 20


def jailed(site, files, *options, **more):
    return JailedMonitor(site, "vm", *options, files=files, **more)


def limits():
    """Room for the guest, and for what the host's kernel charges the jail for."""
    assert {"memory", "pids", "cpu"} <= set(v2_controllers())
    return [word for value in (f"memory.max={600 * MIB}", "pids.max=20", "cpu.weight=50") for word in ("--cgroup", value)]


class ByHand(Vmm):
    """With JailedMonitor's words."""

    def __init__(self, folder, files):
        super().__init__(folder, ["--log-path", folder / "log", "--metrics-path", folder / "metrics"])
        self.root = folder
        for file in files:
            self.put(file)

    def put(self, file):
        target = self.folder / file.name
        if target != file:
            target.write_bytes(file.read_bytes())
        return str(target)

    def end(self):
        assert self.terminate() == 0


MODES = {
    "by hand": (0, lambda site, folder, files: ByHand(folder, files)),
    "jailed": (UID, lambda site, folder, files: jailed(site, files, "--cgroup-version", 2, *limits())),
    "jailed, own process ids, in memory": (UID, lambda site, folder, files: jailed(site, files, "--new-pid-ns", "--exec-copy", "memfd")),
    "jailed, rootless": (USER, lambda site, folder, files: jailed(site, files, rootless=True, prefix=open_devices_prefix(site))),
}


@pytest.fixture(params=MODES)
def machine(request, site, tmp_path):
    owner, start = MODES[request.param]
    subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap", "user", str(owner), "vnet_hdr"], check=True)
    subprocess.run(["ip", "addr", "add", f"{HOST}/24", "dev", TAP], check=True)
    subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
    source = tmp_path / "files"
    source.mkdir()
    files = [tuned_kernel(), small_root(source), source / "sync", source / "async", source / "other"]
    for file in files[2:]:
        file.write_bytes(bytes(8 * MIB))
    monitor = start(site, tmp_path, files)
    monitor.seen = str(monitor.folder).rstrip("/")
    yield monitor
    if isinstance(monitor, Vmm):
        monitor.kill()
    subprocess.run(["ip", "link", "del", TAP], check=False)


def configure(machine):
    """Every request that comes before the start."""
    api, seen = machine.api, machine.seen
    line = f"{BOOT_ARGS} bantam.ip=eth0:{GUEST}/24 bantam.run={base64.b64encode(SHELL.encode()).decode()}"
    api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    api.ok("PATCH", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256, "track_dirty_pages": True})
    api.ok("PUT", "/boot-source", {"kernel_image_path": f"{seen}/{tuned_kernel().name}", "boot_args": line})
    api.ok("PUT", "/drives/root", {"drive_id": "root", "path_on_host": f"{seen}/root.img", "is_root_device": True})
    for engine in ("Sync", "Async"):
        api.ok("PUT", f"/drives/{engine}", {"drive_id": engine, "path_on_host": f"{seen}/{engine.lower()}", "is_root_device": False,
                                            "io_engine": engine, "cache_type": "Writeback", "rate_limiter": BUCKET})
    api.ok("PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": TAP, "guest_mac": "06:00:ac:1f:fc:02",
                                               "rx_rate_limiter": BUCKET, "tx_rate_limiter": BUCKET})
    api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": f"{seen}/v"})
    api.ok("PUT", "/entropy", {"rate_limiter": BUCKET})
    for path in ("/", "/version", "/machine-config", "/vm/config"):
        api.ok("GET", path)


def change(machine):
    """Every request that a running microVM takes."""
    api, seen = machine.api, machine.seen
    api.ok("PATCH", "/drives/Sync", {"drive_id": "Sync", "path_on_host": f"{seen}/other"})
    api.ok("PATCH", "/drives/Async", {"drive_id": "Async", "rate_limiter": BUCKET})
    api.ok("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", "tx_rate_limiter": BUCKET})
    for path in ("/", "/version", "/machine-config", "/vm/config"):
        api.ok("GET", path)
    for kind in ("Full", "Diff"):
        api.ok("PATCH", "/vm", {"state": "Paused"})
        api.ok("PUT", "/snapshot/create", {"snapshot_type": kind, "snapshot_path": f"{seen}/snapshot", "mem_file_path": f"{seen}/memory"})
        api.ok("PATCH", "/vm", {"state": "Resumed"})
    assert api.put("/drives/late", {"drive_id": "late", "path_on_host": f"{seen}/other", "is_root_device": False}).status == 400
    api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})


def work(guest):
    """Every device, both ways where there are two."""
    for disk in ("vdb", "vdc"):
        guest.sh(f"dd if=/dev/urandom of=/dev/{disk} bs=64k count=16 conv=fsync 2>/dev/null; "
                 f"echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/{disk} of=/dev/null bs=64k count=16 2>/dev/null")
    guest.sh("dd if=/dev/urandom of=/root/file bs=64k count=16 2>/dev/null; sync")
    guest.sh("head -c 64 /dev/hwrng | wc -c")
    assert " 0% packet loss" in guest.sh(f"ping -q -c 3 -W 20 -s 1000 {HOST}")


def greet(guest, place):
    """From the guest to a program of the host's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0o777)
        listener.listen()
        listener.settimeout(60)
        guest.sh("echo hello | vsock-tool relay 2 52 >/dev/null 2>&1 &")
        with listener.accept()[0] as stream:
            assert stream.recv(100) == b"hello\n"


def test_all_devices_and_all_requests(machine):
    configure(machine)
    machine.api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    machine.wait_for_console(LISTENING)
    guest = Guest(machine, machine.root / "v")
    assert {status(machine.pid)[key] for key in ("Seccomp", "NoNewPrivs")} == {"2", "1"}
    work(guest)
    change(machine)
    work(guest)
    greet(guest, machine.root / "v_52")
    assert complaints(guest.sh(COMPLAINTS_SH)) == []
    machine.api.ok("PUT", "/actions", {"action_type": "SendCtrlAltDel"})    # which the tuned kernel has no keyboard driver for
    machine.end()
    log = (machine.root / "log").read_text(encoding="utf-8")
    assert "exit_code=0" in log and "bad syscall" not in log, log
    assert sum_metrics(machine.root / "metrics")["seccomp"]["num_faults"] == 0
    assert (machine.root / "memory").stat().st_size == 256 * MIB
