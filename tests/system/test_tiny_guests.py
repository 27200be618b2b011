# SPDX-License-Identifier: Apache-2.0
"""Tiny guests (tests/guest/) against the monitor: what they report, and how the monitor came out of it."""

import os
import pathlib
import signal
import time

import pytest

from api_client import wait_for
from conftest import ROOT

pytestmark = pytest.mark.native

SECTOR = 512
GUESTS = ("hello", "timer", "mmio_registers", "queue_hostile", "block_requests")


def tiny(name):
    path = ROOT / "build" / "guest" / f"{name}.elf"
    assert path.exists(), f"{path} is missing: make guests"
    return str(path)


def file_of(path, sectors):
    path.write_bytes(bytes(SECTOR * sectors))
    return str(path)


def configure(machine, folder, guest, **machine_config):
    api = machine.api
    if machine_config:
        assert api.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, **machine_config}).status == 204
    assert api.put("/boot-source", {"kernel_image_path": tiny(guest), "boot_args": ""}).status == 204
    for drive, read_only in (("one", False), ("two", True)):
        body = {"drive_id": drive, "path_on_host": file_of(folder / drive, 128), "is_root_device": False,
                "is_read_only": read_only}
        assert api.put(f"/drives/{drive}", body).status == 204


def start(machine):
    answer = machine.api.put("/actions", {"action_type": "InstanceStart"})
    assert answer.status == 204, answer


def log_of(machine):
    return (machine.folder / "log").read_text()


def thread_names(pid):
    return sorted(pathlib.Path(f"/proc/{pid}/task/{task}/comm").read_text().strip()
                  for task in os.listdir(f"/proc/{pid}/task"))


@pytest.fixture
def spinning(vmm, tmp_path):
    """A monitor whose guest ticks until it is told how to end through a FIFO on standard input."""
    fifo = tmp_path / "in"
    os.mkfifo(fifo)
    stdin = os.open(fifo, os.O_RDWR)
    machine = vmm("--log-path", tmp_path / "log", stdin=stdin)
    configure(machine, tmp_path, "spin")
    start(machine)
    machine.wait_for_console("tick")
    machine.tell = lambda text: os.write(stdin, text)
    yield machine
    os.close(stdin)


@pytest.mark.parametrize("engine", ("Sync", "Async"))
@pytest.mark.parametrize("guest", GUESTS)
def test_guest_passes(vmm, tmp_path, guest, engine):
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, guest)
    for drive, read_only in (("one", False), ("two", True)):
        body = {"drive_id": drive, "path_on_host": str(tmp_path / drive), "is_root_device": False,
                "is_read_only": read_only, "io_engine": engine}
        assert machine.api.put(f"/drives/{drive}", body).status == 204
    start(machine)
    assert machine.wait() == 0, log_of(machine)
    lines = machine.console().splitlines()
    assert lines[-1] == "DONE", lines
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert sum(line.startswith("PASS") for line in lines) >= 5


def test_read_only_drive_keeps_its_bytes(vmm, tmp_path):
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, "block_requests")
    before = os.stat(tmp_path / "two").st_mtime_ns
    start(machine)
    assert machine.wait() == 0
    assert (tmp_path / "two").read_bytes() == bytes(SECTOR * 128)
    assert os.stat(tmp_path / "two").st_mtime_ns == before
    written = (tmp_path / "one").read_bytes()
    assert len(written) == SECTOR * 128
    assert written[8 * SECTOR:16 * SECTOR] == b"\xa5" * 4096


def test_pause_stops_the_guest_and_resume_goes_on(spinning):
    for _ in range(20):
        assert spinning.api.patch("/vm", {"state": "Paused"}).status == 204
        assert spinning.api.get("/").json["state"] == "Paused"
        ticks = spinning.console().count("tick")
        time.sleep(0.05)
        assert spinning.console().count("tick") == ticks
        assert spinning.api.patch("/vm", {"state": "Paused"}).status == 204  # idempotent
        assert spinning.api.patch("/vm", {"state": "Resumed"}).status == 204
        wait_for(lambda seen=ticks: spinning.console().count("tick") > seen, "another tick")
    assert spinning.api.get("/").json["state"] == "Running"


def test_no_descriptor_leaks_over_pauses_and_requests(spinning):
    spinning.api.patch("/vm", {"state": "Paused"})
    spinning.api.patch("/vm", {"state": "Resumed"})
    before = spinning.open_fds()
    for _ in range(50):
        spinning.api.patch("/vm", {"state": "Paused"})
        spinning.api.patch("/vm", {"state": "Resumed"})
        spinning.api.patch("/drives/one", {"drive_id": "one", "path_on_host": str(spinning.folder / "two")})
    wait_for(lambda: spinning.open_fds() == before, "as many descriptors as before")


@pytest.mark.parametrize("command, code, said", (
    (b"q", 0, "asked for a reset"),
    (b"p", 0, "powered off"),
    (b"f", 1, "triple fault"),
))
def test_how_the_guest_ends(spinning, command, code, said):
    spinning.tell(command)
    assert spinning.wait() == code
    assert said in log_of(spinning)
    assert f"exit_code={code}" in log_of(spinning)
    assert not spinning.socket.exists()


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
@pytest.mark.parametrize("paused", (False, True))
def test_a_signal_ends_in_order(spinning, number, paused):
    if paused:
        assert spinning.api.patch("/vm", {"state": "Paused"}).status == 204
    spinning.process.send_signal(number)
    assert spinning.wait() == 0
    assert f"signal {int(number)}" in log_of(spinning)
    assert "exit_code=0" in log_of(spinning)
    assert not spinning.socket.exists()


def test_ends_in_order_when_the_api_socket_is_gone(spinning):
    spinning.socket.unlink()
    spinning.tell(b"q")
    assert spinning.wait() == 0


def test_somebody_elses_socket_file_stays(spinning):
    spinning.socket.unlink()
    spinning.socket.write_text("not ours")
    spinning.tell(b"q")
    assert spinning.wait() == 0
    assert spinning.socket.read_text() == "not ours"


def test_backing_file_truncated_under_the_guest(vmm, tmp_path):
    """Requests past the file's new end fail in the guest; the monitor goes on."""
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, "block_requests")
    os.truncate(tmp_path / "one", 0)
    start(machine)
    assert machine.wait() == 0
    console = machine.console()
    # The guest's own write made the file grow again, but not to its last sector.
    assert "FAIL the last sector: got 0x00000001" in console and "DONE" in console


def test_disk_full_under_a_write(vmm, tmp_path):
    """A drive on a device that is always full: writes fail in the guest, reads do not, the monitor goes on."""
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, "block_requests")
    resource_limit = f"--fsize={SECTOR * 8}"
    prlimit = os.spawnlp(os.P_WAIT, "prlimit", "prlimit", "--pid", str(machine.pid), resource_limit)
    assert prlimit == 0
    start(machine)
    assert machine.wait() in (0, 151)   # refused with EFBIG, or ended by SIGXFSZ with the code that says so
    assert "exit_code" in log_of(machine) or "signal 25" in log_of(machine)


@pytest.mark.parametrize("vcpus", (2, 4, 32))
def test_many_vcpus_start_and_pause(vmm, tmp_path, vcpus):
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, "spin", vcpu_count=vcpus)
    start(machine)
    machine.wait_for_console("tick")
    expected = sorted(f"fc_vcpu {i}" for i in range(vcpus))
    wait_for(lambda: [name for name in thread_names(machine.pid) if name.startswith("fc_vcpu")] == expected,
             "every vCPU's thread to have its name")
    for _ in range(5):
        assert machine.api.patch("/vm", {"state": "Paused"}).status == 204
        assert machine.api.patch("/vm", {"state": "Resumed"}).status == 204
    assert machine.terminate() == 0


def test_a_failed_start_can_be_repaired(vmm, tmp_path):
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, "hello")
    broken = tmp_path / "broken.elf"
    broken.write_bytes(open(tiny("hello"), "rb").read()[:2000])
    assert machine.api.put("/boot-source", {"kernel_image_path": str(broken), "boot_args": ""}).status == 204
    fds = machine.open_fds()
    for _ in range(20):
        answer = machine.api.put("/actions", {"action_type": "InstanceStart"})
        assert answer.status == 400 and answer.fault.startswith("Start microvm error: ")
    wait_for(lambda: machine.open_fds() == fds, "the descriptors of failed starts to be closed")
    assert not any("kvm" in target for target in machine.descriptors())
    assert machine.api.get("/").json["state"] == "Not started"
    assert machine.api.put("/boot-source", {"kernel_image_path": tiny("hello"), "boot_args": ""}).status == 204
    start(machine)
    assert machine.wait() == 0
    assert "DONE" in machine.console()


def test_more_devices_than_interrupts(vmm, tmp_path):
    machine = vmm("--log-path", tmp_path / "log")
    configure(machine, tmp_path, "hello")
    for i in range(16):     # two are there already: 18 in all
        body = {"drive_id": f"d{i}", "path_on_host": file_of(tmp_path / f"d{i}", 1), "is_root_device": False}
        assert machine.api.put(f"/drives/d{i}", body).status == 204
    assert machine.api.put("/entropy", {}).status == 204
    answer = machine.api.put("/actions", {"action_type": "InstanceStart"})
    assert answer.status == 400
    assert "Could not allocate GSI: The requested resource is not available." in answer.fault
