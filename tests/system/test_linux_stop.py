# SPDX-License-Identifier: Apache-2.0
"""Linux, and the ends a microVM can come to; and pauses, which are no end."""

import os
import re
import signal
import time

import pytest

from api_client import wait_for
from linux_exec import LISTENING, SHELL, Guest, drive, end_of, running_guest, start, sum_metrics
from linux_guest import stock_kernel

pytestmark = pytest.mark.guest

MIB = 1 << 20


@pytest.fixture(name="machine")
def monitor(vmm, tmp_path):
    return vmm("--log-path", tmp_path / "log", "--metrics-path", tmp_path / "metrics")


def log_of(machine):
    return (machine.folder / "log").read_text()


def disk(folder, mib=32):
    path = folder / "disk.img"
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
    return path


BUSY = "while :; do dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync 2>/dev/null; done"


@pytest.mark.parametrize("how, words", (("reboot", "asked for a reset"), ("poweroff", "powered off")))
def test_orderly(machine, tmp_path, how, words):
    """All of an orderly end's traces: exit code, log, last metrics; and data written before it is in the file."""
    path = disk(tmp_path)
    start(machine, run="echo kept | dd of=/dev/vda conv=fsync", end=how, initrd="tuned", vcpu_count=2, entropy=True, vsock=True,
          drives=[drive(path, cache_type="Writeback")])
    assert end_of(machine) == 0
    log = log_of(machine)
    assert words in log and "exit_code=0" in log
    assert path.read_bytes()[:5] == b"kept\n"
    counted = sum_metrics(tmp_path / "metrics")
    assert counted["block"]["write_count"] > 0 and counted["block"]["flush_count"] > 0
    assert counted["vcpu"]["failures"] == 0 and counted["vcpu"]["exit_mmio_write"] > 0
    assert counted["uart"]["write_count"] > 0 and counted["uart"]["error_count"] == 0
    assert counted["put_api_requests"]["actions_count"] == 1 and counted["put_api_requests"]["drive_count"] == 1
    assert counted["vmm"]["panic_count"] == 0 and not any(counted["signals"].values())


@pytest.mark.parametrize("vcpus, more", ((1, ""), (4, "acpi=off")))
def test_panic(machine, vcpus, more):
    """reboot=k panic=1: the kernel's own reset after its last words."""
    start(machine, run="echo c >/proc/sysrq-trigger", initrd="tuned", vcpu_count=vcpus, args=more)
    assert end_of(machine) == 0
    assert "Kernel panic - not syncing" in machine.console()
    assert "asked for a reset" in log_of(machine)


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_signal(machine, tmp_path, number):
    """In the middle of the guest's work."""
    path = disk(tmp_path)
    start(machine, run=BUSY, initrd="tuned", vcpu_count=2, drives=[drive(path, io_engine="Async")])
    wait_for(lambda: os.stat(path).st_blocks * 512 >= 3 * MIB, "the guest's work")
    machine.process.send_signal(number)
    assert end_of(machine) == 0
    assert "exit_code=0" in log_of(machine)
    assert sum_metrics(tmp_path / "metrics")["block"]["write_count"] > 0


def test_signal_while_paused(machine, tmp_path):
    path = disk(tmp_path)
    start(machine, run=BUSY, initrd="tuned", vcpu_count=2, drives=[drive(path)])
    wait_for(lambda: os.stat(path).st_blocks * 512 >= 3 * MIB, "the guest's work")
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    assert machine.terminate() == 0


def test_three_keys(machine):
    """Ctrl-Alt-Del, where the keyboard's interrupt may go to any of several processors. (The tuned kernel has no virtual
    terminals, whose keyboard driver it is that knows these keys.)"""
    start(machine, run="echo 1 >/proc/sys/kernel/ctrl-alt-del; echo waiting; while :; do sleep 1; done", vcpu_count=4,
          kernel=f"{stock_kernel()}/vmlinux", initrd="stock")
    machine.wait_for_console("waiting")
    machine.api.ok("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
    assert end_of(machine) == 0
    assert "asked for a reset" in log_of(machine)


def test_socket_gone(machine):
    """The socket's file goes away while Linux runs; its end comes as ever."""
    start(machine, run="echo waiting; sleep 3; echo done-waiting", end="poweroff", initrd="tuned")
    machine.wait_for_console("waiting")
    os.unlink(machine.socket)
    assert end_of(machine) == 0
    assert "done-waiting" in machine.console()


def test_pause_under_load(tmp_path):
    """Debian's watchdogs see nothing of pauses longer than their patience, and all that was under way goes on."""
    options = {"kernel": f"{stock_kernel()}/vmlinuz", "initrd": "stock", "vcpu_count": 4, "mem_size_mib": 512,
               "drives": [drive(disk(tmp_path), io_engine="Async")]}
    (tmp_path / "vm").mkdir()
    with running_guest(tmp_path / "vm", **options) as guest:
        guest.sh("[ $(cat /proc/sys/kernel/soft_watchdog) = 1 ]; echo 2 >/proc/sys/kernel/watchdog_thresh")
        guest.sh("""
for i in 1 2 3; do
	while :; do sha256sum /bin/busybox; done >/dev/null 2>&1 &
done
while :; do
	dd if=/bin/busybox of=/dev/vda bs=64k conv=fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	head -c $(stat -c %s /bin/busybox) /dev/vda | cmp - /bin/busybox || echo bad >>/tmp/bad
	echo round >>/tmp/rounds
done >/dev/null 2>&1 &
""")
        for seconds in (0.1, 6, 0, 0.5):
            guest.api.ok("PATCH", "/vm", {"state": "Paused"})
            assert guest.api.get("/").json["state"] == "Paused"
            time.sleep(seconds)
            guest.api.ok("PATCH", "/vm", {"state": "Resumed"})
            rounds = int(guest.sh("cat /tmp/rounds 2>/dev/null | wc -l"))
        guest.sh(f"while [ $(wc -l </tmp/rounds) -le {rounds} ]; do usleep 50000; done; [ ! -e /tmp/bad ]")
        said = guest.sh("dmesg")
        assert not re.findall(r".*(?:soft lockup|hard LOCKUP|stall|hung task|blocked for more).*", said, re.I)
        counted = guest.metrics()
        assert counted["latencies_us"]["pause_vm"] > 0 and counted["latencies_us"]["resume_vm"] > 0
        assert counted["vcpu"]["kvmclock_ctrl_fails"] == 0


def test_clock_after_a_pause(machine, tmp_path):
    """The guest's clock goes on during a pause, as the host's does."""
    start(machine, run=SHELL, initrd="tuned", vsock=True)
    machine.wait_for_console(LISTENING)
    guest = Guest(machine, tmp_path / "v")

    def seen():
        """How far the guest's clock may be before the host's: from, to."""
        before = time.time()
        clock = int(guest.sh("date +%s"))   # cut to whole seconds
        return clock - time.time(), clock + 1 - before

    first = seen()
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    time.sleep(4)
    machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
    second = seen()
    assert second[1] > first[0] - 1 and second[0] < first[1] + 1
