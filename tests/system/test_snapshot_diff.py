# SPDX-License-Identifier: Apache-2.0
"""Differences: guests that go on from merged ones, what they cost, what the `bantam` command does with the files."""

import json
import os
import subprocess

import pytest

from api_client import wait_for
from conftest import VMM
from test_snapshot import MEMORY_MIB, MIB, goes_on, make_ticking, numbers  # noqa: F401 (the fixture)

pytestmark = pytest.mark.native

BANTAM = VMM.parent / "bantam"
PAGES = 32     # of the guest "keeper"


def bantam(*args):
    return subprocess.run([BANTAM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def merge(ticking, base, *diffs, out):
    """A snapshot `out`: the memory of base and diffs, the state of the last of them."""
    names = [ticking.files(name)["mem_file_path"] for name in (base, *diffs)]
    done = bantam("snapshot", "merge", *names, "-o", ticking.files(out)["mem_file_path"])
    assert (done.returncode, done.stderr) == (0, "")
    state = ticking.files(out)["snapshot_path"]
    if os.path.exists(state):
        os.unlink(state)
    os.link(ticking.files(diffs[-1])["snapshot_path"], state)


def resume(machine):
    machine.api.ok("PATCH", "/vm", {"state": "Resumed"})


def blocks(ticking, name):
    return os.stat(ticking.files(name)["mem_file_path"]).st_blocks * 512


def goes_round(machine):
    """The guest has changed each of its pages and looked at it."""
    end = len(numbers(machine)) + PAGES + 5
    wait_for(lambda: len(numbers(machine)) > end, "the guest to go round its pages")
    goes_on(machine)


def is_whole(ticking, name):
    """A guest restored from it finds all its pages. It ends then: these guests never sleep."""
    machine = ticking.load(name)
    goes_round(machine)
    machine.kill()


def diffs_of(ticking, machine, count):
    """Takes differences d0, d1 …, the guest running in between."""
    for i in range(count):
        resume(machine)
        goes_round(machine)
        ticking.save(machine, f"d{i}", snapshot_type="Diff")
    return [f"d{i}" for i in range(count)]


@pytest.mark.parametrize("track", (True, False))
@pytest.mark.parametrize("first_type", ("Full", "Diff"))
def test_full_and_differences(ticking, track, first_type):
    """From a guest that was booted; its first difference is a whole snapshot by itself."""
    machine = ticking.start("keeper", track_dirty_pages=track)
    goes_round(machine)
    ticking.save(machine, "base", snapshot_type=first_type)
    is_whole(ticking, "base")
    diffs = diffs_of(ticking, machine, 3)
    if track:
        assert all(blocks(ticking, name) < MIB for name in diffs)
    merge(ticking, "base", *diffs, out="merged")
    is_whole(ticking, "merged")
    resume(machine)
    goes_on(machine)


@pytest.mark.parametrize("track", (True, False))
def test_differences_from_a_restored_guest(ticking, track):
    machine = ticking.start("keeper")
    goes_on(machine)
    ticking.save(machine, "base")
    machine.kill()
    restored = ticking.load("base", track_dirty_pages=track)
    goes_on(restored)
    restored.api.ok("PATCH", "/vm", {"state": "Paused"})
    diffs = diffs_of(ticking, restored, 3)
    assert all(blocks(ticking, name) < MIB for name in diffs)
    merge(ticking, "base", *diffs, out="merged")
    is_whole(ticking, "merged")


@pytest.mark.parametrize("track", (True, False))
def test_a_difference_onto_a_full_file(ticking, track):
    """It goes over what is there; clones that live from that, and the microVM itself, keep theirs."""
    machine = ticking.start("keeper")
    goes_round(machine)
    ticking.save(machine, "s")
    machine.kill()
    restored, clone = ticking.load("s", track_dirty_pages=track), ticking.load("s", resume_vm=False)
    for _ in range(3):
        goes_round(restored)
        ticking.save(restored, "s", snapshot_type="Diff")
        is_whole(ticking, "s")
        resume(restored)
    resume(clone)
    goes_round(clone)


def test_a_difference_onto_an_older_one(ticking):
    """Its pages are older than the full snapshot in between, so they must be gone. Those of the one before may stay."""
    machine = ticking.start("keeper", track_dirty_pages=True)
    goes_round(machine)
    ticking.save(machine, "base")
    for name, kind, change in (("d", "Diff", goes_round), ("base", "Full", goes_round), ("d", "Diff", goes_on), ("d", "Diff", goes_on)):
        resume(machine)
        change(machine)
        ticking.save(machine, name, snapshot_type=kind)
    merge(ticking, "base", "d", out="merged")
    is_whole(ticking, "merged")


def test_a_chain_of_merged_snapshots(ticking):
    """Each round: restore what was merged, run, take a difference, merge it; nothing is lost."""
    machine = ticking.start("keeper")
    goes_on(machine)
    ticking.save(machine, "m0")
    machine.kill()
    for i in range(12):
        machine = ticking.load(f"m{i}", track_dirty_pages=i % 2 == 0)
        goes_round(machine)
        ticking.save(machine, "d", snapshot_type="Diff")
        machine.kill()
        merge(ticking, f"m{i}", "d", out=f"m{i + 1}")


def test_a_failed_difference_loses_nothing(ticking, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    machine = ticking.start("keeper", track_dirty_pages=True)
    goes_on(machine)
    ticking.save(machine, "base")
    resume(machine)
    goes_round(machine)
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", folder], check=True)
    try:
        answer = machine.api.put("/snapshot/create", {
            "snapshot_path": str(folder / "s"), "mem_file_path": str(folder / "m"), "snapshot_type": "Diff"})
        assert answer.status == 400 and "No space left" in answer.fault
    finally:
        subprocess.run(["umount", folder], check=True)
    ticking.save(machine, "d0", snapshot_type="Diff")
    merge(ticking, "base", "d0", out="merged")
    is_whole(ticking, "merged")


def test_a_difference_is_not_loaded_as_a_whole(ticking):
    machine = ticking.start("keeper", track_dirty_pages=True)
    ticking.save(machine, "base")
    ticking.save(machine, "d0", snapshot_type="Diff")
    merge(ticking, "base", "d0", out="merged")
    machine.kill()
    files = ticking.files
    os.replace(files("base")["mem_file_path"], files("d0")["mem_file_path"])
    assert "they are of different snapshots" in ticking.refused("d0")


# ---- the command ----

def test_describe(ticking):
    machine = ticking.start("keeper", vcpu_count=2)
    ticking.save(machine, "base", snapshot_type="Diff")
    path = ticking.files("base")["snapshot_path"]
    said = json.loads(bantam("snapshot", "describe", path, "--json").stdout)
    assert said["kind"] == "Diff" and said["vcpu_count"] == 2 and said["memory_bytes"] == MEMORY_MIB * MIB
    assert said["drives"] == [{"drive_id": "one", "path_on_host": str(ticking.folder / "one")}]
    assert said["host_kernel"] == os.uname().release
    names = [(section["name"], section["instance"]) for section in said["sections"]]
    assert names == [("manifest", 0), ("config", 0), ("memory", 0), ("vcpu", 0), ("vcpu", 1), ("chips", 0), ("serial", 0),
                     ("i8042", 0), ("virtio", 0), ("virtio", 1), ("virtio", 2)]
    text = bantam("snapshot", "describe", path).stdout
    assert "kind         difference" in text and f"memory       {MEMORY_MIB} MiB" in text


@pytest.mark.parametrize("args", ((), ("snapshot",), ("snapshot", "merge"), ("snapshot", "merge", "a", "-o", "b"),
                                  ("snapshot", "merge", "a", "b"), ("snapshot", "describe"), ("snapshot", "describe", "a", "b"),
                                  ("snapshot", "describe", "--yaml", "a"), ("snapshot", "unheard-of", "a")))
def test_usage(args):
    done = bantam(*args)
    assert done.returncode == 2 and done.stderr.startswith("usage:") and done.stdout == ""


def test_files_that_cannot_be_merged(tmp_path):
    base, diff, out = tmp_path / "base", tmp_path / "diff", tmp_path / "out"
    base.write_bytes(bytes(8192))
    diff.write_bytes(bytes(4096))
    done = bantam("snapshot", "merge", base, diff, "-o", out)
    assert done.returncode == 1 and "has 4096 bytes, the base 8192" in done.stderr
    done = bantam("snapshot", "merge", base, tmp_path / "none", "-o", out)
    assert done.returncode == 1 and "No such file" in done.stderr
    done = bantam("snapshot", "merge", base, "/dev/zero", "-o", out)
    assert done.returncode == 1 and "is no memory file" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["base", "diff"]
    assert bantam("snapshot", "describe", base).returncode == 1


def test_merging_onto_the_base_itself(tmp_path):
    base, diff = tmp_path / "base", tmp_path / "diff"
    base.write_bytes(b"b" * (3 * MIB))
    with open(diff, "wb") as file:
        file.truncate(3 * MIB)
        file.seek(MIB)
        file.write(b"d" * 4096)
    assert bantam("snapshot", "merge", base, diff, "-o", base).returncode == 0
    assert base.read_bytes() == b"b" * MIB + b"d" * 4096 + b"b" * (2 * MIB - 4096)
