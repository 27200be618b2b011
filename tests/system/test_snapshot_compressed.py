# SPDX-License-Identifier: Apache-2.0
"""Compressed memory files: saved by the monitor or made by the `bantam` command, loaded, merged, damaged."""

import os
import pathlib

import pytest

from test_snapshot import MIB, goes_on, make_ticking  # noqa: F401 (the fixture)
from test_snapshot_diff import bantam, diffs_of, goes_round, is_whole, merge, resume
from test_snapshot_uffd import huge_kib

pytestmark = pytest.mark.native


def memory(ticking, name):
    return pathlib.Path(ticking.files(name)["mem_file_path"])


def saved(ticking, **config):
    machine = ticking.start("keeper", **config)
    goes_round(machine)
    ticking.save(machine, "packed", compression="Lz4")
    return machine


@pytest.mark.parametrize("huge_pages", ("None", "Transparent"))
def test_a_guest_goes_on(ticking, huge_pages):
    machine = saved(ticking, huge_pages=huge_pages)
    ticking.save(machine, "plain")
    assert memory(ticking, "packed").stat().st_size < memory(ticking, "plain").stat().st_blocks * 512
    is_whole(ticking, "packed")
    is_whole(ticking, "plain")


@pytest.mark.usefixtures("huge_pages")
def test_a_guest_of_huge_pages_goes_on(ticking):
    """What is unpacked needs no page fault handler to lie in pages of 2 MiB."""
    saved(ticking, huge_pages="2M").kill()
    machine = ticking.load("packed")
    goes_round(machine)
    assert huge_kib(machine) > 0


@pytest.mark.parametrize("track", (True, False))
def test_differences(ticking, track):
    """Compressed or not, base and differences merge; a guest out of a compressed file has differences that are right."""
    machine = saved(ticking, track_dirty_pages=track)
    resume(machine)
    goes_round(machine)
    ticking.save(machine, "d0", snapshot_type="Diff", compression="Lz4")
    resume(machine)
    goes_round(machine)
    ticking.save(machine, "d1", snapshot_type="Diff")
    machine.kill()
    merge(ticking, "packed", "d0", "d1", out="merged")
    assert memory(ticking, "merged").stat().st_size == 64 * MIB
    is_whole(ticking, "merged")
    os.link(ticking.files("packed")["snapshot_path"], ticking.files("again")["snapshot_path"])
    os.link(memory(ticking, "packed"), memory(ticking, "again"))
    restored = ticking.load("again", track_dirty_pages=track)
    goes_on(restored)
    restored.api.ok("PATCH", "/vm", {"state": "Paused"})
    diffs = diffs_of(ticking, restored, 2)
    merge(ticking, "again", *diffs, out="merged2")
    is_whole(ticking, "merged2")


def test_the_command_goes_both_ways(ticking):
    machine = saved(ticking)
    ticking.save(machine, "plain")
    plain, packed, again = memory(ticking, "plain"), ticking.folder / "small", ticking.folder / "again"
    assert bantam("snapshot", "compress", plain, "-o", packed).returncode == 0
    assert packed.stat().st_size < plain.stat().st_blocks * 512
    assert bantam("snapshot", "decompress", packed, "-o", again).returncode == 0
    assert plain.read_bytes() == again.read_bytes() and again.stat().st_blocks <= plain.stat().st_blocks
    twice = bantam("snapshot", "compress", packed, "-o", again)
    assert twice.returncode == 1 and "is compressed already" in twice.stderr
    odd = ticking.folder / "odd"
    odd.write_bytes(b"no memory")
    none = bantam("snapshot", "compress", odd, "-o", again)
    assert none.returncode == 1 and "is no memory file" in none.stderr
    assert bantam("snapshot", "compress", plain).returncode == 2
    # What the command made belongs to the state as well.
    os.replace(packed, plain)
    machine.kill()
    is_whole(ticking, "plain")


def test_what_is_damaged_is_refused(ticking):
    saved(ticking).kill()
    path = memory(ticking, "packed")
    good = path.read_bytes()
    for place in (20, len(good) // 2, len(good) - 40):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        assert "memory file is damaged" in ticking.refused("packed")
    path.write_bytes(good[:len(good) // 2 | 1])
    assert "memory file is damaged" in ticking.refused("packed")
    path.write_bytes(good)
    is_whole(ticking, "packed")


def test_memory_of_another_snapshot(ticking):
    machine = saved(ticking)
    ticking.save(machine, "other", compression="Lz4")
    os.replace(memory(ticking, "other"), memory(ticking, "packed"))
    assert "of different snapshots" in ticking.refused("packed")


def test_no_working_set_is_recorded(ticking):
    saved(ticking).kill()
    pages = ticking.folder / "pages"
    assert "the memory file is compressed" in ticking.refused("packed", record_working_set=str(pages))
    goes_on(ticking.load("packed", prefetch_working_set=str(pages)))    # a hint that is of no use


def test_what_can_be_asked_for(ticking):
    machine = ticking.start()
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    answer = machine.api.put("/snapshot/create", {**ticking.files(), "compression": "Zip"})
    assert answer.status == 400 and "compression" in answer.fault and "Lz4" in answer.fault
