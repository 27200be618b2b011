# SPDX-License-Identifier: Apache-2.0
"""HTTP over a UNIX socket with nothing but the standard library, down to the bytes."""

import json
import os
import socket
import time

# How long a test waits before it calls something lost. Not a measure of speed: machines under emulation are slow.
PATIENCE_S = float(os.environ.get("BANTAM_TEST_PATIENCE_S", "60"))


class Response:
    """One answer: .status, .headers (list of (name, value) in order), .body (bytes), .json, .fault, .raw (all bytes)."""

    def __init__(self, raw, status, headers, body):
        self.raw, self.status, self.headers, self.body = raw, status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def fault(self):
        return self.json["fault_message"]

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def __repr__(self):
        return f"<{self.status} {self.body.decode(errors='replace')}>"


class Connection:
    """One connection to the API; sends and receives raw bytes and whole answers."""

    def __init__(self, path, patience_s=PATIENCE_S):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(path))    # blocking: with a timeout a full backlog would be an error instead of a wait
        self.sock.settimeout(patience_s)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def recv(self, size=65536):
        """What is there, at least a byte; b"" at the end of the stream (also when the other side reset it)."""
        try:
            return self.sock.recv(size)
        except (ConnectionResetError, BrokenPipeError):
            return b""

    def recv_until(self, mark):
        while mark not in self.pending:
            data = self.recv()
            if not data:
                raise EOFError(f"connection closed after {self.pending!r}")
            self.pending += data
        end = self.pending.index(mark) + len(mark)
        taken, self.pending = self.pending[:end], self.pending[end:]
        return taken

    def recv_exactly(self, size):
        while len(self.pending) < size:
            data = self.recv()
            if not data:
                raise EOFError(f"connection closed after {self.pending!r}")
            self.pending += data
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def recv_rest(self):
        """Everything up to the end of the stream."""
        while data := self.recv():
            self.pending += data
        taken, self.pending = self.pending, b""
        return taken

    def response(self):
        """The next answer on the connection; EOFError when it ends instead."""
        head = self.recv_until(b"\r\n\r\n")
        lines = head.decode().split("\r\n")[:-2]
        headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        length = next((int(v) for k, v in headers if k == "Content-Length"), 0)
        body = self.recv_exactly(length)
        return Response(head + body, int(lines[0].split(" ")[1]), headers, body)

    def request(self, method, path, body=None, headers=()):
        """body: None, bytes, or anything that json.dumps() takes."""
        self.send(request_bytes(method, path, body, headers))
        return self.response()


def request_bytes(method, path, body=None, headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is None:
        data = b""
    else:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


class Api:
    """The API of one microVM: a new connection for each request, as curl does it."""

    def __init__(self, path):
        self.path = str(path)

    def connect(self, patience_s=PATIENCE_S):
        return Connection(self.path, patience_s)

    def request(self, method, path, body=None, headers=()):
        with self.connect() as connection:
            return connection.request(method, path, body, headers)

    def get(self, path):
        return self.request("GET", path)

    def put(self, path, body=None):
        return self.request("PUT", path, body)

    def patch(self, path, body=None):
        return self.request("PATCH", path, body)

    def delete(self, path, body=None):
        return self.request("DELETE", path, body)

    def raw(self, data):
        """Sends bytes, then the end of the stream; gives everything that comes back."""
        with self.connect() as connection:
            connection.send(data)
            connection.sock.shutdown(socket.SHUT_WR)
            return connection.recv_rest()

    def ok(self, method, path, body=None):
        """The request must succeed; gives the JSON of a 200, None for a 204."""
        response = self.request(method, path, body)
        assert response.status in (200, 204), f"{method} {path}: {response}"
        return response.json if response.status == 200 else None


def wait_for(condition, what, patience_s=PATIENCE_S):
    """Polls until condition() is true; gives its value."""
    end = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"gave up waiting for {what}")
        time.sleep(0.005)
    return value
