# SPDX-License-Identifier: Apache-2.0
"""Memory that another process brings (userfaultfd): the hand-off to the byte, the example handler, handlers that fail."""

import array
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from api_client import wait_for
from conftest import ROOT
from test_snapshot import LOAD, MEMORY_MIB, MIB, goes_on, make_ticking  # noqa: F401 (the fixture)
from test_snapshot_diff import goes_round, is_whole, merge

pytestmark = [pytest.mark.native, pytest.mark.newer]

PREFIX = LOAD + "Failed to restore from snapshot: Failed to load guest memory: Error creating guest memory from uffd: "


@pytest.fixture(scope="module", name="handler")
def build_handler(tmp_path_factory):
    program = tmp_path_factory.mktemp("handler") / "uffd-handler"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, ROOT / "resources" / "uffd" / "handler.c"],
                   check=True)
    return program


@pytest.fixture(name="served")
def make_served(ticking, handler):
    """A function that restores a snapshot through a handler of its own; gives the monitor, with .handler."""
    handlers = []

    def load(name="s", **more):
        path = ticking.folder / f"uffd{len(handlers)}"
        process = subprocess.Popen([handler, path, ticking.files(name)["mem_file_path"]])
        handlers.append(process)
        wait_for(path.exists, "the handler's socket")
        machine = ticking.load(name, mem_backend={"backend_type": "Uffd", "backend_path": str(path)}, **more)
        machine.handler = process
        return machine

    yield load
    for process in handlers:
        process.kill()
        process.wait()


def test_a_guest_goes_on(ticking, served):
    first = ticking.start("keeper")
    goes_round(first)
    ticking.save(first)
    first.kill()
    second = served()
    goes_round(second)
    second.tell(b"q")
    assert second.wait() == 0
    assert second.handler.wait(10) == 0     # it has seen the monitor's end


@pytest.mark.parametrize("track", (True, False))
def test_saved_again(ticking, served, track):
    """Full, then a difference, from memory that came page by page."""
    first = ticking.start("keeper")
    goes_round(first)
    ticking.save(first)
    first.kill()
    second = served(track_dirty_pages=track)
    goes_round(second)
    ticking.save(second, "full")
    second.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_round(second)
    ticking.save(second, "d0", snapshot_type="Diff")
    goes_on(ticking.load("full"))
    merge(ticking, "full", "d0", out="merged")
    is_whole(ticking, "merged")


def test_the_message(ticking):
    """One JSON array and one descriptor, then silence; the socket stays open."""
    ticking.save(ticking.start())
    path = ticking.folder / "handler"
    said = {}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)

    def take():
        peer, _ = listener.accept()
        data, control, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(16))
        fds = array.array("i")
        for level, kind, content in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(content)
        pid = int.from_bytes(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        said.update(data=data, fds=list(fds), pid=pid, peer=peer)

    taker = threading.Thread(target=take)
    taker.start()
    machine = ticking.monitor()
    asker = threading.Thread(target=lambda: said.update(answer=ask(machine, ticking, path)))
    asker.start()
    taker.join(30)
    region, = json.loads(said["data"])
    assert region.pop("base_host_virt_addr") % (2 * MIB) == 0
    assert region == {"size": MEMORY_MIB * MIB, "offset": 0, "page_size": 4096, "page_size_kib": 4096}
    assert len(said["fds"]) == 1 and said["pid"] == machine.pid
    assert os.readlink(f"/proc/self/fd/{said['fds'][0]}") == "anon_inode:[userfaultfd]"
    said["peer"].setblocking(False)
    with pytest.raises(BlockingIOError):
        said["peer"].recv(1)
    assert machine.alive()      # waits for its first page, and can be killed
    machine.kill()
    asker.join(30)
    os.close(said["fds"][0])


def ask(machine, ticking, path):
    try:
        return machine.api.put("/snapshot/load", ticking.request(
            mem_backend={"backend_type": "Uffd", "backend_path": str(path)},
            vsock_override={"uds_path": str(ticking.folder / "w")}))
    except EOFError:
        return None


def huge_kib(machine):
    """How much of its memory is in huge pages of 2 MiB."""
    smaps = (pathlib.Path("/proc") / str(machine.pid) / "smaps_rollup").read_text(encoding="ascii")
    return int(re.search(r"Private_Hugetlb: +(\d+) kB", smaps)[1])


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("track", (True, False))
def test_2m_pages(ticking, served, track):
    """A guest of huge pages goes on in huge pages, is saved again, and may go on in small ones."""
    first = ticking.start("keeper", huge_pages="2M", track_dirty_pages=track)
    goes_round(first)
    assert huge_kib(first) > 0
    ticking.save(first)
    first.kill()
    second = served(track_dirty_pages=track)
    goes_round(second)
    assert huge_kib(second) > 0
    ticking.save(second, "full")
    second.api.ok("PATCH", "/vm", {"state": "Resumed"})
    goes_round(second)
    ticking.save(second, "d0", snapshot_type="Diff")
    second.kill()
    merge(ticking, "full", "d0", out="merged")
    third = served("merged")
    goes_round(third)
    third.kill()
    goes_round(ticking.load("merged", huge_pages="None"))


@pytest.mark.usefixtures("huge_pages")
def test_small_pages_become_huge_ones(ticking, served):
    first = ticking.start("keeper")
    goes_round(first)
    ticking.save(first)
    first.kill()
    second = served(huge_pages="2M")
    goes_round(second)
    assert huge_kib(second) > 0


def test_no_handler(ticking):
    ticking.save(ticking.start())
    path = ticking.folder / "handler"
    backend = {"backend_type": "Uffd", "backend_path": str(path)}
    assert ticking.refused(mem_backend=backend) == PREFIX + (
        "Failed to connect to UDS Unix stream: No such file or directory (os error 2)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
    assert ticking.refused(mem_backend=backend) == PREFIX + (
        "Failed to connect to UDS Unix stream: Connection refused (os error 111)")
    backend["backend_path"] = "x" * 200
    assert "the path must have at most 107 bytes" in ticking.refused(mem_backend=backend)


def without_handler(ticking, served, **more):
    """A monitor whose handler is dead before the guest has run."""
    ticking.save(ticking.start("keeper"))
    machine = served(resume_vm=False, **more)
    os.kill(machine.handler.pid, signal.SIGKILL)
    machine.handler.wait()
    return machine


def test_a_handler_that_dies(ticking, served):
    """Its guest freezes at the next missing page. So does the loop, when it serves a device: the API still answers, and the
    monitor can be ended."""
    machine = without_handler(ticking, served)
    configured = machine.api.get("/vm/config").json
    idle = machine.api.connect()
    with pytest.raises(EOFError):       # the drive's queue is looked at before the request is answered
        machine.api.patch("/vm", {"state": "Resumed"})
    assert idle.recv_rest() == b""
    assert machine.api.get("/").json["state"] == "Paused"
    assert machine.api.get("/vm/config").json == configured
    for answer in (machine.api.patch("/vm", {"state": "Paused"}), machine.api.put("/snapshot/create", ticking.files("x")),
                   machine.api.put("/actions", {"action_type": "SendCtrlAltDel"})):
        assert (answer.status, answer.fault) == (400, "The microVM is frozen: its page fault handler is gone.")
    assert "The microVM is frozen" in machine.log()
    assert machine.terminate() == 0
    assert not machine.socket.exists()
    goes_on(ticking.load())


def test_a_handler_that_dies_and_a_vcpu_that_waits(ticking, served):
    """Without a device in the way the loop goes on; a vCPU that waits for a page does not keep the monitor from its end."""
    machine = without_handler(ticking, served)
    machine.kill()
    machine = served()
    goes_on(machine)
    os.kill(machine.handler.pid, signal.SIGKILL)
    machine.handler.wait()
    assert machine.api.get("/").json["state"] == "Running"
    assert machine.terminate() == 0


@pytest.mark.parametrize("moment_ms", (0, 40, 80, 120))
def test_a_handler_that_dies_at_once(ticking, served, moment_ms):
    """While the guest goes round its pages: a vCPU then waits for one, and does so again after each signal."""
    ticking.save(ticking.start("keeper"))
    machine = served()
    time.sleep(moment_ms / 1000)
    os.kill(machine.handler.pid, signal.SIGKILL)
    machine.handler.wait()
    assert machine.terminate() == 0


def test_a_handler_that_dies_before_its_monitor_is_killed(ticking, served):
    """However the monitor ends, nothing of it waits for a page for ever, in the kernel either."""
    ticking.save(ticking.start("keeper"))
    machine = served()
    os.kill(machine.handler.pid, signal.SIGKILL)
    machine.handler.wait()
    time.sleep(.3)      # the vCPU asks for a page meanwhile
    machine.kill()      # waits for the end
    assert not machine.alive()


def test_a_handler_that_dies_in_a_load(ticking):
    """The load is answered by its connection's end, other requests as ever."""
    ticking.save(ticking.start())
    path = ticking.folder / "handler"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        machine = ticking.monitor()
        said = {}
        asker = threading.Thread(target=lambda: said.update(answer=ask(machine, ticking, path)))
        asker.start()
        with listener.accept()[0] as peer:
            peer.recv(1)    # without room for the userfaultfd, which is dropped
        asker.join(30)
    assert said["answer"] is None
    assert machine.api.get("/").json["state"] == "Not started"
    assert machine.terminate() == 0


UFFDIO_COPY, UFFD_EVENT_PAGEFAULT = 0xc028aa03, 0x12


def serve_without_socket(listener, memory):
    peer, _ = listener.accept()
    with peer:
        message, control, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(16))
    region, = json.loads(message)
    base, fd = region["base_host_virt_addr"], int.from_bytes(control[0][2][:4], "little")
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with contextlib.suppress(OSError), open(fd, "rb", buffering=0) as uffd:      # until the monitor has ended
        while select.select([uffd], [], [])[0]:
            # Who asked may have been called away since, or asked twice.
            with contextlib.suppress(BlockingIOError, FileExistsError):
                event, fault = struct.unpack_from("<B15xQ", os.read(fd, 32))
                page = fault & ~4095
                if event == UFFD_EVENT_PAGEFAULT:
                    fcntl.ioctl(fd, UFFDIO_COPY, bytearray(struct.pack("<QQQQq", page, address + page - base, 4096, 0, 0)))


def start_handler(listener, memory_file):
    """A handler that closes its connection at once and lives on."""
    memory = bytearray(pathlib.Path(memory_file).read_bytes())
    threading.Thread(target=serve_without_socket, args=(listener, memory), daemon=True).start()


def test_a_handler_that_needs_no_connection(ticking):
    """A closed connection alone is not a handler's death."""
    ticking.save(ticking.start("keeper"))
    path = ticking.folder / "handler"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        start_handler(listener, ticking.files()["mem_file_path"])
        machine = ticking.load(mem_backend={"backend_type": "Uffd", "backend_path": str(path)})
    wait_for(lambda: "has closed its connection" in machine.log(), "the monitor to notice")
    goes_round(machine)
    assert "frozen" not in machine.log()
