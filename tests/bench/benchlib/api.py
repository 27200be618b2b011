# SPDX-License-Identifier: Apache-2.0
"""A minimal HTTP/1.1 client over a UNIX socket, for the monitors' REST API.

http.client is not used: it allocates much per call, which would be most of what an API latency of some
tens of microseconds measures.
"""

import json
import os
import socket
import time


class ApiError(Exception):
    """The monitor refused a request, or broke the protocol."""


class Api:
    """One keep-alive connection to a monitor's API socket."""

    def __init__(self, path, timeout_s=30.0):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self.pending = b""

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _more(self):
        got = self.sock.recv(65536)
        if not got:
            raise ApiError("the monitor closed the API connection")
        self.pending += got

    def _response(self):
        while b"\r\n\r\n" not in self.pending:
            self._more()
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        words = lines[0].split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ApiError(f"not an HTTP status line: {lines[0][:80]!r}")
        length = 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        while len(self.pending) < length:
            self._more()
        body, self.pending = self.pending[:length], self.pending[length:]
        return int(words[1]), body

    def request(self, method, path, body=None):
        """Send one request; return (status, body bytes, seconds from first byte sent to last received)."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        message = head.encode() + b"\r\n" + data
        start = time.perf_counter()
        try:
            self.sock.sendall(message)
            status, answer = self._response()
        except OSError as error:
            raise ApiError(f"{method} {path}: {error}") from error
        return status, answer, time.perf_counter() - start

    def call(self, method, path, body=None):
        """Like request, but anything except 2xx is an ApiError; returns the seconds it took."""
        status, answer, took_s = self.request(method, path, body)
        if not 200 <= status < 300:
            text = answer.decode(errors="replace").strip()
            raise ApiError(f"{method} {path} answered {status}: {text[:300]}")
        return took_s


def wait_for_api(path, process, timeout_s=30.0, spin_s=0.05):
    """Connect as soon as something listens at `path`; raise ApiError when the process dies or time is up.

    For the first `spin_s` it only yields between two tries: a sleep's slack (50 us and more) would be a good part
    of a fast monitor's start.
    """
    start = time.monotonic()
    deadline = start + timeout_s
    while True:
        try:
            return Api(path)
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        if process.poll() is not None:
            raise ApiError(f"exited with {process.returncode} before its API answered: "
                           f"{process.last_words()}")
        now = time.monotonic()
        if now > deadline:
            raise ApiError(f"no API at {path} after {timeout_s:g} s")
        if now < start + spin_s:
            os.sched_yield()
        else:
            time.sleep(0.0005)
