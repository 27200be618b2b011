# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests: start the monitor, talk to it, stop it, look at how it ended."""

import contextlib
import os
import pathlib
import signal
import subprocess

import pytest

from api_client import PATIENCE_S, Api, wait_for
from jail import Site, build_inmate

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Monitors leave a SIGHUP ignored that whoever started the tests (nohup) has ignored; here it is to end them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
VMM = pathlib.Path(os.environ.get("BANTAM_VMM", ROOT / "build" / "bantam-vmm"))


def monitor_environment():
    """What whoever starts a monitor passes on: under its system call filter, a monitor cannot start the process with which
    a sanitizer looks for leaks, and would hang at its end."""
    sanitizer = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "detect_leaks=0")))
    return dict(os.environ, ASAN_OPTIONS=sanitizer)


class Vmm:
    """One monitor process. .api talks to it, .console() is its standard output (guest console and, unless --log-path, log)."""

    def __init__(self, folder, args=(), name="vm", wait=True, stdin=subprocess.DEVNULL, prefix=()):
        self.folder = pathlib.Path(folder)
        self.socket = self.folder / f"{name}.sock"
        self.out_path, self.err_path = self.folder / f"{name}.out", self.folder / f"{name}.err"
        args = [str(arg) for arg in args]
        if "--no-api" not in args and "--api-sock" not in args:
            args = ["--api-sock", str(self.socket), *args]
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            # A relative vsock or drive path is meant against the test's own folder.
            self.process = subprocess.Popen(
                [*prefix, str(VMM), *args], cwd=self.folder, stdin=stdin, stdout=out, stderr=err, env=monitor_environment())
        self.api = Api(self.socket)
        self.killed = False  # by the test
        if wait and "--no-api" not in args:
            self.wait_for_api()

    @property
    def pid(self):
        return self.process.pid

    def wait_for_api(self):
        def answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"the monitor ended with {self.process.returncode}: {self.stderr()}\n{self.console()}")
            if not self.socket.exists():
                return False
            try:
                return self.api.get("/").status == 200
            except ConnectionRefusedError:  # bound, not listening yet
                return False
        wait_for(answers, "the API")

    def console(self):
        return self.out_path.read_text(errors="replace")

    def stderr(self):
        return self.err_path.read_text(errors="replace")

    def wait_for_console(self, text, patience_s=PATIENCE_S):
        """Waits until the text is on standard output; gives all of it."""
        try:
            wait_for(lambda: text in self.console(), repr(text), patience_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the output ends in:\n{self.console()[-3000:]}") from None
        return self.console()

    def alive(self):
        return self.process.poll() is None

    def descriptors(self):
        """What each of the monitor's descriptors leads to."""
        folder, found = f"/proc/{self.pid}/fd", []
        for number in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):    # closed since the list was read
                found.append(os.readlink(f"{folder}/{number}"))
        return found

    def open_fds(self):
        """How many descriptors the monitor has, without API connections that their clients have closed already, and before a
        start without the VM that comes ahead of it when it does."""
        def settled():
            with self.api.connect() as connection:
                try:
                    # What was closed before the first of two requests has been noticed when the second is answered.
                    for _ in range(2):
                        connection.request("GET", "/version")
                except (EOFError, BrokenPipeError):
                    return None     # refused: there are ten connections, closed ones among them
                return count() - 1

        def count():
            found = self.descriptors()
            started = any("kvm-vcpu" in target for target in found)
            return len([target for target in found if started or "kvm" not in target])

        if not self.socket.exists():
            return count()
        return wait_for(settled, "a free connection")

    def wait(self, patience_s=PATIENCE_S):
        """The exit code (negative: the signal that killed it)."""
        return self.process.wait(patience_s)

    def terminate(self):
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.alive():
            self.killed = True
            self.process.kill()
        self.process.wait()


@pytest.fixture
def vmm(tmp_path):
    """A factory: vmm() or vmm("--id", "x", ...) starts a monitor that is killed when the test is over. The test fails when
    the monitor died of a signal that the test did not send, or when a sanitizer spoke."""
    started = []

    def start(*args, **options):
        # AF_UNIX paths are at most 107 bytes: the folder's name may be long, so each monitor's own is short.
        machine = Vmm(tmp_path, args, name=f"vm{len(started)}", **options)
        started.append(machine)
        return machine

    yield start
    for machine in started:
        machine.kill()
    for machine in started:
        code, stderr = machine.process.returncode, machine.stderr()
        assert code >= 0 or machine.killed, f"{machine.process.args} died of signal {-code}: {stderr}"
        assert "Sanitizer" not in stderr and "runtime error" not in stderr, stderr


@pytest.fixture
def api(vmm):
    """The API of a monitor that was just started."""
    return vmm().api


@pytest.fixture(scope="session")
def inmate(tmp_path_factory):
    """A static program that tries to get out of a jail."""
    return build_inmate(tmp_path_factory.mktemp("inmate"))


@pytest.fixture
def site(inmate):
    """A folder for jails; what they left is taken away afterwards."""
    jails = Site(inmate)
    yield jails
    jails.clear()


@pytest.fixture
def huge_pages():
    """Reserves huge pages of 2 MiB for one test."""
    knob, count = pathlib.Path("/proc/sys/vm/nr_hugepages"), 128
    before = int(knob.read_text(encoding="ascii"))
    knob.write_text(str(before + count), encoding="ascii")
    try:
        got = int(knob.read_text(encoding="ascii"))
        if got < before + count:
            pytest.skip(f"the host has no {count} huge pages of 2 MiB to give ({got} after {before})")
        yield
    finally:
        knob.write_text(str(before), encoding="ascii")
