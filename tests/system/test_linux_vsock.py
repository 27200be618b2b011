# SPDX-License-Identifier: Apache-2.0
"""Linux and the host over vsock: thousands of connections, both ways, much data, and all the ways in which one ends."""

import concurrent.futures
import os
import selectors
import socket
import threading
import time

import pytest

from linux_exec import connect_vsock, recv_all, running_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20
BULK_MIB = 24
ECHO, SINK, SOURCE, NOBODY = 5001, 5002, 5003, 5999
HOST_ECHO, HOST_SINK, HOST_SOURCE = 7001, 7002, 7003
MOST = 1023     # connections at a time


def checked_bytes(length):
    """The sequence that vsock-tool sends and expects."""
    period, state, sequence = 65521, 1, bytearray()
    for _ in range(period):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        sequence.append(state >> 24)
    return (bytes(sequence) * (length // period + 1))[:length]


class HostServer:
    """Listens where the guest's connections to a port arrive; one thread serves all of them."""

    def __init__(self, uds, port, on_data=None):
        self.on_data = on_data or (lambda sock, data: sock.sendall(data))
        self.path = f"{uds}_{port}"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(1024)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.accepted, self.stop = 0, False
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.stop:
            for key, _ in self.selector.select(0.1):
                if key.fileobj is self.listener:
                    self.selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                    self.accepted += 1
                else:
                    self.serve_one(key.fileobj)

    def serve_one(self, sock):
        try:
            data = sock.recv(1 << 18)
            if data:
                self.on_data(sock, data)
                return
        except (ConnectionError, BrokenPipeError):
            pass
        self.selector.unregister(sock)
        sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        os.unlink(self.path)


@pytest.fixture(scope="module", name="guest")
def guest_with_servers(tmp_path_factory):
    with running_guest(tmp_path_factory.mktemp("vsock"), initrd="tuned", vcpu_count=2, mem_size_mib=512) as guest:
        for mode in (f"echo {ECHO}", f"sink {SINK}", f"source {SOURCE} {BULK_MIB * MIB}"):
            guest.sh(f"vsock-tool {mode} >/dev/null 2>&1 & sleep 0.2")
        yield guest


def test_context_id(guest):
    assert guest.sh("vsock-tool cid") == "3"


def test_thousand_connections_from_the_guest(guest):
    with HostServer(guest.uds, HOST_ECHO) as server:
        assert guest.sh(f"vsock-tool storm 2 {HOST_ECHO} 1000", 300) == "1000 of 1000 connections ok"
        assert server.accepted == 1000


def test_thousand_connections_from_the_host(guest):
    fds = guest.machine.open_fds()
    for number in range(1000):
        with connect_vsock(guest.uds, ECHO) as sock:
            message = f"message {number}\n".encode()
            sock.sendall(message)
            got = b""
            while len(got) < len(message):
                got += sock.recv(64)
            assert got == message
    assert guest.sh("true") == ""
    assert guest.machine.open_fds() <= fds + 2      # the last one may not be gone yet


def test_all_connections_at_once(guest):
    """As many as there may be; the one too many is refused, and all works when they are gone."""
    with HostServer(guest.uds, HOST_ECHO) as server:
        said = guest.try_sh(f"ulimit -n 4096; vsock-tool hold 2 {HOST_ECHO} {MOST + 20}", 300)[1]
        # one of them is the shell's
        assert f"{MOST - 1} of {MOST + 20} connections ok" in said
        assert server.accepted == MOST - 1
        assert guest.sh(f"vsock-tool storm 2 {HOST_ECHO} 5") == "5 of 5 connections ok"


def test_many_from_the_host_at_once(guest):
    """Opened one after another, all open at the same time, answered in another order."""
    socks = [connect_vsock(guest.uds, ECHO) for _ in range(200)]
    assert all(socks)
    for number, sock in enumerate(socks):
        sock.sendall(b"%03d" % number)
    for number, sock in reversed(list(enumerate(socks))):
        assert sock.recv(3, socket.MSG_WAITALL) == b"%03d" % number
        sock.close()


def test_much_data_to_the_guest(guest):
    """The guest checks every byte; the answer comes after the host's end of the stream: half of it is closed."""
    data = checked_bytes(BULK_MIB * MIB)
    with connect_vsock(guest.uds, SINK) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert recv_all(sock) == f"{len(data)} ok\n".encode()


def test_much_data_from_the_guest(guest):
    with connect_vsock(guest.uds, SOURCE) as sock:
        assert recv_all(sock) == checked_bytes(BULK_MIB * MIB)


def test_much_data_on_the_guests_connections(guest):
    """Both directions again, on connections that the guest makes; its sending side closes first and waits for a verdict."""
    total = {}

    def count(sock, data):
        total[sock] = total.get(sock, 0) + len(data)
        if total[sock] == 8 * MIB:
            sock.sendall(f"{8 * MIB} ok\n".encode())
            sock.shutdown(socket.SHUT_WR)

    with HostServer(guest.uds, HOST_SINK, count):
        assert guest.sh(f"vsock-tool send 2 {HOST_SINK} {8 * MIB}", 300).endswith("ok")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{guest.uds}_{HOST_SOURCE}")
    listener.listen()

    def serve():
        with listener.accept()[0] as sock:
            sock.sendall(checked_bytes(8 * MIB))

    with listener, concurrent.futures.ThreadPoolExecutor() as pool:
        served = pool.submit(serve)
        assert guest.sh(f"vsock-tool receive 2 {HOST_SOURCE}", 300).startswith(f"{8 * MIB} bytes")
        served.result()
    os.unlink(f"{guest.uds}_{HOST_SOURCE}")


def test_data_both_ways_at_once_on_many(guest):
    """Eight connections to the echo server, each with more under way than its buffers hold."""
    data = checked_bytes(MIB)

    def exchange(number):
        with connect_vsock(guest.uds, ECHO) as sock:
            mine = data[number:] + data[:number]
            writer = threading.Thread(target=lambda: (sock.sendall(mine), sock.shutdown(socket.SHUT_WR)))
            writer.start()
            got = recv_all(sock)
            writer.join()
            return got == mine

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(exchange, range(8)))


def test_slow_reader(guest):
    """A host that does not read holds up its own connection only: credit runs out, others go on, then all of it arrives."""
    with connect_vsock(guest.uds, SOURCE) as slow:
        slow.recv(1)
        for _ in range(20):
            guest.sh("true")
        assert 1 + len(recv_all(slow)) == BULK_MIB * MIB


def test_refused(guest):
    assert connect_vsock(guest.uds, NOBODY) is None
    status, said = guest.try_sh(f"vsock-tool ping 2 {NOBODY} 1")
    assert status != 0 and "Connection reset" in said, said
    # only the host is out there
    status, said = guest.try_sh(f"vsock-tool ping 77 {HOST_ECHO} 1")
    assert status != 0, said


def test_reset_by_the_guest(guest):
    """A process in the guest that is killed ends its connection on the host."""
    with connect_vsock(guest.uds, ECHO) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        # the youngest is ours: one process serves each connection
        guest.sh("kill -9 $(pidof vsock-tool | tr ' ' '\\n' | sort -n | tail -n 1)")
        assert sock.recv(1) == b""


def cpu_seconds(machine):
    with open(f"/proc/{machine.pid}/task/{machine.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_connections_cost_nothing(guest):
    """The monitor's loop sleeps while connections are open, half closed, or full and not read."""
    socks = [connect_vsock(guest.uds, ECHO) for _ in range(20)] + [connect_vsock(guest.uds, SOURCE) for _ in range(3)]
    half = connect_vsock(guest.uds, SINK)
    half.sendall(b"")
    time.sleep(1)   # until the buffers are full
    cpu, start = cpu_seconds(guest.machine), time.monotonic()
    time.sleep(2)
    share = (cpu_seconds(guest.machine) - cpu) / (time.monotonic() - start)
    for sock in (*socks, half):
        sock.close()
    assert share < 0.25, f"{share:.0%} of a processor"


def test_metrics(guest):
    counted = guest.metrics()["vsock"]
    assert counted["rx_bytes_count"] > BULK_MIB * MIB and counted["tx_bytes_count"] > BULK_MIB * MIB
    assert counted["conns_added"] > 3000
    assert counted["conns_added"] - counted["conns_removed"] < 30
    assert counted["activate_fails"] == counted["rx_queue_event_fails"] == counted["tx_queue_event_fails"] == 0
