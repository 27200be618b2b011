# SPDX-License-Identifier: Apache-2.0
"""Benches of snapshots: saving, loading, and many microVMs out of one snapshot.

A guest is saved once by the contestant itself; then fresh monitors load what it saved. Snapshots stay in the run's own
folder, next to nothing else that is timed.
"""

import os
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from .api import ApiError
from .bench_block import SLOW_DISK_MS
from .bench_boot import CLIENT_S
from .bench_vsock import Stream
from .workload import WORK_MEM_MIB, boot_args

TALK = rb"T"
PREPARE = ("--prepare-vcpus", "1")
CLONES = 10
MANY_CLONES = 100


class Snapshot:
    """A saved guest: its two files and what saving it cost."""

    def __init__(self, folder, name):
        self.state, self.memory = Path(folder) / f"{name}.state", Path(folder) / f"{name}.memory"
        self.create_s = 0.0

    def take(self, instance):
        """Pauses the guest and saves it; the files of an earlier one are gone first."""
        self.remove()
        instance.api.call("PATCH", "/vm", {"state": "Paused"})
        self.create_s = instance.api.call("PUT", "/snapshot/create", {
            "snapshot_type": "Full", "snapshot_path": str(self.state), "mem_file_path": str(self.memory)})

    def load(self, instance, **more):
        """Loads and, unless told otherwise, resumes; returns the seconds of the call."""
        return instance.api.call("PUT", "/snapshot/load", {
            "snapshot_path": str(self.state), "mem_backend": {"backend_type": "File", "backend_path": str(self.memory)},
            "resume_vm": True, **more})

    def forget(self):
        """Drops both files from the page cache."""
        for path in (self.state, self.memory):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def sizes(self):
        return {"state_kib": self.state.stat().st_size / 1024, "memory_kib": self.memory.stat().st_blocks / 2}

    def copy_to(self, folder):
        copy = Snapshot(folder, self.state.stem)
        for source, target in ((self.state, copy.state), (self.memory, copy.memory)):
            subprocess.run(["cp", "--sparse=always", source, target], check=True)
        return copy

    def remove(self):
        for path in (self.state, self.memory):
            path.unlink(missing_ok=True)


def _pss_kib(pids):
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def _clones(contestant, count, load):
    """Loads `count` monitors one after the other; returns the seconds and the mean proportional set size."""
    with ExitStack() as stack:
        start = time.perf_counter()
        instances = []
        for _ in range(count):
            instances.append(stack.enter_context(contestant.start()))
            load(instances[-1])
        took_s = time.perf_counter() - start
        return took_s, _pss_kib([instance.process.pid for instance in instances]) / count


def run_tiny(context, contestant):
    """A guest of a few instructions that writes to its serial port for ever; needs no hardware KVM."""
    guest = context.talking()
    snapshot = Snapshot(context.folder, "tiny")
    with contestant.start() as instance:
        instance.configure(guest, "none")
        instance.instance_start()
        instance.process.wait_for_output(TALK, context.timeout_s)
        snapshot.take(instance)
    with contestant.start() as instance:
        mark, start_s = len(instance.process.output), time.perf_counter()
        load_s = snapshot.load(instance)
        _, seen_s = instance.process.wait_for_output(TALK + TALK, context.timeout_s, mark)
    with contestant.start() as instance:
        time.sleep(CLIENT_S)
        later_s = snapshot.load(instance)
    # Standing still: this guest never rests, and a hundred that run would time each other.
    many_s, pss_kib = _clones(contestant, MANY_CLONES, lambda clone: snapshot.load(clone, resume_vm=False))
    figures = {"create": snapshot.create_s * 1e3, **snapshot.sizes(), "load": load_s * 1e3, "load_later": later_s * 1e3,
               "load_to_guest": (seen_s - start_s) * 1e3, "many": many_s * 1e3, "many_pss": pss_kib}
    if contestant.has_flag(PREPARE[0]):
        with contestant.start(more=PREPARE) as instance:
            instance.process.wait_for_threads(2, context.timeout_s)
            figures["load_prepared"] = snapshot.load(instance) * 1e3
    snapshot.remove()
    return figures


def _round(context, contestant, snapshot, **more):
    """Milliseconds from the load until the guest has gone round its memory: to its second letter, since it may have been on its
    way to the first one."""
    with contestant.start() as instance:
        mark, start_s = len(instance.process.output), time.perf_counter()
        snapshot.load(instance, **more)
        _, seen_s = instance.process.wait_for_output(TALK + TALK, context.timeout_s, mark)
        instance.api.call("PATCH", "/vm", {"state": "Paused"})  # a working set that is being recorded is then complete
        return (seen_s - start_s) * 1e3


def _rounds(context, contestant, folder):
    guest = context.touring()
    snapshot = Snapshot(folder, "touring")
    with contestant.start() as instance:
        instance.configure(guest, "none")
        instance.instance_start()
        instance.process.wait_for_output(TALK, context.timeout_s)
        snapshot.take(instance)
    figures = {"warm": _round(context, contestant, snapshot)}
    snapshot.forget()
    figures["cold"] = _round(context, contestant, snapshot)
    pages = str(snapshot.state.with_suffix(".pages"))
    try:
        _round(context, contestant, snapshot, record_working_set=pages)
        snapshot.forget()
        figures["prefetched"] = _round(context, contestant, snapshot, prefetch_working_set=pages)
    except ApiError:    # an unknown field
        figures["prefetched"] = figures["cold"]     # the best that it can do
    snapshot.remove()
    return figures


def run_cold(context, contestant):
    """A guest that wants pages all over its memory at once, restored from the disk of --scratch."""
    return _rounds(context, contestant, context.disk_folder())


def run_slow(context, contestant):
    """The same from a disk that takes its time."""
    return _rounds(context, contestant, context.slow_folder(SLOW_DISK_MS))


def _answer(path, timeout_s):
    """Waits until the guest's agent echoes a byte; a connection that the monitor or guest resets is tried again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with Stream(path, b"E", 1, timeout_s) as stream:
                stream.send(1)
                stream.receive(1)
                return
        except (OSError, socket.timeout, ValueError, RuntimeError):
            if time.monotonic() > deadline:
                raise


def _load_to_answer(contestant, snapshot, timeout_s, **more):
    with contestant.start() as instance:
        start_s = time.perf_counter()
        load_s = snapshot.load(instance, vsock_override={"uds_path": str(instance.vsock)}, **more)
        _answer(instance.vsock, timeout_s)
        took_s = time.perf_counter() - start_s
        instance.api.call("PATCH", "/vm", {"state": "Paused"})  # a working set that is being recorded is then complete
        return load_s * 1e3, took_s * 1e3


def _cold(context, contestant, snapshot):
    """From a slow disk with nothing in the page cache; again with a recorded working set where the monitor has that."""
    slow = snapshot.copy_to(context.slow_folder(SLOW_DISK_MS))
    slow.forget()
    figures = {"cold_to_answer": _load_to_answer(contestant, slow, context.timeout_s)[1]}
    pages = str(slow.state.with_suffix(".pages"))
    try:
        _load_to_answer(contestant, slow, context.timeout_s, record_working_set=pages)
    except ApiError:    # an unknown field
        return figures
    slow.forget()
    figures["prefetch_to_answer"] = _load_to_answer(contestant, slow, context.timeout_s, prefetch_working_set=pages)[1]
    slow.remove()
    return figures


def run_linux(context, contestant):
    """Linux with an agent on vsock: saved, loaded with warm and with cold page cache, cloned."""
    guest = context.linux(WORK_MEM_MIB)
    snapshot = Snapshot(context.disk_folder(), "linux")
    with contestant.start() as instance:
        instance.configure(guest, boot_args("vsock"), [("root", guest.rootfs, True, True, "Sync")], vsock=True)
        instance.instance_start()
        instance.process.wait_for_output(rb"RESULT vsock_ready 1", context.timeout_s)
        _answer(instance.vsock, context.timeout_s)
        snapshot.take(instance)
    load_ms, answer_ms = _load_to_answer(contestant, snapshot, context.timeout_s)
    figures = {"create": snapshot.create_s * 1e3, **snapshot.sizes(), "load": load_ms, "load_to_answer": answer_ms,
               **_cold(context, contestant, snapshot)}

    def load(instance):
        snapshot.load(instance, vsock_override={"uds_path": str(instance.vsock)})
        _answer(instance.vsock, context.timeout_s)

    one, ten = _clones(contestant, 1, load), _clones(contestant, CLONES, load)
    figures.update({"clone_pss_1": one[1], "clone_pss_10": ten[1], "clones_10": ten[0] * 1e3})
    snapshot.remove()
    return figures
