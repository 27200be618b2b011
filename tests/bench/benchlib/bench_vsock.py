# SPDX-License-Identifier: Apache-2.0
"""Streams and round trips through the monitor's vsock: its UNIX socket here, bench-guest's server there."""

import socket
import statistics
import struct
import time

from .workload import WORK_MEM_MIB, WorkloadError, boot_args

PORT = 5001
ROUND_TRIPS = 500
CONNECTS = 50
PIECE = bytes(256 * 1024)


class Stream:
    """A connection to the guest's server, asking for `what` ('E', 'S' or 'G') with `count` bytes."""

    def __init__(self, path, what, count, timeout_s):
        self.buffer = bytearray(len(PIECE))
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(str(path))
        self.sock.sendall(b"CONNECT %d\n" % PORT)
        answer = b""
        while not answer.endswith(b"\n"):
            piece = self.sock.recv(1)
            if not piece:
                raise WorkloadError("the monitor closed the vsock connection instead of answering CONNECT")
            answer += piece
        if not answer.startswith(b"OK "):
            raise WorkloadError(f"CONNECT was answered {answer[:60]!r}")
        self.sock.sendall(what + struct.pack("<Q", count))

    def receive(self, count):
        while count:
            got = self.sock.recv_into(self.buffer, min(count, len(PIECE)))
            if not got:
                raise WorkloadError(f"the vsock stream ended {count} bytes early")
            count -= got

    def send(self, count):
        while count:
            piece = min(count, len(PIECE))
            self.sock.sendall(PIECE[:piece] if piece < len(PIECE) else PIECE)
            count -= piece

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def _to_guest(path, count, timeout_s):
    with Stream(path, b"S", count, timeout_s) as stream:
        start = time.perf_counter()
        stream.send(count)
        stream.receive(1)
        return count / (1 << 20) / (time.perf_counter() - start)


def _to_host(path, count, timeout_s):
    with Stream(path, b"G", count, timeout_s) as stream:
        start = time.perf_counter()
        stream.receive(count)
        return count / (1 << 20) / (time.perf_counter() - start)


def _round_trip_us(path, timeout_s):
    times = []
    with Stream(path, b"E", ROUND_TRIPS, timeout_s) as stream:
        for _ in range(ROUND_TRIPS):
            start = time.perf_counter()
            stream.send(1)
            stream.receive(1)
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def _connect_us(path, timeout_s):
    times = []
    for _ in range(CONNECTS):
        start = time.perf_counter()
        with Stream(path, b"S", 0, timeout_s) as stream:
            stream.receive(1)
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def run(context, contestant):
    """A stream's length is found first: the rate of a short one, times the seconds asked for."""
    guest = context.linux(WORK_MEM_MIB)
    timeout_s = context.timeout_s
    with contestant.start() as instance:
        instance.configure(guest, boot_args("vsock"), [("root", guest.rootfs, True, True, "Sync")], vsock=True)
        instance.instance_start()
        instance.process.wait_for_output(rb"RESULT vsock_ready 1", timeout_s)
        path = instance.vsock
        probe = 8 << 20
        to_guest = int(_to_guest(path, probe, timeout_s) * context.seconds) << 20 or probe
        to_host = int(_to_host(path, probe, timeout_s) * context.seconds) << 20 or probe
        return {
            "to_guest": _to_guest(path, to_guest, timeout_s),
            "to_host": _to_host(path, to_host, timeout_s),
            "round_trip": _round_trip_us(path, timeout_s),
            "connect": _connect_us(path, timeout_s),
        }
