# SPDX-License-Identifier: Apache-2.0
"""One process of a monitor: started, observed through /proc, ended by its pid."""

import os
import re
import select
import subprocess
import threading
import time
from pathlib import Path


class ProcessError(Exception):
    """The process did not do what the benchmark needs."""


class Process:
    """A child whose standard output and error are collected, with the time at which each piece came."""

    def __init__(self, argv, cwd=None):
        self.argv = [str(word) for word in argv]
        read_fd, write_fd = os.pipe()
        self.output = bytearray()
        self.arrivals = []  # (offset of the piece's end, monotonic seconds)
        self.changed = threading.Condition()
        self.finished_reading = False
        try:
            self.started_s = time.perf_counter()
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=write_fd,
                                          stderr=write_fd, cwd=cwd, close_fds=False)
        except OSError as error:
            os.close(read_fd)
            raise ProcessError(f"cannot start {self.argv[0]}: {error.strerror}") from error
        finally:
            os.close(write_fd)
        self.reader = threading.Thread(target=self._read, args=(read_fd,), daemon=True)
        self.reader.start()

    def _read(self, read_fd):
        while True:
            select.select([read_fd], [], [])
            piece = os.read(read_fd, 65536)
            now = time.perf_counter()
            with self.changed:
                if piece:
                    self.output += piece
                    self.arrivals.append((len(self.output), now))
                else:
                    self.finished_reading = True
                self.changed.notify_all()
            if not piece:
                break
        os.close(read_fd)

    @property
    def pid(self):
        return self.child.pid

    @property
    def returncode(self):
        return self.child.returncode

    def poll(self):
        return self.child.poll()

    def last_words(self, limit=300):
        """The end of what it printed, as one line, for error messages."""
        with self.changed:
            text = bytes(self.output[-2000:]).decode(errors="replace")
        words = " | ".join(line.strip() for line in text.splitlines() if line.strip())
        return words[-limit:] or "(it printed nothing)"

    def wait_for_output(self, pattern, timeout_s, start=0):
        """Wait until `pattern` (bytes regex) appears in the output after offset `start`.

        Returns (match, perf_counter seconds at which its last byte had come); the match's offsets count from
        the beginning of the output. Raises ProcessError when the process ends or the time is up first.
        """
        regex = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while True:
                match = regex.search(bytes(self.output), start)
                if match:
                    for end, when in self.arrivals:
                        if end >= match.end():
                            return match, when
                left = deadline - time.monotonic()
                if self.finished_reading:
                    reason = f"it ended ({self._how_it_ended()})"
                    break
                if left <= 0:
                    reason = f"{timeout_s:g} s passed"
                    break
                self.changed.wait(left)
        shown = pattern.decode(errors="replace")
        raise ProcessError(f"{reason} before it printed {shown!r}; last output: {self.last_words()}")

    def _how_it_ended(self):
        try:
            code = self.child.wait(5)
        except subprocess.TimeoutExpired:
            return "its output was closed"
        return f"signal {-code}" if code < 0 else f"status {code}"

    def cpu_s(self):
        """User and system time of all its threads so far, in nanosecond resolution.

        The clock id is what clock_getcpuclockid(3) computes: CPUCLOCK_SCHED of the whole process.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def wait_for_threads(self, count, timeout_s):
        """Wait until it has so many threads."""
        deadline = time.monotonic() + timeout_s
        while len(list(Path(f"/proc/{self.pid}/task").iterdir())) < count:
            if time.monotonic() > deadline:
                raise ProcessError(f"it has no {count} threads after {timeout_s:g} s")
            time.sleep(0.001)

    def wait(self, timeout_s):
        """Wait for its end; returns the exit code, raises ProcessError when it goes on."""
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"still running after {timeout_s:g} s") from None

    def kill(self):
        """End it now, whatever it does, and collect it."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.reader.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


SMAPS_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) [0-9a-f]+ \S+ \d+ *(.*)$")
KIB_FIELDS = ("Rss", "Pss", "Private_Clean", "Private_Dirty", "Anonymous", "Private_Hugetlb", "Shared_Hugetlb")


def parse_smaps(text):
    """The mappings in a /proc/PID/smaps text: [{start, end, perms, path, <field>: KiB}]."""
    mappings = []
    for line in text.splitlines():
        head = SMAPS_HEAD.match(line)
        if head:
            mappings.append({"start": int(head[1], 16), "end": int(head[2], 16), "perms": head[3],
                             "path": head[4], **{field: 0 for field in KIB_FIELDS}})
            continue
        name, _, value = line.partition(":")
        if mappings and name in KIB_FIELDS:
            mappings[-1][name] = int(value.split()[0])
    return mappings


def guest_mappings(mappings, guest_bytes):
    """The mappings that hold the guest's RAM, known by their size alone (monitors name them differently).

    Preferred is one mapping of exactly that size; then a run of adjacent ones that add up to it (a monitor may
    have advised or protected a part, which splits it); then the smallest writable one that is larger by at
    most 1/32 (the kernel merges an anonymous neighbour of the same rights into it). None of them: ProcessError.
    """
    for mapping in mappings:
        if mapping["end"] - mapping["start"] == guest_bytes:
            return [mapping]
    for first in range(len(mappings)):
        total, end = 0, mappings[first]["start"]
        for last in range(first, len(mappings)):
            if mappings[last]["start"] != end or total > guest_bytes:
                break
            end = mappings[last]["end"]
            total += end - mappings[last]["start"]
            if total == guest_bytes:
                return mappings[first:last + 1]
    larger = [m for m in mappings if "w" in m["perms"]
              and guest_bytes < m["end"] - m["start"] <= guest_bytes + guest_bytes // 32]
    if not larger:
        raise ProcessError(f"no mapping of the guest's {guest_bytes >> 20} MiB in smaps")
    return [min(larger, key=lambda m: m["end"] - m["start"])]


def memory_beyond_guest(pid, guest_bytes):
    """KiB of every mapping but the guest's RAM: {"private", "anonymous", "pss", "rss"}, and "guest_rss".

    Private counts the pages of the program file too while no second monitor runs; anonymous leaves them out: it is
    what every further monitor costs.
    """
    mappings = parse_smaps(Path(f"/proc/{pid}/smaps").read_text())
    guest = {m["start"] for m in guest_mappings(mappings, guest_bytes)}
    rest = [m for m in mappings if m["start"] not in guest]
    return {
        "private": sum(m["Private_Clean"] + m["Private_Dirty"] + m["Private_Hugetlb"] for m in rest),
        "anonymous": sum(m["Anonymous"] + m["Private_Hugetlb"] for m in rest),
        "pss": sum(m["Pss"] for m in rest),
        "rss": sum(m["Rss"] + m["Private_Hugetlb"] + m["Shared_Hugetlb"] for m in rest),
        "guest_rss": sum(m["Rss"] for m in mappings if m["start"] in guest),
    }
