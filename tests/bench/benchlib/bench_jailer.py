# SPDX-License-Identifier: Apache-2.0
"""The jailers: from before the exec of the jailer to the end of a program that ends at once, in a mount namespace of its own
with few or many mounts, shared as systemd has them, one jail or ten at a time.

Jails and program are on an ext4 of the bench's own, and no jail is removed before the end: ext4 gives the inode of a removed
file to nobody for some seconds and looks for another the longer the more there are, so that jails made after others were removed,
by the bench or by anybody, would tell the disk's history: up to three times the jailer's own time."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .context import Unavailable

SAMPLES = {1: 41, 10: 15}     # by jails at once
IMAGE_BYTES = 2 << 30           # sparse
CASES = {"m0p1": (0, 1), "m0p10": (0, 10), "m500p1": (500, 1), "m500p10": (500, 10)}


def _jailer(contestant):
    """Beside the monitor, under one of the two names."""
    for name in ("bantam-jailer", "jailer"):
        path = contestant.binary.resolve().parent / name
        if path.exists():
            return path
    raise Unavailable(f"no jailer beside {contestant.binary}")


def _tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Unavailable(f"no {name}: resources/host/deps test installs it")
    return path


def _is_static(program):
    """Whether it runs in a folder without libraries."""
    said = subprocess.run(["readelf", "-l", program], capture_output=True, text=True, check=True).stdout
    return " INTERP " not in said


def _jails(jailer, program, folder, mounts, parallel):
    """Milliseconds, measured in a mount namespace of its own."""
    done = subprocess.run(["unshare", "-m", "--propagation", "private", sys.executable, "-m", __name__, str(jailer), str(program), folder,
                           str(mounts), str(parallel)], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode != 0:
        raise RuntimeError(f"{jailer}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def run(_context, contestant):
    """Each jailer with the same small program, and (own_) with the monitor that it belongs to."""
    if os.geteuid() != 0:
        raise Unavailable("jailers need root")
    jailer, monitor = _jailer(contestant), contestant.binary.resolve()
    _tool("mkfs.ext4")
    with tempfile.TemporaryDirectory(prefix="bench-jail-") as folder:
        same = Path(folder) / "true"    # busybox looks at its name
        shutil.copy(_tool("busybox"), same)
        found = {key: _jails(jailer, same, folder, *case) for key, case in CASES.items()}
        if _is_static(monitor):
            found |= {"own_" + key: _jails(jailer, monitor, folder, *case) for key, case in CASES.items()}
    return found


def _start(jailer, program, base, name):
    words = [jailer, "--id", name, "--exec-file", program, "--uid", "1", "--gid", "1", "--chroot-base-dir", base, "--", "--version"]
    null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    return os.posix_spawn(jailer, words, {}, file_actions=null)


def _once(jailer, program, base, names):
    """Milliseconds until the last of the programs has ended."""
    begin = time.perf_counter()
    children = [_start(jailer, program, base, name) for name in names]
    for pid in children:
        status = os.waitpid(pid, 0)[1]
        if status:
            raise RuntimeError(f"the jailer ended with {status}")
    took = (time.perf_counter() - begin) * 1e3
    for name in names:
        os.truncate(Path(base) / Path(program).name / name / "root" / Path(program).name, 0)    # or the copies are written to disk
    return took


def _make_disk(places):
    """An empty ext4, in memory; gives its mount point."""
    image, disk = places / "image", places / "disk"
    disk.mkdir()
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run([_tool("mkfs.ext4"), "-q", "-E", "lazy_itable_init=1,nodiscard", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    return disk


def _measure(jailer, program, folder, mounts, parallel):
    places = Path(folder) / "mounts"
    places.mkdir(exist_ok=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "bench", places], check=True)
    for i in range(mounts):
        (places / str(i)).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "bench", places / str(i)], check=True)
    disk = _make_disk(places)
    base, copy = disk / "base", disk / Path(program).name
    base.mkdir()
    shutil.copy(program, copy)
    samples = [_once(jailer, str(copy), str(base), [f"bench-{n}-{i}" for i in range(parallel)]) for n in range(SAMPLES[parallel])]
    subprocess.run(["umount", disk], check=True)    # or its last user would be a kernel thread for a while
    return statistics.median(samples)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))))
