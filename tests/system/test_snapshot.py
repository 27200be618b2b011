# SPDX-License-Identifier: Apache-2.0
"""Snapshots of tiny guests: rules and faults of the two requests, files, and guests that go on where they were."""

import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

from api_client import wait_for
from conftest import ROOT, VMM

pytestmark = pytest.mark.native

MIB = 1 << 20
MEMORY_MIB = 64
BEFORE = "The requested operation is not supported before starting the microVM."
AFTER = "The requested operation is not supported after starting the microVM."
LOAD = "Load snapshot error: "


class Ticking:
    """Starts monitors with a guest that counts on its console and takes commands from it."""

    def __init__(self, vmm, folder):
        self.vmm, self.folder, self.fifos = vmm, folder, []

    def monitor(self, *args):
        name = f"in{len(self.fifos)}"
        os.mkfifo(self.folder / name)
        fifo = os.open(self.folder / name, os.O_RDWR)
        self.fifos.append(fifo)
        machine = self.vmm("--log-path", self.folder / f"log{len(self.fifos)}", *args, stdin=fifo)
        machine.tell = lambda text: os.write(fifo, text)
        machine.log = lambda path=self.folder / f"log{len(self.fifos)}": path.read_text()
        return machine

    def start(self, guest="counter", args=(), **config):
        machine = self.monitor(*args)
        api = machine.api
        (self.folder / "one").write_bytes(bytes(16 * 4096))
        api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": MEMORY_MIB, **config})
        api.ok("PUT", "/boot-source", {"kernel_image_path": str(ROOT / "build" / "guest" / f"{guest}.elf"), "boot_args": ""})
        api.ok("PUT", "/drives/one", {"drive_id": "one", "path_on_host": str(self.folder / "one"), "is_root_device": False})
        api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(self.folder / "v")})
        api.ok("PUT", "/entropy", {})
        api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        machine.wait_for_console("\n")
        return machine

    def files(self, name="s"):
        return {"snapshot_path": str(self.folder / f"{name}.state"), "mem_file_path": str(self.folder / f"{name}.mem")}

    def save(self, machine, name="s", **more):
        machine.api.ok("PATCH", "/vm", {"state": "Paused"})
        machine.api.ok("PUT", "/snapshot/create", {**self.files(name), **more})

    def request(self, name="s", **more):
        files = self.files(name)
        return {"snapshot_path": files["snapshot_path"], "resume_vm": True,
                "mem_backend": {"backend_type": "File", "backend_path": files["mem_file_path"]}, **more}

    def load(self, name="s", **more):
        """A new monitor that has become the snapshot; its vsock device has a socket of its own."""
        machine = self.monitor()
        more.setdefault("vsock_override", {"uds_path": str(self.folder / f"v{len(self.fifos)}")})
        answer = machine.api.put("/snapshot/load", self.request(name, **more))
        assert answer.status == 204, answer
        return machine

    def refused(self, name="s", **more):
        """The fault of a load that must fail; the monitor must have ended with exit code 1."""
        machine = self.monitor()
        more.setdefault("vsock_override", {"uds_path": str(self.folder / f"v{len(self.fifos)}")})
        answer = machine.api.put("/snapshot/load", self.request(name, **more))
        assert answer.status == 400, answer
        assert machine.wait() == 1
        assert answer.fault.startswith(LOAD), answer.fault
        return answer.fault


@pytest.fixture(name="ticking")
def make_ticking(vmm, tmp_path):
    ticking = Ticking(vmm, tmp_path)
    yield ticking
    for fifo in ticking.fifos:
        os.close(fifo)


def numbers(machine):
    """What the counting guest has printed, whole lines only."""
    return [int(line, 16) for line in machine.console().split("\n")[:-1] if re.fullmatch("0x[0-9a-f]{8}", line)]


def goes_on(machine):
    """Waits for three more numbers; all that this monitor's guest printed must follow one another."""
    seen = len(numbers(machine))
    wait_for(lambda: len(numbers(machine)) >= seen + 3, "the guest to count on")
    counted = numbers(machine)
    assert counted == list(range(counted[0], counted[0] + len(counted)))
    assert "FAIL" not in machine.console()
    return counted


# ---- a guest goes on ----

@pytest.mark.parametrize("vcpus", (1, 2))
def test_a_guest_goes_on_where_it_was(ticking, vcpus):
    first = ticking.start(vcpu_count=vcpus)
    goes_on(first)
    ticking.save(first)
    last = numbers(first)[-1]
    second = ticking.load()
    counted = goes_on(second)
    assert counted[0] in (last + 1, last + 2)   # a line may have been half printed
    first.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_on(first)
    second.tell(b"q")
    assert second.wait() == 0
    assert "DONE" in second.console()


def test_a_long_chain(ticking):
    """Each one is saved and becomes the next one, a hundred times; not a number is lost."""
    machine = ticking.start()
    goes_on(machine)
    last = 0
    for i in range(100):
        ticking.save(machine, f"s{i % 2}")
        counted = numbers(machine)
        last = counted[-1] if counted else last
        machine.kill()
        machine = ticking.load(f"s{i % 2}")
        wait_for(lambda now=machine: numbers(now), "a number")
        assert numbers(machine)[0] in (last + 1, last + 2), i
    goes_on(machine)


def test_paused_until_it_is_resumed(ticking):
    ticking.save(ticking.start())
    machine = ticking.load(resume_vm=False)
    assert machine.api.get("/").json["state"] == "Paused"
    assert machine.console() == ""
    machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_on(machine)


def test_what_is_configured_comes_along(ticking):
    first = ticking.start(vcpu_count=2)
    config = first.api.get("/vm/config").json
    ticking.save(first)
    second = ticking.load()
    restored = second.api.get("/vm/config").json
    assert restored["vsock"].pop("uds_path") != config["vsock"].pop("uds_path")
    assert restored == config


def test_a_timer_that_was_made(ticking):
    """The interval timer is there again, counting."""
    first = ticking.start("counter_pit")
    goes_on(first)
    ticking.save(first)
    goes_on(ticking.load())


def test_a_load_needs_no_more_descriptors_than_a_start(ticking):
    first = ticking.start()
    ticking.save(first)
    before = first.open_fds()
    ticking.save(first)
    wait_for(lambda: first.open_fds() == before, "as many descriptors as before")
    assert ticking.load().open_fds() <= before + 1    # the memory file


def test_metrics_say_how_long_it_took(ticking):
    first = ticking.start()
    ticking.save(first)
    metrics = ticking.folder / "metrics"
    second = ticking.monitor("--metrics-path", metrics)
    second.api.ok("PUT", "/snapshot/load", ticking.request(vsock_override={"uds_path": str(ticking.folder / "w")}))
    second.api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
    said = metrics.read_text()
    assert re.search(r'"load_snapshot":[1-9]', said) and re.search(r'"vmm_load_snapshot":[1-9]', said), said


# ---- files ----

def test_memory_files_are_sparse(ticking):
    ticking.save(ticking.start())
    made = os.stat(ticking.files()["mem_file_path"])
    assert made.st_size == MEMORY_MIB * MIB
    assert made.st_blocks * 512 < MIB
    assert stat.S_IMODE(made.st_mode) & 0o022 == 0
    assert sorted(path.name for path in ticking.folder.glob("s.*")) == ["s.mem", "s.state"]


def test_saved_onto_the_files_it_lives_from(ticking):
    """The memory file of a running guest and of its clone is replaced by a newer one: all go on."""
    ticking.save(ticking.start())
    second, clone = ticking.load(), ticking.load()
    goes_on(second)
    for _ in range(3):
        ticking.save(second)
        second.api.ok("PATCH", "/vm", {"state": "Resumed"})
        goes_on(second)
        goes_on(clone)
    goes_on(ticking.load())


def test_a_folder_without_room_for_new_files(ticking, tmp_path):
    """Files that are there already are written in place, as in a jail, but not the one that memory is mapped from."""
    folder = tmp_path / "jail"
    folder.mkdir()
    first = ticking.start()
    first.api.ok("PATCH", "/vm", {"state": "Paused"})
    create = {"snapshot_path": str(folder / "state"), "mem_file_path": str(folder / "mem")}
    for path in create.values():
        pathlib.Path(path).write_bytes(b"old" * 100000)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        for path in create.values():
            subprocess.run(["mount", "--bind", path, path], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        first.api.ok("PUT", "/snapshot/create", create)
        machine = ticking.monitor()
        request = {"snapshot_path": create["snapshot_path"], "mem_backend": {
            "backend_type": "File", "backend_path": create["mem_file_path"]}, "resume_vm": True,
            "vsock_override": {"uds_path": str(tmp_path / "w")}}
        machine.api.ok("PUT", "/snapshot/load", request)
        goes_on(machine)
        machine.api.ok("PATCH", "/vm", {"state": "Paused"})
        answer = machine.api.put("/snapshot/create", {**create, "snapshot_path": str(tmp_path / "elsewhere")})
        assert "this microVM's memory is mapped from it" in answer.fault
        machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
        goes_on(machine)
    finally:
        for path in (*create.values(), folder):
            subprocess.run(["umount", "--lazy", path], check=True)    # the monitors still have them open


def test_disk_full(ticking, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    first = ticking.start()
    first.api.ok("PATCH", "/vm", {"state": "Paused"})
    for size in ("8k", "32k"):    # for neither file, for the state alone
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        try:
            answer = first.api.put("/snapshot/create", {"snapshot_path": str(folder / "s"), "mem_file_path": str(folder / "m")})
            assert answer.status == 400
            assert re.match(r"Create snapshot error: cannot write .*: No space left on device \(os error 28\)$", answer.fault)
            assert os.listdir(folder) == []
        finally:
            subprocess.run(["umount", folder], check=True)
    first.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_on(first)


def test_the_earlier_snapshot_outlives_a_failed_one(ticking):
    first = ticking.start()
    ticking.save(first)
    limit = ["prlimit", "--pid", str(first.pid), f"--fsize={MIB}"]
    subprocess.run(limit, check=True)
    with pytest.raises(EOFError):   # the signal ends the monitor, each sanitizer in its own way
        first.api.put("/snapshot/create", ticking.files())
    first.wait()
    first.killed = True
    assert first.process.returncode != 0
    goes_on(ticking.load())
    ticking.save(ticking.load())    # what the first one left half-written is in nobody's way
    goes_on(ticking.load())


# ---- rules and faults ----

def test_create_before_the_start(api):
    answer = api.put("/snapshot/create", {"snapshot_path": "a", "mem_file_path": "b"})
    assert (answer.status, answer.fault) == (400, BEFORE)


def test_create_while_running(ticking):
    machine = ticking.start()
    assert machine.api.put("/snapshot/create", ticking.files()).fault == (
        "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable while running")
    assert list(ticking.folder.glob("s.*")) == []


def test_load_after_the_start(ticking):
    machine = ticking.start()
    ticking.save(machine)
    assert machine.api.put("/snapshot/load", ticking.request()).fault == AFTER


@pytest.mark.parametrize("method, path, body", (
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
    ("PATCH", "/machine-config", {"vcpu_count": 2}),
    ("PUT", "/boot-source", {"kernel_image_path": "/nowhere"}),
    ("PUT", "/drives/a", {"drive_id": "a", "path_on_host": "/nowhere", "is_root_device": False}),
    ("PUT", "/network-interfaces/a", {"iface_id": "a", "host_dev_name": "no-such-tap-of-mine"}),
    ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/nowhere/v"}),
    ("PUT", "/entropy", {})))
def test_load_after_something_was_configured(vmm, method, path, body):
    """Trying is enough."""
    machine = vmm()
    machine.api.request(method, path, body)
    answer = machine.api.put("/snapshot/load", {"snapshot_path": "a", "mem_backend": {
        "backend_type": "File", "backend_path": "b"}})
    assert answer.fault == LOAD + "Loading a microVM snapshot not allowed after configuring boot-specific resources."
    assert machine.alive()


def test_load_after_logger_metrics_and_serial(ticking):
    ticking.save(ticking.start())
    machine = ticking.monitor()
    out = ticking.folder / "serial"
    machine.api.ok("PUT", "/logger", {"log_path": str(ticking.folder / "logger")})
    machine.api.ok("PUT", "/metrics", {"metrics_path": str(ticking.folder / "metrics")})
    machine.api.ok("PUT", "/serial", {"serial_out_path": str(out)})
    machine.api.ok("PUT", "/snapshot/load", ticking.request(vsock_override={"uds_path": str(ticking.folder / "w")}))
    wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") > 3, "the console in its file")


@pytest.mark.parametrize("body, said", (
    ({}, "missing field `snapshot_path`"),
    ({"snapshot_path": "a"}, "missing field: either `mem_backend` or `mem_file_path` is required."),
    ({"snapshot_path": "a", "mem_file_path": "b", "mem_backend": {"backend_type": "File", "backend_path": "b"}},
     "too many fields: either `mem_backend` or `mem_file_path` exclusively is required."),
    ({"snapshot_path": "a", "mem_backend": {"backend_type": "Tape", "backend_path": "b"}},
     "field `mem_backend.backend_type`: expected one of \"File\", \"Uffd\""),
    ({"snapshot_path": "a", "mem_file_path": "b", "network_overrides": {}}, "expected an array of at most 64 objects"),
    ({"snapshot_path": "a", "mem_file_path": "b", "network_overrides": [{"iface_id": "a"}]}, "`network_overrides.host_dev_name`"),
    ({"snapshot_path": "a", "mem_file_path": "b", "network_overrides": [{"iface_id": "a", "host_dev_name": "b"}] * 65},
     "expected an array of at most 64 objects"),
    ({"snapshot_path": "a", "mem_file_path": "b", "more": 1}, "unknown field `more`")))
def test_load_bodies(api, body, said):
    answer = api.put("/snapshot/load", body)
    assert answer.status == 400 and said in answer.fault
    assert answer.fault.startswith("An error occurred when deserializing the json body of a request: ")


def test_deprecated_fields(ticking):
    ticking.save(ticking.start())
    machine = ticking.monitor()
    files = ticking.files()
    answer = machine.api.put("/snapshot/load", {**files, "vsock_override": {"uds_path": str(ticking.folder / "w")}})
    assert answer.status == 204 and answer.header("Deprecation") == "true"


def test_paths_of_snapshots(api):
    assert api.put("/snapshot", {}).fault == "Missing snapshot operation type."
    assert api.put("/snapshot/x", {}).fault == "Invalid request method and/or path: PUT /snapshot/x."


def test_files_that_are_not_there(ticking):
    ticking.save(ticking.start())
    missing = LOAD + "Failed to restore from snapshot: "
    assert ticking.refused(snapshot_path="/nowhere") == missing + (
        "Failed to get snapshot state from file: Failed to open snapshot file: No such file or directory (os error 2)")
    assert ticking.refused(mem_backend={"backend_type": "File", "backend_path": "/nowhere"}) == missing + (
        "Failed to load guest memory: Error creating guest memory from file: Failed to load guest memory: "
        "No such file or directory (os error 2)")


def test_unknown_devices(ticking):
    ticking.save(ticking.start())
    assert ticking.refused(network_overrides=[{"iface_id": "a", "host_dev_name": "b"}]).endswith("Unknown Network Device.")
    assert ticking.refused(drive_overrides=[{"drive_id": "a", "path_on_host": "b"}]).endswith("Unknown Block Device: a")


def test_a_drive_that_is_gone(ticking):
    ticking.save(ticking.start())
    os.unlink(ticking.folder / "one")
    assert "Virtio backend error: Error manipulating the backing file: No such file" in ticking.refused()
    other = ticking.folder / "other"
    other.write_bytes(bytes(8192))
    goes_on(ticking.load(drive_overrides=[{"drive_id": "one", "path_on_host": str(other)}]))


def test_memory_of_another_size(ticking):
    ticking.save(ticking.start())
    memory = ticking.files()["mem_file_path"]
    os.truncate(memory, MEMORY_MIB * MIB + 4096)   # longer is fine
    goes_on(ticking.load())
    os.truncate(memory, MEMORY_MIB * MIB - 1)
    assert f"the memory file has {MEMORY_MIB * MIB - 1} bytes" in ticking.refused()


def test_memory_of_another_snapshot(ticking):
    first = ticking.start()
    ticking.save(first, "a")
    ticking.save(first, "b")
    shutil.copy(ticking.files("b")["mem_file_path"], ticking.files("a")["mem_file_path"])
    assert "they are of different snapshots" in ticking.refused("a")
    goes_on(ticking.load("b"))


def test_huge_pages_cannot_be_mapped_from_a_file(ticking):
    ticking.save(ticking.start())
    assert ticking.refused(huge_pages="2M").endswith(
        "Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use uffd.")
    goes_on(ticking.load(huge_pages="Transparent"))


# ---- the command line ----

def run(*args):
    return subprocess.run([VMM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def test_versions(ticking):
    said = run("--snapshot-version")
    assert said.returncode == 0 and re.fullmatch(r"v\d+\.\d+\.\d+\n", said.stdout)
    ticking.save(ticking.start())
    path = ticking.files()["snapshot_path"]
    assert run("--describe-snapshot", path).stdout == said.stdout
    data = bytearray(pathlib.Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    pathlib.Path(path).write_bytes(data)
    damaged = run("--describe-snapshot", path)
    assert damaged.returncode == 1 and "checksum validation failed" in damaged.stderr
