# SPDX-License-Identifier: Apache-2.0
"""Linux guests saved and restored: what they did goes on, devices work, clones are other machines than their parent."""

import os
import subprocess
import time

import pytest

from api_client import wait_for
from conftest import VMM, Vmm
from linux_exec import (COMPLAINTS_SH, LISTENING, SHELL, Guest, complaints, drive, last_words, small_root, start,
                        sum_metrics)
from test_snapshot_faults import mend

pytestmark = pytest.mark.guest

MIB = 1 << 20
CLONES = int(os.environ.get("BANTAM_TEST_CLONES", "10"))
TAPS = ("bantam-s0", "bantam-s1", "bantam-s2")
HOST, GUEST = "172.31.240.1", "172.31.240.2"

# Counts, checks what it counted, and draws random numbers, for as long as it lives.
WORK_SH = """
cat >/tmp/work.sh <<'END'
n=0
while :; do
	n=$((n + 1))
	echo $n >/tmp/count.new && mv /tmp/count.new /tmp/count
	[ "$(md5sum </dev/shm/data)" = "$(cat /dev/shm/sum)" ] || echo "sum is wrong at $n" >>/tmp/wrong
	usleep 20000
done
END
dd if=/dev/urandom of=/dev/shm/data bs=64k count=8 2>/dev/null
md5sum </dev/shm/data >/dev/shm/sum
sh /tmp/work.sh >/dev/null 2>&1 &
"""


def ip(*args):
    subprocess.run(["ip", *args], check=True)


@pytest.fixture(scope="module", name="taps")
def make_taps():
    for name in TAPS:
        ip("tuntap", "add", name, "mode", "tap", "vnet_hdr")
        # The guest remembers its neighbour by this address, wherever it wakes up.
        ip("link", "set", name, "address", "06:00:ac:1f:f0:01", "up")
    yield
    for name in TAPS:
        subprocess.run(["ip", "link", "del", name], check=False)


def use_tap(name):
    """The one tap that has the host's address now."""
    for other in TAPS:
        subprocess.run(["ip", "addr", "flush", "dev", other], check=False)
    ip("addr", "add", f"{HOST}/24", "dev", name)


class Saved:
    """A snapshot in a folder, and monitors that become it."""

    def __init__(self, folder):
        self.folder = folder
        self.state, self.memory = folder / "state", folder / "memory"
        self.machines = []

    def monitor(self, name):
        folder = self.folder / name
        folder.mkdir()
        machine = Vmm(folder, ["--log-path", folder / "log", "--metrics-path", folder / "metrics"])
        self.machines.append(machine)
        return machine

    def create(self, guest, **more):
        guest.api.ok("PATCH", "/vm", {"state": "Paused"})
        guest.api.ok("PUT", "/snapshot/create", {"snapshot_path": str(self.state), "mem_file_path": str(self.memory), **more})

    def add_difference(self, guest):
        """The snapshot becomes a newer one: its memory with what has changed since."""
        guest.api.ok("PATCH", "/vm", {"state": "Paused"})
        difference = self.folder / "difference"
        guest.api.ok("PUT", "/snapshot/create", {
            "snapshot_path": str(self.state), "mem_file_path": str(difference), "snapshot_type": "Diff"})
        subprocess.run([VMM.parent / "bantam", "snapshot", "merge", self.memory, difference, "-o", self.memory], check=True)

    def forget(self, guest):
        """A monitor that was killed on purpose; its files need not be kept."""
        self.machines.remove(guest.machine)

    def load(self, name, **more):
        machine = self.monitor(name)
        uds = machine.folder / "v"
        answer = machine.api.put("/snapshot/load", {
            "snapshot_path": str(self.state), "mem_backend": {"backend_type": "File", "backend_path": str(self.memory)},
            "resume_vm": True, "vsock_override": {"uds_path": str(uds)}, **more})
        assert answer.status == 204, f"{answer}\n{last_words(machine)}"
        return Guest(machine, uds)

    def boot(self, **options):
        machine = self.monitor("first")
        start(machine, run=SHELL, vsock=True, entropy=True, **options)
        machine.wait_for_console(LISTENING)
        return Guest(machine, machine.folder / "v")


def vsock_counters(machine):
    """What happened to connections, for a test that lost one."""
    if machine.alive():
        machine.api.put("/actions", {"action_type": "FlushMetrics"})
    metrics = machine.folder / "metrics"
    return sum_metrics(metrics).get("vsock") if metrics.exists() else None


@pytest.fixture(name="saved")
def saved_snapshot(tmp_path):
    saved = Saved(tmp_path)
    try:
        yield saved
        for machine in saved.machines:
            if machine.alive():
                assert machine.terminate() == 0
            else:
                assert machine.killed, f"{machine.folder} ended before the test did:\n{last_words(machine)}"
            assert "Sanitizer" not in machine.stderr() and "runtime error" not in machine.stderr(), machine.stderr()
    except BaseException as error:
        for machine in saved.machines:
            error.add_note(f"{vsock_counters(machine)}\n{last_words(machine)}")
        raise
    finally:
        for machine in saved.machines:
            machine.kill()


def count_of(guest):
    return int(guest.sh("cat /tmp/count"))


def check_alive(guest):
    """The guest's work goes on without a mistake, and its kernel has nothing to say about it."""
    before = count_of(guest)
    wait_for(lambda: count_of(guest) > before, "the guest's work to go on")
    assert guest.sh("cat /tmp/wrong 2>/dev/null || true") == ""
    # The guest's clocks ran on while it stood still: one that looks after the others notes a long second.
    said = complaints(guest.sh(COMPLAINTS_SH))
    assert [line for line in said if "clocksource: Long readout interval" not in line] == []


def end_source(guest):
    guest.machine.kill()


@pytest.mark.parametrize("vcpus", (1, 4))
def test_a_guest_goes_on_where_it_was(saved, taps, tmp_path, vcpus):
    root, data = small_root(tmp_path), tmp_path / "data.img"
    data.write_bytes(bytes(16 * MIB))
    use_tap(TAPS[0])
    guest = saved.boot(vcpu_count=vcpus, args=f"bantam.ip=eth0:{GUEST}/24",
                       drives=[drive(root, is_root_device=True), drive(data, cache_type="Writeback")],
                       nets=[{"iface_id": "net", "host_dev_name": TAPS[0], "guest_mac": "06:00:ac:1f:f0:02"}])
    guest.sh(WORK_SH + "\ndd if=/dev/urandom of=/dev/vdb bs=64k count=64 conv=fsync 2>/dev/null\nmd5sum /dev/vdb >/tmp/vdb")
    guest.sh(f"ping -c 1 -W 5 {HOST} >/dev/null")
    uptime = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
    saved.create(guest)
    end_source(guest)
    use_tap(TAPS[1])
    clone = saved.load("clone", network_overrides=[{"iface_id": "net", "host_dev_name": TAPS[1]}])
    check_alive(clone)
    assert float(clone.sh("cut -d' ' -f1 /proc/uptime")) >= uptime
    assert clone.sh("nproc") == str(vcpus)
    assert "crng reseeded due to virtual machine fork" in clone.sh("dmesg")
    clone.sh("echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/vdb >/dev/null")
    clone.sh("dd if=/dev/urandom of=/dev/vdb bs=64k count=16 conv=fsync 2>/dev/null")
    clone.sh(f"ping -c 2 -W 5 {HOST} >/dev/null")
    clone.sh("dd if=/dev/hwrng of=/dev/null bs=64 count=4 2>/dev/null || true")


@pytest.mark.newer
def test_clones_are_different_machines(saved, tmp_path):
    root = small_root(tmp_path)
    guest = saved.boot(drives=[drive(root, is_root_device=True, is_read_only=True)])
    guest.sh(WORK_SH)
    saved.create(guest)
    parent = guest.api.get("/vm/config").json
    guest.api.ok("PATCH", "/vm", {"state": "Resumed"})
    check_alive(guest)
    clones = [saved.load(f"clone{i}", clock_realtime=True) for i in range(3)]
    drawn = [each.sh("cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | md5sum") for each in (guest, *clones)]
    assert len(set(drawn)) == len(drawn), drawn
    for each in clones:
        check_alive(each)
        assert abs(int(each.sh("date +%s")) - time.time()) < 5
        config = each.api.get("/vm/config").json
        assert config["vsock"].pop("uds_path") != parent["vsock"]["uds_path"]
        assert config["drives"] == parent["drives"] and config["boot-source"] == parent["boot-source"]


def patient_sh(guest, script):
    """None when the guest missed the two seconds in which it has to take a connection, as one of very many may."""
    try:
        return guest.sh(script)
    except AssertionError as error:
        if "no shell in the guest" not in str(error):
            raise
        return None


def test_many_clones_at_once(saved, tmp_path):
    """All of one snapshot, side by side: each draws its own random numbers and knows what time it is."""
    root = small_root(tmp_path)
    guest = saved.boot(mem_size_mib=128, drives=[drive(root, is_root_device=True, is_read_only=True)])
    guest.sh("true")
    saved.create(guest)
    end_source(guest)
    clones = [saved.load(f"clone{i}", clock_realtime=True) for i in range(CLONES)]
    drawn = set()
    for clone in clones:
        uuid, now = wait_for(lambda guest=clone: patient_sh(guest, "cat /proc/sys/kernel/random/uuid; date +%s"), "a shell").split()
        drawn.add(uuid)
        assert abs(int(now) - time.time()) < 10
    assert len(drawn) == CLONES
    assert all(clone.machine.alive() for clone in clones)


def test_another_file_for_a_drive(saved, tmp_path):
    root, data, other = small_root(tmp_path), tmp_path / "data.img", tmp_path / "other.img"
    data.write_bytes(b"data" * (MIB // 4))
    other.write_bytes(b"else" * (MIB // 2))     # twice as large
    guest = saved.boot(drives=[drive(root, is_root_device=True, is_read_only=True), drive(data)])
    assert guest.sh("head -c 4 /dev/vdb") == "data"
    saved.create(guest)
    end_source(guest)
    clone = saved.load("clone", drive_overrides=[{"drive_id": "data", "path_on_host": str(other)}])
    clone.sh("echo 3 >/proc/sys/vm/drop_caches")
    assert clone.sh("blockdev --flushbufs /dev/vdb; head -c 4 /dev/vdb") == "else"
    wait_for(lambda: clone.sh("cat /sys/block/vdb/size") == str(2 * MIB // 512), "the drive's new size")


def test_on_another_kernel_features_are_compared(saved, tmp_path):
    """What the guest's CPUID says is in what KVM says that it supports: the monitor adds nothing that would be refused."""
    root = small_root(tmp_path)
    guest = saved.boot(vcpu_count=2, drives=[drive(root, is_root_device=True, is_read_only=True)])
    guest.sh(WORK_SH)
    saved.create(guest)
    end_source(guest)
    release, data = os.uname().release.encode(), saved.state.read_bytes()
    saved.state.write_bytes(mend(data.replace(release, b"x" + release[1:])))
    clone = saved.load("clone")
    check_alive(clone)
    assert "was taken on another host" in (clone.machine.folder / "log").read_text()
