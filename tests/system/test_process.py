# SPDX-License-Identifier: Apache-2.0
"""The monitor as a process: fatal signals, its log, its metrics, its standard descriptors."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from api_client import wait_for
from conftest import VMM, monitor_environment
from test_tiny_guests import configure, start

pytestmark = pytest.mark.native

GROUPS = {
    "api_server", "balloon", "block", "deprecated_api", "entropy", "get_api_requests", "i8042", "interrupts", "latencies_us",
    "logger", "memory_hotplug", "mmds", "net", "patch_api_requests", "pmem", "put_api_requests", "seccomp", "signals", "uart",
    "vcpu", "vmm", "vsock"}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def running(vmm, tmp_path):
    """A monitor with log, metrics and a guest that ticks on the serial port."""
    fifo = tmp_path / "in"
    os.mkfifo(fifo)
    stdin = os.open(fifo, os.O_RDWR)
    machine = vmm("--id", "vm-7", "--log-path", tmp_path / "log", "--metrics-path", tmp_path / "metrics", stdin=stdin)
    configure(machine, tmp_path, "spin")
    start(machine)
    machine.wait_for_console("tick")
    machine.tell = lambda text: os.write(stdin, text)
    machine.log, machine.metrics = tmp_path / "log", tmp_path / "metrics"
    yield machine
    os.close(stdin)


# ---- fatal signals ----

@pytest.mark.parametrize("name, code", (
    ("SIGBUS", 149), ("SIGSEGV", 150), ("SIGXFSZ", 151), ("SIGXCPU", 154), ("SIGHUP", 156), ("SIGILL", 157)))
def test_fatal_signal(running, name, code):
    number = getattr(signal, name)
    running.process.send_signal(number)
    assert running.wait() == code
    assert f"Shutting down VM after intercepting signal {int(number)}, code 0." in running.log.read_text()
    assert lines_of(running.metrics)[-1]["signals"][name.lower()] == 1


def test_sigsys_that_no_filter_sent(running):
    running.process.send_signal(signal.SIGSYS)
    assert running.wait() == 2
    assert lines_of(running.metrics)[-1]["seccomp"]["num_faults"] == 0


def test_sigpipe_is_survived(running):
    running.process.send_signal(signal.SIGPIPE)
    wait_for(lambda: "Received signal 13, code 0." in running.log.read_text(), "the log line")
    assert running.api.get("/").status == 200
    running.api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
    assert sum(line["signals"]["sigpipe"] for line in lines_of(running.metrics)) == 1


def test_sighup_ignored_from_the_start(tmp_path):
    """As under nohup."""
    log = tmp_path / "log"
    with subprocess.Popen([VMM, "--api-sock", tmp_path / "s", "--log-path", log], stdout=subprocess.DEVNULL,
                          env=monitor_environment(),
                          preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        wait_for((tmp_path / "s").exists, "the API")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


# ---- the log ----

def test_log_lines(running):
    running.tell(b"q")
    assert running.wait() == 0
    lines = running.log.read_text().splitlines()
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} \[vm-7:(main|fc_vcpu \d+)\] .*", line), line
    said = [line.split("] ", 1)[1] for line in lines]
    assert re.fullmatch(r"Running Bantam v\d+\.\d+\.\d+", said[0])
    assert said[-2:] == ["Vmm is stopping.", "Bantam exiting successfully. exit_code=0"]


def test_log_to_a_fifo_that_nobody_reads(vmm, tmp_path):
    """Lines are lost when it is full, and counted; nobody waits."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    machine = vmm("--log-path", fifo, "--metrics-path", tmp_path / "metrics")
    for _ in range(700):
        machine.api.ok("GET", "/version")
    configure(machine, tmp_path, "spin")
    start(machine)
    machine.api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
    assert sum(line["logger"]["missed_log_count"] for line in lines_of(tmp_path / "metrics")) > 0
    assert machine.terminate() == 0


# ---- metrics ----

def test_metrics_lines(running):
    running.api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
    running.tell(b"q")
    assert running.wait() == 0
    lines = lines_of(running.metrics)
    assert len(lines) == 3      # at the start, asked for, at the end
    now_ms = time.time() * 1000
    for line in lines:
        assert GROUPS | {"utc_timestamp_ms"} <= set(line)
        assert set(line) - GROUPS - {"utc_timestamp_ms"} == {"block_one", "block_two"}
        assert 0 <= now_ms - line["utc_timestamp_ms"] < 3600 * 1000
    total = {name: sum(line[group][name] for line in lines)
             for group, name in (("put_api_requests", "drive_count"), ("put_api_requests", "actions_count"),
                                 ("vcpu", "exit_io_out"), ("uart", "write_count"), ("uart", "read_count"))}
    assert total["drive_count"] == 2 and total["actions_count"] == 2
    assert total["write_count"] == len(running.console().encode()) and total["exit_io_out"] >= total["write_count"]
    assert total["read_count"] == 1


def test_metrics_to_a_fifo_that_nobody_reads(vmm, tmp_path):
    fifo = tmp_path / "metrics"
    os.mkfifo(fifo)
    machine = vmm("--metrics-path", fifo)
    configure(machine, tmp_path, "spin")
    start(machine)
    statuses = [machine.api.put("/actions", {"action_type": "FlushMetrics"}).status for _ in range(30)]
    assert statuses[0] == 204 and statuses[-1] != 204
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    data = b""

    def drained():
        """Whole lines follow one another, and one says how many were lost before it."""
        nonlocal data
        machine.api.put("/actions", {"action_type": "FlushMetrics"})
        try:
            data += os.read(reader, 1 << 20)
        except BlockingIOError:
            pass
        whole = [json.loads(line) for line in data.split(b"\n")[:-1]]
        return any(line["logger"]["missed_metrics_count"] > 0 for line in whole)
    wait_for(drained, "a line that counts the lost ones")
    os.close(reader)
    assert machine.terminate() == 0


# ---- standard descriptors ----

def test_input_is_taken_as_the_guest_reads_it(running):
    """The guest reads a byte now and then: what it does not read stays in the FIFO, but for 64 bytes."""
    running.api.patch("/vm", {"state": "Paused"})
    running.tell(b"x" * 1000)
    stdin = os.open(f"/proc/{running.pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    count = bytearray(4)
    fcntl.ioctl(stdin, 0x541b, count)   # FIONREAD
    assert int.from_bytes(count, sys.byteorder) >= 1000 - 64
    os.close(stdin)


@pytest.mark.parametrize("thread", ("main", "vcpu"))
def test_terminal_is_given_back(tmp_path, thread):
    """A job of its own terminal: raw while the guest runs, as before when a thread of the monitor came to SIGSEGV."""
    script = tmp_path / "session.py"
    script.write_text(f"""
import ctypes, os, signal, sys, termios
sys.path.insert(0, {os.path.dirname(__file__)!r})
before = termios.tcgetattr(0)
from conftest import Vmm
from test_tiny_guests import configure, start
import pathlib
folder = pathlib.Path({str(tmp_path)!r})
machine = Vmm(folder, stdin=0)
configure(machine, folder, "spin")
start(machine)
machine.wait_for_console("tick")
assert not termios.tcgetattr(0)[3] & (termios.ICANON | termios.ECHO)
names = {{open(f"/proc/{{machine.pid}}/task/{{tid}}/comm").read().strip(): int(tid)
         for tid in os.listdir(f"/proc/{{machine.pid}}/task")}}
victim = machine.pid if {thread!r} == "main" else names["fc_vcpu 0"]
assert ctypes.CDLL(None).syscall(234, machine.pid, victim, int(signal.SIGSEGV)) == 0     # tgkill
code = machine.wait()
assert code == 150, (code, machine.stderr(), machine.console()[-500:])
assert termios.tcgetattr(0) == before
print("FINE")
""")
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, str(script)])
    said = b""
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:     # the other end is closed
        pass
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"FINE" in said, said.decode(errors="replace")
