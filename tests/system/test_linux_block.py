# SPDX-License-Identifier: Apache-2.0
"""Linux and its disks: one guest with a drive for each thing that can happen to one."""

import hashlib
import os
import pathlib
import subprocess
import time

import pytest

from api_client import wait_for
from linux_exec import drive, full_root, running_guest, small_root, sum_metrics

pytestmark = pytest.mark.guest

MIB = 1 << 20
VOLUME_MIB = int(os.environ.get("BANTAM_TEST_BLOCK_MIB", "256"))    # 1024 where there is time
SEED_MIB = 4
ENGINES = ("Sync", "Async")
# Names in the guest: the root comes first, then the order of the requests.
VOLUME = {"Sync": "vdb", "Async": "vdc"}
SEED, LIMITED, EXCHANGED, EMPTY = "vdd", "vde", "vdf", "vdg"
FULL = {"Sync": "vdh", "Async": "vdi"}
CUT = {"Sync": "vdj", "Async": "vdk"}
FILES = "vdl"       # holds a file system


class Disks:
    """The files behind the drives."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.seed = os.urandom(SEED_MIB * MIB)
        self.volume = {engine: self.make(f"volume{engine}", VOLUME_MIB * MIB) for engine in ENGINES}
        self.cut = {engine: self.make(f"cut{engine}", 8 * MIB) for engine in ENGINES}
        self.small = self.folder / "small"
        self.small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", self.small], check=True)
        self.full = {engine: self.make(f"small/full{engine}", 64 * MIB) for engine in ENGINES}
        self.seed_file = self.make("seed", 0)
        self.seed_file.write_bytes(self.seed)
        self.limited, self.exchanged = self.make("limited", 16 * MIB), self.make("exchanged", 2 * MIB)
        self.empty = self.make("empty", 0)
        self.root, self.files = full_root(), small_root(folder, "files.img")

    def make(self, name, size):
        path = self.folder / f"{name}.img"
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def drives(self):
        bucket = {"bandwidth": {"size": MIB, "refill_time": 1000}}
        return [
            *(drive(self.volume[engine], io_engine=engine, cache_type="Writeback") for engine in ENGINES),
            drive(self.seed_file, is_read_only=True), drive(self.limited, rate_limiter=bucket),
            drive(self.exchanged, io_engine="Async"), drive(self.empty),
            *(drive(self.full[engine], io_engine=engine, cache_type="Writeback") for engine in ENGINES),
            *(drive(self.cut[engine], io_engine=engine) for engine in ENGINES),
            drive(self.files), drive(self.root, is_root_device=True, is_read_only=True)]


@pytest.fixture(scope="module", name="disks")
def make_disks(tmp_path_factory):
    disks = Disks(tmp_path_factory.mktemp("disks"))
    yield disks
    subprocess.run(["umount", disks.small], check=True)
    for path in disks.folder.glob("*.img"):     # where /tmp is in RAM they take much of it
        path.unlink()


@pytest.fixture(scope="module", name="guest")
def guest_with_disks(disks, tmp_path_factory):
    with running_guest(tmp_path_factory.mktemp("vm"), drives=disks.drives(), mem_size_mib=384, vcpu_count=2) as guest:
        guest.sh(f"cat /dev/{SEED} >/dev/shm/seed")
        yield guest


def allocated(path):
    return os.stat(path).st_blocks * 512


def piece(seed, number):
    """The volume consists of turned seeds, so that no piece of it can be taken for another."""
    turn = number * 4097 % len(seed)
    return seed[turn:] + seed[:turn]


# The same in the guest's shell: volume DEVICE PIECES.
VOLUME_SH = f"""volume() {{
	i=0
	while [ $i -lt $2 ]; do
		turn=$((i * 4097 % {SEED_MIB * MIB})) place=$((i * {SEED_MIB * MIB}))
		rest=$(({SEED_MIB * MIB} - turn))
		dd if=/dev/shm/seed of=$1 bs=1M iflag=skip_bytes skip=$turn oflag=seek_bytes seek=$place
		dd if=/dev/shm/seed of=$1 bs=1M iflag=count_bytes count=$turn oflag=seek_bytes seek=$((place + rest))
		i=$((i + 1))
	done 2>/dev/null
	dd if=/dev/null of=$1 conv=notrunc,fsync 2>/dev/null
}}
"""


def test_order_and_sizes(guest):
    """The root drive is vda though it was configured last; a file of no bytes is a drive of no sectors."""
    sizes = guest.sh("cd /sys/block; for d in vd*; do echo $d $(cat $d/size); done").split("\n")
    sectors = {name: int(size) * 512 for name, size in (line.split() for line in sizes)}
    assert sectors == {"vda": 256 * MIB, "vdb": VOLUME_MIB * MIB, "vdc": VOLUME_MIB * MIB, SEED: SEED_MIB * MIB,
                       LIMITED: 16 * MIB, EXCHANGED: 2 * MIB, EMPTY: 0, FULL["Sync"]: 64 * MIB, FULL["Async"]: 64 * MIB,
                       CUT["Sync"]: 8 * MIB, CUT["Async"]: 8 * MIB, FILES: 16 * MIB}
    assert "/dev/root / ext4 ro" in guest.sh("cat /proc/mounts")


def test_serial(guest, disks):
    """GET_ID is device, special device and inode of the backing file, without anything in between, cut at 20."""
    for name, path in (("vda", disks.root), ("vdc", disks.volume["Async"])):
        status = os.stat(path)
        assert guest.sh(f"cat /sys/block/{name}/serial") == f"{status.st_dev}{status.st_rdev}{status.st_ino}"[:20]


def test_cache_type(guest):
    """Flushes are asked for only where the drive takes them."""
    assert guest.sh(f"cat /sys/block/{VOLUME['Sync']}/queue/write_cache") == "write back"
    assert guest.sh(f"cat /sys/block/{LIMITED}/queue/write_cache") == "write through"


def test_read_only(guest, disks):
    assert guest.sh(f"cat /sys/block/{SEED}/ro") == "1"
    status, _ = guest.try_sh(f"dd if=/dev/zero of=/dev/{SEED} bs=4096 count=1 conv=fsync")
    assert status != 0
    assert disks.seed_file.read_bytes() == disks.seed


@pytest.mark.parametrize("engine", ENGINES)
def test_volume(guest, disks, engine):
    """All of a drive is written; the host finds every byte in its place, and the guest reads them back."""
    device, pieces = f"/dev/{VOLUME[engine]}", VOLUME_MIB // SEED_MIB
    before = guest.metrics()[f"block_volume{engine}"]
    guest.sh(f"{VOLUME_SH}\nvolume {device} {pieces}", 600)
    sums = hashlib.md5()    # a checksum, and a quick one
    with open(disks.volume[engine], "rb") as file:
        for number in range(pieces):
            data = file.read(len(disks.seed))
            assert data == piece(disks.seed, number), f"piece {number} differs"
            sums.update(data)
    seen = guest.sh(f"echo 3 >/proc/sys/vm/drop_caches; md5sum {device}", 600)
    assert seen.split()[0] == sums.hexdigest()
    after = guest.metrics()[f"block_volume{engine}"]
    counted = {name: after[name] - before[name] for name in after}
    assert counted["write_bytes"] >= VOLUME_MIB * MIB and counted["read_bytes"] >= VOLUME_MIB * MIB
    assert counted["write_count"] > 0 and counted["read_count"] > 0 and counted["flush_count"] > 0
    assert counted["execute_fails"] == counted["invalid_reqs_count"] == counted["event_fails"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_many_at_once(guest, engine):
    """32 requests of mixed sizes in flight at random places, each checked by fio when it is read back."""
    said = guest.sh(
        f"fio --name=t --filename=/dev/{VOLUME[engine]} --size=16m --rw=randwrite --bsrange=512-128k --direct=1 "
        "--ioengine=io_uring --iodepth=32 --verify=crc32c --verify_fatal=1 --randrepeat=0 --fallocate=none --thread --eta=never", 300)
    assert "err= 0" in said, said


@pytest.mark.parametrize("engine", ENGINES)
def test_discard(guest, disks, engine):
    """What the guest discards, the host's file no longer holds; it reads as zeroes."""
    device, path = f"/dev/{VOLUME[engine]}", disks.volume[engine]
    guest.sh(f"dd if=/dev/shm/seed of={device} bs=1M conv=fsync")
    before = allocated(path)
    guest.sh(f"blkdiscard -l {SEED_MIB * MIB} {device}")
    assert allocated(path) <= before - SEED_MIB * MIB
    assert os.stat(path).st_size == VOLUME_MIB * MIB
    assert guest.sh(f"echo 3 >/proc/sys/vm/drop_caches; head -c {SEED_MIB * MIB} {device} | tr -d '\\0' | wc -c") == "0"


def test_trim(guest, disks):
    """A file system gives back what its deleted files took."""
    guest.sh(f"mount /dev/{FILES} /mnt; fstrim /mnt")   # of what nobody ever wrote nothing is kept in mind
    empty = allocated(disks.files)
    guest.sh("cat /dev/shm/seed >/mnt/big; sync")
    assert allocated(disks.files) >= empty + 4 * MIB
    guest.sh("rm /mnt/big; sync; fstrim /mnt; umount /mnt")
    assert allocated(disks.files) < empty + 2 * MIB


def seconds_to_read(guest, name, mib):
    guest.sh("echo 3 >/proc/sys/vm/drop_caches")
    start = time.monotonic()
    guest.sh(f"dd if=/dev/{name} of=/dev/null bs=64k count={mib * 16} 2>/dev/null", 300)
    return time.monotonic() - start


def test_rate_limiter(guest, disks):
    """1 MiB a second, until a PATCH takes the limit away. (The factor is small because a loaded test host is slow by itself.)"""
    limited = seconds_to_read(guest, LIMITED, 8)
    assert guest.metrics()["block_limited"]["rate_limiter_throttled_events"] > 0
    none = {"size": 0, "refill_time": 0}
    guest.api.ok("PATCH", "/drives/limited", {"drive_id": "limited", "rate_limiter": {"bandwidth": none}})
    free = seconds_to_read(guest, LIMITED, 8)
    assert limited > 2 * free, f"{limited:.2f} s with the limit, {free:.2f} s without"


def test_exchanged_file(guest, disks):
    """PATCH of a drive's file: the guest hears of the new size and reads the new bytes."""
    assert guest.sh(f"head -c {MIB} /dev/{EXCHANGED} | tr -d '\\0' | wc -c") == "0"
    other = disks.make("other", 0)
    other.write_bytes(disks.seed)
    guest.api.ok("PATCH", "/drives/exchanged", {"drive_id": "exchanged", "path_on_host": str(other)})
    wait_for(lambda: guest.sh(f"cat /sys/block/{EXCHANGED}/size") == str(SEED_MIB * MIB // 512), "the new size")
    assert guest.sh(f"blockdev --flushbufs /dev/{EXCHANGED}; md5sum /dev/{EXCHANGED}").split()[0] == \
        hashlib.md5(disks.seed).hexdigest()
    status = os.stat(other)
    assert guest.sh(f"cat /sys/block/{EXCHANGED}/serial") == f"{status.st_dev}{status.st_rdev}{status.st_ino}"[:20]
    missing = guest.api.patch("/drives/exchanged", {"drive_id": "exchanged", "path_on_host": "/nowhere"})
    assert missing.status == 400 and "No such file" in missing.fault
    assert guest.sh(f"head -c 4096 /dev/{EXCHANGED} | md5sum").split()[0] == hashlib.md5(disks.seed[:4096]).hexdigest()


@pytest.mark.parametrize("engine", ENGINES)
def test_host_disk_full(guest, disks, engine):
    """Writes fail in the guest, what was there before stays readable, and nothing else suffers."""
    status, said = guest.try_sh(f"dd if=/dev/shm/seed of=/dev/{FULL[engine]} bs=1M conv=fsync 2>&1 && "
                                f"dd if=/dev/shm/seed of=/dev/{FULL[engine]} bs=1M seek=4 conv=fsync")
    assert status != 0 and "error" in said, said
    assert guest.metrics()[f"block_full{engine}"]["execute_fails"] > 0
    with open(disks.full[engine], "r+b") as file:
        file.truncate(0)
        file.truncate(64 * MIB)
    guest.sh(f"dd if=/dev/shm/seed of=/dev/{FULL[engine]} bs=1M count=1 conv=fsync")
    with open(disks.full[engine], "rb") as file:
        assert file.read(MIB) == disks.seed[:MIB]
    with open(disks.full[engine], "r+b") as file:
        file.truncate(0)    # room for the other engine's turn


@pytest.mark.parametrize("engine", ENGINES)
def test_truncated_file(guest, disks, engine):
    """Reads behind the new end fail; reads before it do not."""
    device = f"/dev/{CUT[engine]}"
    guest.sh(f"dd if={device} of=/dev/null bs=1M count=8; echo 3 >/proc/sys/vm/drop_caches")
    os.truncate(disks.cut[engine], MIB)
    status, said = guest.try_sh(f"dd if={device} of=/dev/null bs=64k skip=32 count=1 2>&1")
    assert status != 0 and "Input/output error" in said, said
    guest.sh(f"dd if={device} of=/dev/null bs=64k count=8")
    assert guest.metrics()[f"block_cut{engine}"]["execute_fails"] > 0


def test_metrics_of_all_drives(guest):
    """The group of all drives is the sum of the drives' own."""
    counted = guest.metrics()
    single = [values for group, values in counted.items() if group.startswith("block_")]
    assert len(single) == 12
    for name in ("read_bytes", "write_bytes", "read_count", "write_count", "flush_count", "execute_fails"):
        assert counted["block"][name] == sum(values[name] for values in single) > 0
    assert counted == sum_metrics(guest.machine.folder / "metrics")
