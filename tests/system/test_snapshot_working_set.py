# SPDX-License-Identifier: Apache-2.0
"""Working sets: recorded at one restore, asked for ahead at the next, never in anybody's way."""

import os
import pathlib
import struct
import subprocess

import pytest

from api_client import wait_for
from test_snapshot import MEMORY_MIB, MIB, goes_on, make_ticking  # noqa: F401 (the fixture)
from test_snapshot_diff import goes_round
from test_snapshot_faults import mend

pytestmark = [pytest.mark.native, pytest.mark.newer]

PAGE = 4096


@pytest.fixture(name="recorded")
def record(ticking):
    """A snapshot and the list of what its guest touched; gives the list's path."""
    machine = ticking.start("keeper")
    goes_round(machine)
    ticking.save(machine)
    machine.kill()
    path = ticking.folder / "set"
    machine = ticking.load(record_working_set=str(path))
    goes_round(machine)
    assert not path.exists()
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})     # that ends it
    assert path.exists()
    machine.kill()
    return path


def ranges(path):
    """What is in the list: (first page, number of pages)."""
    data = path.read_bytes()
    count, = struct.unpack_from("<I", data, 40 + 48 + 24)
    return [struct.unpack_from("<QQ", data, 40 + 48 + 28 + 16 * i) for i in range(count)]


def test_what_is_recorded(ticking, recorded):
    """What the guest works with, and little else: its memory is far larger."""
    found = ranges(recorded)
    assert found == sorted(found)
    assert 32 <= sum(count for _, count in found) < 2000, found
    written = os.stat(ticking.files()["mem_file_path"]).st_blocks * 512 // PAGE
    assert sum(count for _, count in found) >= min(written, 32)


def test_prefetched(ticking, recorded):
    machine = ticking.load(prefetch_working_set=str(recorded))
    goes_round(machine)
    assert "working set" not in machine.log()


def cached_pages(path):
    done = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "PAGES", path],
                          stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def list_of_one(recorded, first, count):
    """The list with another range in the place of all that are in it."""
    data = bytearray(recorded.read_bytes()[:40 + 48 + 28])
    data += struct.pack("<QQ", first, count) + bytes(4)
    struct.pack_into("<Q", data, 24, len(data))                         # the file's bytes
    struct.pack_into("<Q", data, 40 + 32, len(data) - 40 - 48 - 4)      # the section's
    struct.pack_into("<I", data, 40 + 48 + 24, 1)
    recorded.write_bytes(mend(bytes(data)))


def test_what_is_prefetched_is_in_the_page_cache(ticking, recorded):
    """Pages on a disk, far from what else is read, are read although the guest does not run."""
    disk = pathlib.Path("/var/tmp") / f"bantam-test-{os.getpid()}"
    subprocess.run(["cp", "--sparse=never", ticking.files()["mem_file_path"], disk], check=True)
    first, count = MEMORY_MIB * MIB // PAGE - 600, 500
    list_of_one(recorded, first, count)

    def load(**more):
        """How many pages are cached after a load, from none on."""
        with open(disk, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_pages(disk) > 0:
            pytest.skip("/var/tmp is not on a disk")
        ticking.load(resume_vm=False, mem_backend={"backend_type": "File", "backend_path": str(disk)}, **more).kill()
        return cached_pages(disk)

    try:
        without = load()
        assert load(prefetch_working_set=str(recorded)) >= without + count
    finally:
        disk.unlink()


def test_for_so_long(ticking):
    machine = ticking.start("keeper")
    ticking.save(machine)
    path = ticking.folder / "set"
    clone = ticking.load(record_working_set=str(path), record_working_set_ms=50)
    wait_for(path.exists, "the list")
    goes_on(clone)
    clone.api.ok("PATCH", "/vm", {"state": "Paused"})
    assert clone.alive()


def test_until_the_end(ticking):
    ticking.save(ticking.start("keeper"))
    path = ticking.folder / "set"
    clone = ticking.load(record_working_set=str(path))
    goes_on(clone)
    assert clone.terminate() == 0
    assert ranges(path)


@pytest.mark.parametrize("spoil", ("missing", "damaged", "another", "garbage"))
def test_a_list_is_only_a_hint(ticking, recorded, spoil):
    if spoil == "missing":
        recorded.unlink()
    elif spoil == "damaged":
        data = bytearray(recorded.read_bytes())
        data[100] ^= 1
        recorded.write_bytes(data)
    elif spoil == "garbage":
        recorded.write_bytes(b"x" * 100)
    else:
        machine = ticking.load()
        ticking.save(machine)       # under the same name, but another snapshot
        machine.kill()
    machine = ticking.load(prefetch_working_set=str(recorded))
    goes_round(machine)
    assert "The working set is not prefetched: " in machine.log()


def test_where_nothing_can_be_written(ticking):
    ticking.save(ticking.start("keeper"))
    machine = ticking.load(record_working_set="/nowhere/set")
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    machine.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_on(machine)
    assert "The working set is not recorded: cannot write /nowhere/set" in machine.log()
