# SPDX-License-Identifier: Apache-2.0
"""HTTP on the API's socket: the bytes on the wire, and clients that mean no good."""

import array
import os
import random
import resource
import socket
import subprocess

import pytest

from api_client import Connection, request_bytes, wait_for
from conftest import VMM

pytestmark = pytest.mark.native

SERVER = b"Server: Firecracker API\r\n"
KEEP = b"HTTP/1.1 %d \r\n" + SERVER + b"Connection: keep-alive\r\n"
CLOSE = b"HTTP/1.1 %d \r\n" + SERVER + b"Connection: close\r\n"
JSON = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
BUSY = (b"HTTP/1.1 503\r\n" + SERVER + b"Connection: close\r\nContent-Length: 40\r\n\r\n"
        b'{ "error": "Too many open connections" }')
MAX_CONNECTIONS = 10
PAYLOAD_LIMIT = 51200


def answer(head, status, body):
    return head % status + JSON % len(body) + body


def refusal(text):
    """What a request that is no HTTP gets: the line break in the string is there as it is."""
    body = b'{ "error": "' + text.encode() + b'\nAll previous unanswered requests will be dropped." }'
    return answer(CLOSE, 400, body)



@pytest.fixture
def version(api):
    """The whole answer to GET /version."""
    return answer(KEEP, 200, api.get("/version").body)


# ---- the bytes of answers ----

def test_answer_with_a_body(api):
    response = api.get("/machine-config")
    body = (b'{"vcpu_count":1,"mem_size_mib":128,"smt":false,"track_dirty_pages":false,"huge_pages":"None"}')
    assert response.raw == answer(KEEP, 200, body)


def test_answer_without_a_body(api):
    assert api.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}).raw == KEEP % 204 + b"\r\n"


def test_answer_to_something_deprecated(api):
    response = api.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "None"})
    assert response.raw == KEEP % 204 + b"Deprecation: true\r\n\r\n"


def test_fault(api):
    assert api.get("/foo/bar").raw == answer(
        KEEP, 400, b'{"fault_message":"Invalid request method and/or path: GET foo."}')


def test_fault_escapes_what_the_client_sent(api):
    response = api.request("GET", '/a"b\\c')
    assert response.status == 400
    assert response.fault == 'Invalid request method and/or path: GET a"b\\c.'


# ---- requests in all their forms ----

@pytest.mark.parametrize("request_line", (
    "GET /version HTTP/1.1",
    "GET //version HTTP/1.1",
    "GET /version/ignored HTTP/1.1",
    "GET http://localhost/version HTTP/1.1",
    "GET http://x:80/version HTTP/1.1",
))
def test_request_lines(api, version, request_line):
    assert api.raw(request_line + "\r\nHost: x\r\n\r\n") == version


@pytest.mark.parametrize("header", (
    "Accept: text/html",
    "Content-Type: text/plain",
    "Content-Length: 0",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Encoding: identity;q=0.5, *;q=0",
    "Expect: nothing",
    "X-Empty:",
    "x-colons: a:b:c",
    "X-Tab:\ta\tb\t",
    "X-Utf8: é",
    "X: " + "a" * 1019,
))
def test_headers_that_are_ignored(api, version, header):
    assert api.raw(f"GET /version HTTP/1.1\r\n{header}\r\n\r\n") == version


def test_a_byte_at_a_time(api):
    body = b'{"vcpu_count": 2, "mem_size_mib": 256}'
    data = request_bytes("PUT", "/machine-config", body) + request_bytes("GET", "/machine-config")
    with api.connect() as connection:
        for i in range(len(data)):
            connection.send(data[i:i + 1])
        assert connection.response().status == 204
        assert connection.response().json["vcpu_count"] == 2


def test_pipelining_keeps_the_order(api):
    count = 300
    data = b"".join(
        request_bytes("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": i + 1})
        + request_bytes("GET", "/machine-config") for i in range(count))
    with api.connect() as connection:
        connection.sock.setblocking(False)
        sent, got = 0, b""
        # A client that reads while it writes: neither side may wait for the other.
        while got.count(b"HTTP/1.1 ") < 2 * count or not got.endswith(b"}"):
            try:
                sent += connection.sock.send(data[sent:]) if sent < len(data) else 0
            except BlockingIOError:
                pass
            try:
                got += connection.sock.recv(65536)
            except BlockingIOError:
                pass
    sizes = [int(part.split(b",")[0]) for part in got.split(b'"mem_size_mib":')[1:]]
    assert sizes == list(range(1, count + 1))


def test_keep_alive(api):
    with api.connect() as connection:
        for _ in range(100):
            assert connection.request("GET", "/").status == 200


@pytest.mark.parametrize("head, closes", (
    ("GET /version HTTP/1.1\r\n\r\n", False),
    ("GET /version HTTP/1.1\r\nConnection: close\r\n\r\n", True),
    ("GET /version HTTP/1.0\r\n\r\n", True),
    ("GET /version HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", False),
))
def test_when_a_connection_closes(api, head, closes):
    with api.connect() as connection:
        connection.send(head)
        response = connection.response()
        assert response.header("Connection") == ("close" if closes else "keep-alive")
        if closes:
            assert connection.recv() == b""
        else:
            assert connection.request("GET", "/").status == 200


def test_half_closed_connection_gets_its_answers(api, version):
    assert api.raw(b"GET /version HTTP/1.1\r\n\r\n" * 5) == version * 5


def test_expect_continue(api):
    with api.connect() as connection:
        connection.send("PUT /machine-config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 37\r\n\r\n")
        assert connection.recv_until(b"\r\n\r\n") == KEEP % 100 + b"\r\n"
        connection.send('{"vcpu_count":1,"mem_size_mib": 128 }')
        assert connection.response().status == 204


def test_empty_connection(api):
    assert api.raw(b"") == b""


# ---- what is no HTTP ----

INVALID_VALUE = "Invalid header. Reason: Invalid value. Key:"
BAD_FORMAT = "Invalid header. Reason: Header is incorrectly formatted. Key: "
MALFORMED = {
    b"\r\n\r\n": "Invalid request.",
    b"\r\nGET / HTTP/1.1\r\n\r\n": "Invalid request.",
    b"GET\r\n\r\n": "Invalid request.",
    b"GET /\r\n\r\n": "Invalid request.",
    b"GET / HTTP/1.1\n\n": "Invalid request. Lines must end with CR LF.",
    b"\0\0\0\0\n": "Invalid request. Lines must end with CR LF.",
    b"get / HTTP/1.1\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b"HEAD / HTTP/1.1\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b"POST / HTTP/1.1\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b"OPTIONS * HTTP/1.1\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b" GET / HTTP/1.1\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b"\x16\x03\x01 tls hello\r\n\r\n": "Invalid HTTP Method: Unsupported HTTP method.",
    b"GET  / HTTP/1.1\r\n\r\n": "Invalid URI: Empty URI not allowed.",
    b"GET * HTTP/1.1\r\n\r\n": 'Invalid URI: It must start with \\"/\\" or \\"http://\\".',
    b"GET version HTTP/1.1\r\n\r\n": 'Invalid URI: It must start with \\"/\\" or \\"http://\\".',
    b"GET /\xff HTTP/1.1\r\n\r\n": "Invalid URI: Cannot parse URI as UTF-8.",
    b"GET /\0 HTTP/1.1\r\n\r\n": "Invalid URI: Control characters are not allowed.",
    b"GET / HTTP/1.1 \r\n\r\n": "Invalid HTTP Version: Unsupported HTTP version.",
    b"GET / HTTP/2.0\r\n\r\n": "Invalid HTTP Version: Unsupported HTTP version.",
    b"GET / http/1.1\r\n\r\n": "Invalid HTTP Version: Unsupported HTTP version.",
    b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n": "Invalid request.",
    b"a" * 5000: "Invalid request.",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 1020 + b"\r\n\r\n":
        "Invalid header. Reason: Header line is longer than 1024 bytes.",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 129 + b"\r\n": "Invalid header. Reason: More than 128 header lines.",
    b"GET / HTTP/1.1\r\nnocolon\r\n\r\n": BAD_FORMAT + "nocolon",
    b"GET / HTTP/1.1\r\n: x\r\n\r\n": BAD_FORMAT,
    b"GET / HTTP/1.1\r\nX : x\r\n\r\n": BAD_FORMAT + "X ",
    b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n": BAD_FORMAT + " folded",
    b'GET / HTTP/1.1\r\na"b\\c: x\r\n\r\n': BAD_FORMAT + 'a\\"b\\\\c',
    b"GET / HTTP/1.1\r\nX: \xff\r\n\r\n": "Invalid header. Reason: Header contains invalid characters.",
    b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n": "Invalid header. Reason: Header contains control characters.",
    b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n": "Invalid header. Reason: Header contains control characters.",
    b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n": INVALID_VALUE + "Content-Length; Value: -1",
    b"PUT / HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}": INVALID_VALUE + "Content-Length; Value: +2",
    b"PUT / HTTP/1.1\r\nContent-Length: 0x2\r\n\r\n{}": INVALID_VALUE + "Content-Length; Value: 0x2",
    b"PUT / HTTP/1.1\r\nContent-Length: 2 2\r\n\r\n{}": INVALID_VALUE + "Content-Length; Value: 2 2",
    b"PUT / HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\n{}": INVALID_VALUE + "Content-Length; Value: 2, 2",
    b"PUT / HTTP/1.1\r\nContent-Length:\r\n\r\n": INVALID_VALUE + "Content-Length; Value: ",
    b"PUT / HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n": INVALID_VALUE + "Content-Length; Value: 4294967296",
    b"PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n":
        INVALID_VALUE + "Content-Length; Value: 99999999999999999999",
    b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}":
        "Invalid header. Reason: Content-Length was given twice.",
    b"PUT / HTTP/1.1\r\nContent-Length: 2\r\ncontent-length: 3\r\n\r\n{}x":
        "Invalid header. Reason: Content-Length was given twice.",
    b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":
        "Invalid header. Reason: Transfer-Encoding is not supported, send the body with Content-Length.",
    b"GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n\r\n": INVALID_VALUE + "Accept-Encoding; Value: identity;q=0",
    b"GET / HTTP/1.1\r\nAccept-Encoding: gzip, *;q=0\r\n\r\n": INVALID_VALUE + "Accept-Encoding; Value: gzip, *;q=0",
    b"PUT / HTTP/1.1\r\nContent-Length: 51201\r\n\r\n":
        "Request payload with size 51201 is larger than the limit of 51200 allowed by server.",
    b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 51201\r\n\r\n":
        "Request payload with size 51201 is larger than the limit of 51200 allowed by server.",
    b"GET / HTTP/1.1\r\nContent-Length: 4294967295\r\n\r\n":
        "Request payload with size 4294967295 is larger than the limit of 51200 allowed by server.",
}


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(api, data):
    with api.connect() as connection:
        connection.send(data)
        assert connection.recv_rest() == refusal(MALFORMED[data])
    assert api.get("/").status == 200


def test_requests_before_a_malformed_one_are_answered(api, version):
    assert api.raw(b"GET /version HTTP/1.1\r\n\r\nnonsense\r\n") == version + refusal("Invalid request.")


def test_nothing_behind_a_malformed_request_is_taken(api):
    smuggled = request_bytes("PUT", "/machine-config", {"vcpu_count": 7, "mem_size_mib": 128})
    api.raw(b"nonsense\r\n" + smuggled)
    assert api.get("/machine-config").json["vcpu_count"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_noise(api, seed):
    chance = random.Random(seed)
    good = request_bytes("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "/dev/null"})
    for _ in range(20):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 12)):
            at = chance.randrange(len(data))
            data[at:at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        try:
            api.raw(bytes(data))
        except BrokenPipeError:
            pass    # refused before all of it was sent
    assert api.get("/").status == 200


# ---- sizes ----

def test_body_of_exactly_the_limit(api):
    body = b'{"vcpu_count": 1, "mem_size_mib": 128}'.ljust(PAYLOAD_LIMIT)
    assert api.put("/machine-config", body).status == 204


@pytest.mark.parametrize("limit", (0, 1, 100, 1 << 20, (1 << 64) - 1))
def test_limit_is_an_option(vmm, limit):
    api = vmm("--http-api-max-payload-size", limit).api
    body = b'{"vcpu_count": 1, "mem_size_mib": 128}'.ljust(min(limit + 1, 1 << 20))
    size = len(body)
    response = api.put("/machine-config", body)
    if limit < size:
        assert response.raw == refusal(
            f"Request payload with size {size} is larger than the limit of {limit} allowed by server.")
    else:
        assert response.status == 204
    assert api.get("/").status == 200


def test_sender_of_too_much_gets_its_answer(api):
    """It sends everything before it reads anything, as simple clients do."""
    with api.connect() as connection:
        connection.send(b"PUT /drives/a HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500000)
        assert connection.recv_rest() == refusal(
            "Request payload with size 500000 is larger than the limit of 51200 allowed by server.")


def test_endless_sender_is_cut_off(vmm):
    machine = vmm()
    with machine.api.connect() as connection:
        connection.send("nonsense\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                connection.send(b"x" * 65536)
    assert machine.api.get("/").status == 200


def test_announced_memory_is_not_taken(vmm):
    """Ten clients announce bodies that never come."""
    machine = vmm("--http-api-max-payload-size", 1 << 30)

    def resident_kib():
        with open(f"/proc/{machine.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmData"))

    before = resident_kib()
    clients = [machine.api.connect() for _ in range(MAX_CONNECTIONS - 1)]
    for client in clients:
        client.send(b"PUT /drives/a HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n{")
    assert machine.api.get("/").status == 200
    assert resident_kib() < before + 100 * 1024
    for client in clients:
        client.close()


# ---- connections ----

def test_eleventh_connection(vmm):
    api = vmm().api
    first = [api.connect() for _ in range(MAX_CONNECTIONS)]
    for connection in first:
        assert connection.request("GET", "/").status == 200
    for _ in range(3):
        with api.connect() as extra:
            assert extra.recv_rest() == BUSY
    # The ten go on, and when one goes its place is free.
    assert all(connection.request("GET", "/").status == 200 for connection in first)
    first.pop().close()

    def answered():
        with api.connect() as connection:
            connection.send("GET / HTTP/1.1\r\n\r\n")
            return connection.recv_until(b"\r\n") == b"HTTP/1.1 200 \r\n"
    wait_for(answered, "the place to be free")
    assert all(connection.request("GET", "/").status == 200 for connection in first)


def test_slow_senders_are_harmless(api):
    slow = [api.connect() for _ in range(MAX_CONNECTIONS - 1)]
    request = request_bytes("PUT", "/machine-config", {"vcpu_count": 3, "mem_size_mib": 128})
    for i, connection in enumerate(slow):
        connection.send(request[:i * len(request) // len(slow)])
    for _ in range(50):
        assert api.get("/").status == 200
    assert api.get("/machine-config").json["vcpu_count"] == 1
    for i, connection in enumerate(slow):
        connection.send(request[i * len(request) // len(slow):])
    assert [connection.response().status for connection in slow] == [204] * len(slow)
    for connection in slow:
        connection.close()


def test_dropped_in_mid_request(vmm):
    machine = vmm()
    before = machine.open_fds()
    request = request_bytes("PUT", "/machine-config", {"vcpu_count": 3, "mem_size_mib": 128})
    for end in range(len(request)):
        with machine.api.connect() as connection:
            connection.send(request[:end])
        if end % 5 == 0:
            machine.open_fds()  # so that none of them is one too many
    wait_for(lambda: machine.open_fds() == before, "the connections to be closed")
    assert machine.api.get("/machine-config").json["vcpu_count"] == 1


def test_dropped_in_mid_response(vmm):
    """Many questions, no ear for the answers."""
    machine = vmm()
    before = machine.open_fds()
    for _ in range(20):
        with machine.api.connect() as connection:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.send(b"GET /vm/config HTTP/1.1\r\n\r\n" * 100)
            connection.recv(1)
    wait_for(lambda: machine.open_fds() == before, "the connections to be closed")
    assert machine.api.get("/").status == 200


def test_client_that_does_not_read_is_stopped(vmm):
    """Its own socket fills up; the monitor neither waits for it nor keeps its answers."""
    machine = vmm()
    deaf = machine.api.connect()
    deaf.sock.setblocking(False)
    sent = 0

    def send_more():
        nonlocal sent
        try:
            sent += deaf.sock.send(b"GET /vm/config HTTP/1.1\r\n\r\n" * 1000)
        except BlockingIOError:
            return True
        return False
    wait_for(send_more, "the socket to be full")
    for _ in range(20):
        assert machine.api.get("/").status == 200
    # When it reads after all, every whole question has its answer.
    deaf.sock.setblocking(True)
    deaf.sock.settimeout(60)
    for _ in range(sent // len(b"GET /vm/config HTTP/1.1\r\n\r\n")):
        assert deaf.response().status == 200
    deaf.close()


def test_attached_descriptors_are_dropped(vmm):
    machine = vmm()
    before = machine.open_fds()
    with machine.api.connect() as connection, open("/dev/null", "rb") as null:
        attached = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()] * 50))]
        for _ in range(20):
            connection.sock.sendmsg([b"GET / HTTP/1.1\r\n\r\n"], attached)
            assert connection.response().status == 200
        assert machine.open_fds() == before + 1     # the connection itself
    wait_for(lambda: machine.open_fds() == before, "the connection to be closed")


def test_no_descriptors_left(vmm):
    """Without descriptors nobody new is accepted; when there are some again, those who waited are."""
    machine = vmm()
    first = machine.api.connect()
    assert first.request("GET", "/").status == 200
    soft, hard = resource.prlimit(machine.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(machine.pid, resource.RLIMIT_NOFILE, (machine.open_fds() - 1, hard))
    with Connection(machine.socket) as waiting:
        waiting.send("GET / HTTP/1.1\r\n\r\n")
        for _ in range(20):
            assert first.request("GET", "/").status == 200
        resource.prlimit(machine.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert waiting.response().status == 200
    first.close()


def test_a_thousand_connections(vmm):
    machine = vmm()
    before = machine.open_fds()
    for _ in range(1000):
        assert machine.api.get("/version").status == 200
    wait_for(lambda: machine.open_fds() == before, "the connections to be closed")


# ---- the socket file ----

def test_existing_path_is_refused(vmm):
    machine = vmm()
    second = subprocess.run([VMM, "--api-sock", machine.socket], capture_output=True, text=True, timeout=600, check=False)
    assert second.returncode == 1
    assert (f"Failed to open the API socket at: {machine.socket}. Check that it is not already used."
            in second.stdout + second.stderr)
    # The one that was there is not harmed, nor is its file.
    assert machine.api.get("/").status == 200


@pytest.mark.parametrize("path, reason", (
    ("/nowhere/api.sock", "No such file or directory"),
    ("/tmp/" + "x" * 110, "a path of at most 107 bytes is expected"),
))
def test_bad_paths(path, reason):
    done = subprocess.run([VMM, "--api-sock", path], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "Failed to open the API socket at: " in done.stderr and reason in done.stderr


def test_socket_file_is_removed(vmm):
    machine = vmm()
    assert machine.terminate() == 0
    assert not machine.socket.exists()


def test_somebody_elses_socket_file_is_not_removed(vmm):
    machine = vmm()
    machine.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(machine.socket))
        assert machine.terminate() == 0
        assert machine.socket.exists()


def test_relative_path(vmm, tmp_path):
    machine = vmm("--api-sock", "r.sock", wait=False)
    wait_for(lambda: os.path.exists(tmp_path / "r.sock"), "the socket")
    machine.socket = tmp_path / "r.sock"
    machine.api.path = str(machine.socket)
    machine.wait_for_api()
    assert machine.api.get("/").status == 200
