# SPDX-License-Identifier: Apache-2.0
"""Snapshots that are damaged, cut short or changed on purpose, and saves that are interrupted."""

import contextlib
import os
import pathlib
import random
import shutil
import struct
import subprocess
import threading

import pytest

from conftest import VMM
from test_snapshot import MIB, goes_on, make_ticking  # noqa: F401 (the fixture)
from test_snapshot_diff import goes_round, is_whole, merge

pytestmark = pytest.mark.native

HEAD, SECTION_HEAD = 40, 48
SANITIZER_KIB = 8192 if "asan" in str(VMM) else 0   # what ASan keeps for itself
MUTANTS = int(os.environ.get("BANTAM_TEST_MUTANTS", "100"))


def checksum(*parts):
    value = 0
    for part in parts:
        for (word,) in struct.iter_unpack("<Q", part):
            value = (value ^ word) * 0x9e3779b97f4a7c15 & (1 << 64) - 1
            value ^= value >> 32
    return value


def sections(data):
    """(offset, end) of each section."""
    at = HEAD
    while at < len(data):
        size, = struct.unpack_from("<Q", data, at + 32)
        end = at + SECTION_HEAD + (size + 7) // 8 * 8
        yield at, end
        at = end


def mend(data):
    """Makes all checksums right again, as an attacker would."""
    data = bytearray(data)
    for at, end in sections(data):
        struct.pack_into("<Q", data, at + 40, checksum(data[at:at + 40], data[at + SECTION_HEAD:end]))
    struct.pack_into("<Q", data, 32, checksum(data[:32]))
    return bytes(data)


def assemble(data, parts):
    """A file with the head of this one and other sections; all numbers and checksums are right."""
    head, body = bytearray(data[:HEAD]), b"".join(parts)
    struct.pack_into("<I", head, 16, len(parts))
    struct.pack_into("<Q", head, 24, HEAD + len(body))
    return mend(bytes(head) + body)


@pytest.fixture(name="state")
def saved_state(ticking):
    """Path and bytes of a good state file; its guest is gone."""
    machine = ticking.start("keeper", vcpu_count=2)
    goes_on(machine)
    ticking.save(machine)
    machine.kill()
    path = pathlib.Path(ticking.files()["snapshot_path"])
    return path, path.read_bytes()


def test_checksums_as_the_documentation_says(state):
    _, data = state
    assert mend(data) == data


def test_cut_at_every_border(ticking, state):
    path, data = state
    borders = sorted({0, 8, HEAD, *(offset for at, end in sections(data) for offset in (at, at + SECTION_HEAD, end))})
    for border in borders[:-1]:
        path.write_bytes(data[:border])
        done = subprocess.run([VMM, "--describe-snapshot", path], capture_output=True, check=False)
        assert done.returncode == 1 and done.stderr, border
    path.write_bytes(data[:borders[-2]])
    assert "Failed to get snapshot state from file" in ticking.refused()
    path.write_bytes(data)
    goes_on(ticking.load())


def test_damaged_anywhere(state):
    path, data = state
    chosen = random.Random(1)
    for _ in range(MUTANTS):
        damaged = bytearray(data)
        damaged[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        done = subprocess.run([VMM, "--describe-snapshot", path], capture_output=True, check=False)
        assert done.returncode == 1


def test_sections_missing_doubled_or_swapped(ticking, state):
    path, data = state
    parts = [data[at:end] for at, end in sections(data)]

    for i in range(len(parts)):
        path.write_bytes(assemble(data, parts[:i] + parts[i + 1:]))
        assert "Invalid snapshot state" in ticking.refused()
    path.write_bytes(assemble(data, parts[::-1]))       # their order means nothing
    goes_on(ticking.load())
    path.write_bytes(assemble(data, parts + parts[-1:]))
    assert "virtio devices in the configuration, state of" in ticking.refused()


def test_from_another_host(ticking, state):
    """Another kernel has features compared; another maker's processor is refused by name."""
    path, data = state
    release = os.uname().release.encode()
    other = bytes([release[0] ^ 1]) + release[1:]
    assert data.count(release) == 1
    path.write_bytes(mend(data.replace(release, other)))
    machine = ticking.load()
    goes_on(machine)
    assert "was taken on another host" in machine.log()
    manifest, _ = next(sections(data))
    at = data.index(release, manifest) + 64
    vendor = data[at:at + 12]
    maker = b"GenuineIntel" if vendor != b"GenuineIntel" else b"AuthenticAMD"
    path.write_bytes(mend(data[:at] + maker + data[at + 12:]))
    assert f"taken on a processor of {maker.decode()}, this one is of {vendor.decode()}" in ticking.refused()


def test_names_that_are_no_names(ticking, state):
    """A drive's name becomes a key of the metrics."""
    path, data = state
    name = struct.pack("<I", 3) + b"one"
    assert data.count(name) == 1
    path.write_bytes(mend(data.replace(name, struct.pack("<I", 3) + b'o"e')))
    assert "field `drive_id`: expected a name" in ticking.refused()


# What is done to a file's sections, each a way to lie that right checksums do not give away.

def change_bytes(chosen, parts):
    for _ in range(chosen.choice((1, 1, 2, 8))):
        part = chosen.choice(parts)
        place = chosen.randrange(SECTION_HEAD, len(part))
        part[place] = chosen.choice((0, 0xff, part[place] ^ 1 << chosen.randrange(8), chosen.randrange(256)))


def flip_a_bit(chosen, parts):
    part = chosen.choice(parts)
    part[chosen.randrange(SECTION_HEAD, len(part))] ^= 1 << chosen.randrange(8)


def change_a_head(chosen, parts):
    """Name, instance or version."""
    chosen.choice(parts)[chosen.randrange(32)] = chosen.randrange(256)


def resize_a_payload(chosen, parts):
    """Shorter or a little longer than it was."""
    part = chosen.choice(parts)
    size = chosen.randrange(len(part) - SECTION_HEAD + 64)
    padded = SECTION_HEAD + (size + 7) // 8 * 8
    part[:] = part[:SECTION_HEAD + size].ljust(padded, b"\0")
    struct.pack_into("<Q", part, 32, size)


def exchange_sections(chosen, parts):
    """One is missing, there twice, or holds what another one should."""
    one, other = chosen.randrange(len(parts)), chosen.randrange(len(parts))
    if one == other:
        del parts[one]
    elif chosen.random() < 0.5:
        parts.append(bytearray(parts[one]))
    else:
        parts[one][:32], parts[other][:32] = parts[other][:32], parts[one][:32]


MUTATIONS = (change_bytes,) * 8 + (flip_a_bit,) * 4 + (change_a_head, resize_a_payload, exchange_sections)


def mutant_of(data, chosen):
    parts = [bytearray(data[at:end]) for at, end in sections(data)]
    chosen.choice(MUTATIONS)(chosen, parts)
    return assemble(data, parts)


def becomes_mutant(vmm, ticking, resume):
    """Loads it, and saves it again if it was taken. Gives whether it was refused; the monitor never dies of a signal."""
    uds = ticking.folder / "mutant"
    machine = vmm("--level", "Off")
    answer = machine.api.put("/snapshot/load", ticking.request(resume_vm=resume, vsock_override={"uds_path": str(uds)}))
    if answer.status == 400:
        assert machine.wait() == 1, answer
        return True
    assert answer.status == 204, answer
    with contextlib.suppress(EOFError, OSError):    # its guest may end it at any time
        machine.api.patch("/vm", {"state": "Paused"})
        machine.api.put("/snapshot/create", ticking.files("again"))
    if machine.alive():
        machine.terminate()
    assert machine.wait() in (0, 1)
    assert "Sanitizer" not in machine.stderr() and "runtime error" not in machine.stderr(), machine.stderr()
    uds.unlink(missing_ok=True)
    return False


def test_changed_on_purpose(vmm, ticking, state):
    """Mutants with right checksums: refused, or a guest that is broken by itself. One that does harm is kept."""
    path, data = state
    seed = os.environ.get("BANTAM_TEST_SEED", "7")
    refused = 0
    for i in range(MUTANTS):
        chosen = random.Random(f"{seed} {i}")
        path.write_bytes(mutant_of(data, chosen))
        try:
            refused += becomes_mutant(vmm, ticking, chosen.random() < 0.5)
        except BaseException as error:
            path.with_name("original").write_bytes(data)
            error.add_note(f"mutant {i} of seed {seed} is {path}, made from `original` beside it")
            raise
    print(f"seed {seed}: {refused} of {MUTANTS} mutants were refused")
    assert 0 < refused < MUTANTS


# Calls of a save, each with an error that a disk or a full system gives, and which of them it happens to. One C library
# opens files with open(), another with openat().
INJECTED = [(call, error, when) for call, error, whens in (
    ("open,openat", "EMFILE", (1, 2)), ("ftruncate", "EIO", (1,)), ("pwrite64", "EIO", (1, 2)), ("ioctl", "ENOMEM", (1, 5, 12)), ("pwrite64", "ENOSPC", (2,)),
    ("fsync", "EIO", (1, 2)), ("rename", "EIO", (1,))) for when in whens]


@pytest.fixture(scope="module", name="can_trace")
def try_to_trace():
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace cannot trace here, so no error was injected: {done.stderr}")


def inject(machine, what, ask):
    """Calls ask() while strace does what it is told to the monitor."""
    call = what.split(":")[0]
    tracer = subprocess.Popen(["strace", "-f", "-p", str(machine.pid), "-e", f"trace={call}", "-e", f"inject={what}", "-o", "/dev/null"],
                              stderr=subprocess.PIPE, text=True)
    while "attached" not in tracer.stderr.readline():
        assert tracer.poll() is None
    try:
        return ask()
    finally:
        # It may wait for ever for the end of one that it has killed itself; without it everybody goes on.
        tracer.kill() if ":signal=KILL" in what else tracer.terminate()
        tracer.communicate()


@pytest.mark.usefixtures("can_trace")
@pytest.mark.parametrize("kind", ("Full", "Diff"))
def test_calls_that_fail_in_a_save(ticking, kind):
    """After each: the reason is told, nothing is left, the guest goes on, the snapshot before is whole, the next one works."""
    # Under the filter a call that strace makes fail would be a forbidden one.
    machine = ticking.start("keeper", args=["--no-seccomp"], track_dirty_pages=True)
    goes_round(machine)
    ticking.save(machine)
    for call, error, when in INJECTED:
        machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
        goes_on(machine)
        machine.api.ok("PATCH", "/vm", {"state": "Paused"})
        answer = inject(machine, f"{call}:error={error}:when={when}",
                        lambda: machine.api.put("/snapshot/create", {**ticking.files("next"), "snapshot_type": kind}))
        assert answer.status == 400, (call, error, when)
        assert answer.fault.startswith("Create snapshot error: ") and "(os error " in answer.fault, answer
        assert not list(ticking.folder.glob("*.partial"))
    if kind == "Diff":
        ticking.save(machine, "d0", snapshot_type="Diff")
        merge(ticking, "s", "d0", out="merged")
        is_whole(ticking, "merged")
    goes_on(ticking.load())
    ticking.save(machine, "next")
    is_whole(ticking, "next")


def test_killed_in_the_midst_of_a_save(ticking):
    """At many moments; the snapshot before is always whole, and the next save does not mind what was left."""
    machine = ticking.start("keeper")
    goes_round(machine)
    ticking.save(machine)
    machine.kill()
    chosen = random.Random(3)
    for _ in range(15):
        machine = ticking.load()
        machine.api.ok("PATCH", "/vm", {"state": "Paused"})
        killer = threading.Timer(chosen.random() * 0.03, machine.kill)
        killer.start()
        try:
            machine.api.put("/snapshot/create", ticking.files())
        except (EOFError, ConnectionRefusedError, BrokenPipeError, ConnectionResetError, FileNotFoundError):
            pass
        killer.join()
        clone = ticking.load()
        goes_on(clone)
        clone.kill()
    machine = ticking.load()
    ticking.save(machine)
    assert sorted(path.name for path in ticking.folder.glob("s.*")) == ["s.mem", "s.state"]


@pytest.mark.usefixtures("can_trace")
@pytest.mark.parametrize("compression", ("None", "Lz4"))
def test_killed_between_the_two_renames(ticking, compression):
    """State and memory have the same paths as the snapshot before. The new snapshot counts, and the next save tidies up."""
    machine = ticking.start("keeper", args=["--no-seccomp"])
    goes_round(machine)
    ticking.save(machine)
    machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_round(machine)
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    with pytest.raises((EOFError, ConnectionResetError)):
        inject(machine, "rename:signal=KILL:when=2",
               lambda: machine.api.put("/snapshot/create", {**ticking.files(), "compression": compression}))
    machine.killed = True
    left = pathlib.Path(ticking.files()["mem_file_path"] + ".partial")
    assert left.exists()
    is_whole(ticking, "s")
    clone = ticking.load()
    assert "the memory of this state is still called" in clone.log()
    ticking.save(clone)
    assert "has its name now" in clone.log() and not left.exists()
    is_whole(ticking, "s")


@pytest.mark.usefixtures("can_trace")
def test_killed_twice(ticking):
    """Between the renames, and early in the next save to the same paths: what was left has its name by then."""
    for call, when in (("rename", 2), ("fsync", 1)):
        machine = ticking.start("keeper", args=["--no-seccomp"]) if call == "rename" else ticking.monitor("--no-seccomp")
        if call == "fsync":
            machine.api.ok("PUT", "/snapshot/load", ticking.request(vsock_override={"uds_path": str(ticking.folder / "v0")}))
        goes_round(machine)
        machine.api.ok("PATCH", "/vm", {"state": "Paused"})
        with pytest.raises((EOFError, ConnectionResetError)):
            inject(machine, f"{call}:signal=KILL:when={when}", lambda now=machine: now.api.put("/snapshot/create", ticking.files()))
        machine.killed = True
        is_whole(ticking, "s")
    assert "still called" not in ticking.load().log()


@pytest.mark.usefixtures("can_trace")
def test_a_memory_file_that_cannot_take_its_name(ticking):
    """The state has its name by then; the snapshot is said to be complete, and is."""
    machine = ticking.start("keeper", args=["--no-seccomp"])
    goes_round(machine)
    ticking.save(machine)
    answer = inject(machine, "rename:error=EIO:when=2", lambda: machine.api.put("/snapshot/create", ticking.files()))
    assert answer.status == 400 and "the snapshot is complete, its memory keeps the name" in answer.fault
    is_whole(ticking, "s")
    machine.api.ok("PUT", "/snapshot/create", ticking.files())
    is_whole(ticking, "s")
    assert sorted(path.name for path in ticking.folder.glob("s.*")) == ["s.mem", "s.state"]


def test_files_deleted_while_they_are_used(ticking):
    ticking.save(ticking.start("keeper"))
    machines = [ticking.load() for _ in range(2)]
    for path in ticking.files().values():
        os.unlink(path)
    for machine in machines:
        goes_round(machine)
        ticking.save(machine, "other")
        machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
    is_whole(ticking, "other")


def private_kib(pid):
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Dirty", "Private_Clean")))


def test_a_hundred_clones_of_one(ticking):
    """They share the memory file; each has a socket and a drive of its own, and little memory. One runs at a time, because
    these guests never sleep."""
    machine = ticking.start("keeper")
    goes_round(machine)
    ticking.save(machine)
    machine.kill()
    clones = []
    for i in range(100):
        drive = ticking.folder / f"drive{i}"
        shutil.copy(ticking.folder / "one", drive)
        clones.append(ticking.load(resume_vm=False, drive_overrides=[{"drive_id": "one", "path_on_host": str(drive)}]))
    for clone in clones:
        clone.api.ok("PATCH", "/vm", {"state": "Resumed"})
        goes_on(clone)
        clone.api.ok("PATCH", "/vm", {"state": "Paused"})
        assert private_kib(clone.pid) < 2048 + SANITIZER_KIB
    firsts = {tuple(clone.console().splitlines()[:2]) for clone in clones}
    assert len(firsts) == 1     # all went on from the same place


def test_memory_that_shrinks_under_a_guest(ticking):
    """The file must not change; a guest whose memory is cut off ends with the code for that, and nobody else."""
    machine = ticking.start("keeper")
    ticking.save(machine)
    clone = ticking.load()
    os.truncate(ticking.files()["mem_file_path"], MIB)
    assert clone.wait() in (1, 149)
    machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_on(machine)
