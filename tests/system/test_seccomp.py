# SPDX-License-Identifier: Apache-2.0
"""The system call filters on the running monitor: each rule is needed, since a run without it ends with exit code 148 at that
call; what no rule allows kills, on each kind of thread, also when the handler is under attack."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

from api_client import PATIENCE_S, wait_for
from conftest import ROOT, VMM, Vmm
from puppet import LIBC, Puppet, thread_named
from test_snapshot_uffd import start_handler
from test_tiny_guests import file_of, tiny

if "build/bantam-vmm" not in str(VMM):
    pytest.skip("the released filters: other builds have more rules", allow_module_level=True)
pytestmark = pytest.mark.native

BAD_SYSCALL = 148
COMPILER = ROOT / "build" / "bantam-seccomp"
POLICIES = {role: json.loads((ROOT / "resources" / "seccomp" / f"{role}.json").read_text(encoding="utf-8")) for role in ("main", "vcpu")}
HERE = pathlib.Path(__file__).parent


# ---- a monitor and what is done with it ----

class Trial:
    """A monitor with one device of each kind, whose guest (tests/guest/traffic.c) does what it is told by letters."""

    def __init__(self, folder, *args, prefix=(), terminal=False, log=True):
        self.folder = folder
        if terminal:
            self.input, stdin = os.openpty()
            prefix = ["setsid", "-c", *prefix]
        else:
            os.mkfifo(folder / "in")
            self.input = stdin = os.open(folder / "in", os.O_RDWR)
        self.tap = f"bt{os.getpid() % 100000}"
        args = [*args, "--metrics-path", folder / "metrics", *(["--log-path", folder / "log"] if log else [])]
        self.machine = Vmm(folder, args, stdin=stdin, prefix=prefix)
        if terminal:
            os.close(stdin)
        self.api, self.pid = self.machine.api, self.machine.pid

    def configure(self, engine="Sync"):
        api = self.api
        api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64, "track_dirty_pages": True})
        api.ok("PUT", "/boot-source", {"kernel_image_path": tiny("traffic"), "boot_args": ""})
        api.ok("PUT", "/drives/disk", {"drive_id": "disk", "path_on_host": file_of(self.folder / "disk", 128), "is_root_device": False,
                                       "io_engine": engine, "cache_type": "Writeback"})
        api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(self.folder / "v")})
        api.ok("PUT", "/entropy", {})
        subprocess.run(["ip", "tuntap", "add", self.tap, "mode", "tap"], check=True)
        subprocess.run(["ip", "link", "set", self.tap, "up"], check=True)
        api.ok("PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": self.tap})

    def start(self):
        self.api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        self.wait_for(lambda: "ready" in self.machine.console(), "the guest")

    def wait_for(self, condition, what):
        """Until the condition holds or the monitor has ended, which the caller will see."""
        def done():
            if not self.machine.alive():
                raise EOFError
            return condition()
        return wait_for(done, what)

    def tell(self, letter):
        """One thing that the guest does."""
        os.write(self.input, letter.encode())
        said = self.wait_for(lambda: [line for line in self.machine.console().split("\n")[:-1] if line.startswith(letter + " ")],
                             f"the guest's {letter}")
        assert said[0] == f"{letter} done", said

    def vsock(self, port=1):
        """A stream to the guest, which sends back what it is sent."""
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(self.folder / "v"))  # blocks while there are too many
        stream.settimeout(PATIENCE_S)
        stream.sendall(f"CONNECT {port}\n".encode())
        return stream

    def thread(self, role):
        return self.pid if role == "main" else thread_named(self.pid, "fc_vcpu 0")

    def end(self):
        """The exit code, once it has ended by itself or been told to."""
        with contextlib.suppress(ProcessLookupError):
            self.machine.process.terminate()
        return self.machine.wait()

    def clear(self):
        self.machine.kill()
        os.close(self.input)
        subprocess.run(["ip", "link", "del", self.tap], check=False, stderr=subprocess.DEVNULL)

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else self.machine.console()


def boot(trial):
    trial.start()


def pause(trial):
    trial.start()
    trial.api.ok("PATCH", "/vm", {"state": "Paused"})
    trial.api.ok("PATCH", "/vm", {"state": "Resumed"})


def tells(letter):
    def act(trial):
        trial.start()
        trial.tell(letter)
    act.letter = letter
    return act


def network(trial):
    """What comes in is sent by the kernel itself: a link that is up announces itself."""
    trial.start()
    os.write(trial.input, b"o")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((trial.tap, 0))

        def arrived():
            wire.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(46))
            return "o done" in trial.machine.console()
        trial.wait_for(arrived, "a frame")


def from_host(trial):
    trial.start()
    with trial.vsock() as stream:
        assert stream.recv(20).startswith(b"OK ")
        stream.sendall(b"there and back")
        assert stream.recv(20) == b"there and back"
        stream.shutdown(socket.SHUT_WR)     # what the monitor does about it, before it is asked something else
        trial.wait_for(lambda: trial.api.get("/").status == 200, "an answer")


def many_streams(trial):
    """Each is some memory; enough of them make the heap grow in every way."""
    trial.start()
    with contextlib.ExitStack() as stack:
        for port in range(300):
            stack.enter_context(trial.vsock(port))
        trial.wait_for(lambda: len(os.listdir(f"/proc/{trial.pid}/fd")) > 300, "all of them")


def from_guest(trial):
    """The guest connects, sends, and says that it sends no more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE_S)
        listener.bind(str(trial.folder / "v_52"))
        listener.listen()
        trial.start()
        trial.tell("c")
        with listener.accept()[0] as stream:
            stream.settimeout(PATIENCE_S)
            assert len(stream.recv(100)) == 64
            trial.tell("h")
            assert stream.recv(100) == b""


def big_request(trial):
    """The buffer that takes it grows many times."""
    trial.start()
    answer = trial.api.put("/machine-config", b'{"vcpu_count": 1, "mem_size_mib": 128, "x": "' + b"y" * 900000 + b'"}')
    assert answer.status == 400


def patch_drive(trial):
    trial.start()
    trial.api.ok("PATCH", "/drives/disk", {"drive_id": "disk", "path_on_host": file_of(trial.folder / "other", 64)})


def save(machine, kind="Full"):
    """Twice: to new files, and onto them."""
    machine.api.ok("PATCH", "/vm", {"state": "Paused"})
    for _ in range(2):
        machine.api.ok("PUT", "/snapshot/create", {"snapshot_type": kind, "snapshot_path": str(machine.folder / "s"),
                                                   "mem_file_path": str(machine.folder / "m")})


def snapshot(trial):
    trial.start()
    trial.tell("p")
    save(trial)
    save(trial, "Diff")


def snapshot_in_place(trial):
    """Onto what is no file that another could replace."""
    trial.start()
    trial.api.ok("PATCH", "/vm", {"state": "Paused"})
    trial.api.ok("PUT", "/snapshot/create", {"snapshot_path": "/dev/null", "mem_file_path": str(trial.folder / "m")})


def save_another(trial):
    """Leaves what another monitor saved."""
    first = Vmm(trial.folder, name="first")
    try:
        first.api.ok("PUT", "/boot-source", {"kernel_image_path": tiny("traffic"), "boot_args": ""})
        first.api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        first.wait_for_console("ready")
        save(first)
    finally:
        first.kill()


def snapshot_of_restored(trial):
    """Loaded from what another monitor saved, and saved again as what has changed."""
    save_another(trial)
    trial.api.ok("PUT", "/snapshot/load", {"snapshot_path": str(trial.folder / "s"), "resume_vm": True,
                                           "mem_backend": {"backend_type": "File", "backend_path": str(trial.folder / "m")}})
    trial.api.ok("PATCH", "/vm", {"state": "Paused"})
    trial.api.ok("PUT", "/snapshot/create", {"snapshot_type": "Diff", "snapshot_path": str(trial.folder / "s2"),
                                             "mem_file_path": str(trial.folder / "m2")})


def foreign_memory(trial):
    """The handler of page faults closes its connection, and does its work."""
    save_another(trial)
    path = str(trial.folder / "h")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        start_handler(listener, trial.folder / "m")
        trial.api.ok("PUT", "/snapshot/load", {"snapshot_path": str(trial.folder / "s"), "resume_vm": True,
                                               "mem_backend": {"backend_type": "Uffd", "backend_path": path}})
    trial.wait_for(lambda: "has closed its connection" in trial.log() and trial.api.get("/").status == 200, "the monitor to notice")


def broken_pipe(trial):
    trial.start()
    os.kill(trial.pid, signal.SIGPIPE)
    trial.wait_for(lambda: "Received signal 13" in trial.log() and trial.api.get("/").status == 200, "the handler")


def suspended(trial):
    """SIGSTOP and SIGCONT while the main thread waits for a vCPU that does not come."""
    trial.start()
    puppet = Puppet(trial.pid, trial.thread("vcpu"))

    def ask():
        with contextlib.suppress(OSError, EOFError, AssertionError):    # the answer is not what this is about
            trial.api.ok("PATCH", "/vm", {"state": "Paused"})
    asking = threading.Thread(target=ask)
    asking.start()
    call = pathlib.Path(f"/proc/{trial.pid}/syscall")
    wait_for(lambda: call.read_text(encoding="ascii").startswith("7 "), "poll()")
    os.kill(trial.pid, signal.SIGSTOP)
    state = pathlib.Path(f"/proc/{trial.pid}/stat")
    wait_for(lambda: state.read_text(encoding="ascii").rpartition(") ")[2][0] == "T", "the stop")
    os.kill(trial.pid, signal.SIGCONT)
    with contextlib.suppress(FileNotFoundError):    # it has ended
        wait_for(lambda: state.read_text(encoding="ascii").rpartition(") ")[2][0] in "SZX", "the wait, or the end")
    puppet.release()
    asking.join()


def fatal_on_vcpu(trial):
    """The handler of a fatal signal runs under the filter of the thread that it strikes."""
    trial.start()
    LIBC.syscall(234, trial.pid, trial.thread("vcpu"), int(signal.SIGSEGV))     # tgkill
    trial.machine.wait()


# ---- which rule is needed by what ----

BIG = ("--http-api-max-payload-size", "1000000")
NO_VDSO = {"prefix": [sys.executable, str(HERE / "puppet.py")]}
# {rule: (what is done, how the monitor is started)}; a rule that is not here is needed by every start.
MAIN = {
    "epoll_create1": (from_host,), "poll": (pause,), "futex": (pause,), "accept4": (pause,),
    "recvfrom": (pause,), "readv": (network,), "writev": (network,), "preadv": (tells("b"),),
    "pwritev": (tells("b"),), "fsync": (patch_drive,), "fdatasync": (tells("b"),), "fallocate": (tells("b"),),
    "io_uring_setup": (tells("b"), {"engine": "Async"}), "io_uring_register": (tells("b"), {"engine": "Async"}),
    "io_uring_enter": (tells("b"), {"engine": "Async"}), "eventfd2": (tells("b"), {"engine": "Async"}),
    "sendmsg": (from_guest,), "shutdown": (from_guest,), "socket": (from_guest,), "connect": (from_guest,),
    "open": (patch_drive,), "fcntl F_SETFD": (patch_drive,), "fcntl F_SETFL": (patch_drive,), "fstat": (patch_drive,),
    "lseek": (patch_drive,), "mmap": (many_streams,), "munmap": (many_streams,), "brk": (many_streams,),
    "mremap": (big_request, {"args": BIG}), "getrandom": (tells("r"),), "clock_gettime": (boot, NO_VDSO),
    "rt_sigprocmask": (pause,), "rt_sigreturn": (broken_pipe,), "restart_syscall": (suspended,), "tkill": (pause,),
    "ioctl KVM_KVMCLOCK_CTRL": (pause,), "ioctl TUNSETOFFLOAD": (network,), "ioctl TCSETS": (boot, {"terminal": True}),
    "ioctl KVM_CHECK_EXTENSION": (snapshot,), "ioctl KVM_GET_DIRTY_LOG": (snapshot,), "access": (snapshot_in_place,), "ftruncate": (snapshot,),
    "open O_CREAT|O_EXCL|O_CLOEXEC": (snapshot,), "pread64": (snapshot_of_restored, {"engine": None}), "pwrite64": (snapshot,),
    "rename": (snapshot,), "copy_file_range": (snapshot,), "uname": (snapshot,),
    "ioctl UFFDIO_WAKE": (foreign_memory, {"engine": None}), "exit": (foreign_memory, {"engine": None}),
    **{f"ioctl KVM_GET_{name}": (snapshot,) for name in (
        "MSR_INDEX_LIST", "MP_STATE", "REGS", "SREGS", "XCRS", "DEBUGREGS", "LAPIC", "VCPU_EVENTS", "TSC_KHZ", "XSAVE", "XSAVE2",
        "CPUID2", "MSRS", "IRQCHIP", "PIT2", "CLOCK")},
}
VCPU = {
    "ioctl KVM_CREATE_PIT2": (tells("p"),), "ioctl KVM_GET_PIT2": (tells("p"),), "ioctl KVM_SET_PIT2": (tells("p"),),
    "futex": (pause,), "poll": (tells("l"), {"log": False}), "clock_gettime": (boot, NO_VDSO), "rt_sigreturn": (pause,), "read": (tells("d"),),
    "ioctl TCSETS": (fatal_on_vcpu, {"terminal": True}), "fcntl F_SETFL": (fatal_on_vcpu,), "exit_group": (fatal_on_vcpu,),
}
WORK = {"main": MAIN, "vcpu": VCPU}
# Needed by handlers of signals, too, where all signals are blocked: SIGSYS there kills, and may be before the log line.
# The C library blocks them too while it sends a signal or ends a thread.
HANDLERS_OWN = {(role, name) for role in WORK for name in (
    "write", "exit_group", "ioctl TCSETS", "fcntl F_SETFL", "clock_gettime", "rt_sigreturn", "poll", "tkill", "exit")}
# Of these KVM has one or the other.
EITHER = {"ioctl KVM_GET_XSAVE": "ioctl KVM_GET_XSAVE2", "ioctl KVM_GET_XSAVE2": "ioctl KVM_GET_XSAVE"}


def name_of(rule):
    """The call, and for those that are many in one what is asked of them."""
    many = rule["syscall"] in ("ioctl", "fcntl") or rule["syscall"] == "open" and "O_CREAT" in rule["args"][0]["val"]
    return rule["syscall"] + (f" {rule['args'][0]['val']}" if many else "")


RULES = [(role, index, name_of(rule)) for role, policy in POLICIES.items() for index, rule in enumerate(policy[role]["filter"])]


def compile_without(folder, role, index):
    """The filters less one rule; all of them for an index of None. The file's path."""
    sources = []
    for name, policy in POLICIES.items():
        body = dict(policy[name], filter=[rule for at, rule in enumerate(policy[name]["filter"]) if (name, at) != (role, index)])
        sources.append(folder / f"{name}.json")
        sources[-1].write_text(json.dumps({name: body}), encoding="utf-8")
    subprocess.run([COMPILER, "-o", folder / "filters", *sources], check=True)
    return folder / "filters"


def outcome(folder, act, filters, engine="Sync", args=(), whole=False, **how):
    """Exit code and log of a monitor for which `act` was done; whole: to its end, since the monitor lives."""
    trial = Trial(folder, "--seccomp-filter", filters, *args, **how)
    try:
        if engine:
            trial.configure(engine)
        # A monitor that ends meanwhile leaves its clients without an answer.
        with contextlib.nullcontext() if whole else contextlib.suppress(OSError, EOFError, AssertionError):
            act(trial)
        return trial.end(), trial.log()
    finally:
        trial.clear()


def test_rules_are_one_a_line_with_a_reason():
    for role, policy in POLICIES.items():
        names = [json.dumps({key: rule.get(key) for key in ("syscall", "args")}) for rule in policy[role]["filter"]]
        assert len(set(names)) == len(names)
        assert all(len(rule["comment"]) > 2 for rule in policy[role]["filter"])
        assert set(WORK[role]) <= {name for other, _, name in RULES if other == role}


@pytest.mark.parametrize("role, index, name", RULES, ids=[f"{role} {name}" for role, _, name in RULES])
def test_each_rule_is_needed(tmp_path, role, index, name):
    act, how = (*WORK[role].get(name, (boot,)), {})[:2]
    code, log = outcome(tmp_path, act, compile_without(tmp_path, role, index), **how)
    if code == 0 and name in EITHER:
        other = next(at for _, at, other in RULES if other == EITHER[name])
        (tmp_path / "other").mkdir()
        code, log = outcome(tmp_path / "other", act, compile_without(tmp_path / "other", role, other), **how)
    said = f"It is {name.split()[0]}." in log
    if (role, name) in HANDLERS_OWN:
        assert code == -signal.SIGSYS or (code == BAD_SYSCALL and said), log
    else:
        assert (code, said) == (BAD_SYSCALL, True), log


def all_work():
    """{name: (what is done, how)}, each once."""
    found = {"boot {}": (boot, {})}
    for work in [work for role in WORK.values() for work in role.values()]:
        act, how = (*work, {})[:2]
        found[f"{act.__qualname__} {getattr(act, 'letter', '')}{sorted(how)}"] = act, how
    return found


@pytest.mark.parametrize("work", all_work())
def test_all_rules_together_suffice(tmp_path, work):
    """The same is done under the whole filters, to its end: what the test above sees is the missing rule's doing."""
    act, how = all_work()[work]
    code, log = outcome(tmp_path, act, compile_without(tmp_path, None, None), whole=True, **how)
    assert code == (150 if act is fatal_on_vcpu else 0), log


# ---- what no rule allows ----

AF_INET, AF_NETLINK, AF_VSOCK, CLOEXEC = 2, 16, 40, 0o2000000
# One or more of each kind of thing that somebody who has taken over a thread would try: (call, number, arguments).
FORBIDDEN = [
    ("execve", 59, ()), ("execveat", 322, ()), ("fork", 57, ()), ("vfork", 58, ()), ("clone", 56, (17,)), ("clone3", 435, ()),
    ("ptrace", 101, (16, 1)), ("process_vm_writev", 311, (1,)), ("kill", 62, (1, 0)), ("tgkill", 234, (1, 1, 9)),
    ("pidfd_open", 434, (1,)), ("socket", 41, (AF_INET, 1 | CLOEXEC)), ("socket", 41, (AF_NETLINK, 3 | CLOEXEC)),
    ("socket", 41, (AF_VSOCK, 1 | CLOEXEC)), ("bind", 49, (-1,)), ("listen", 50, (-1,)), ("mount", 165, ()), ("umount2", 166, ()),
    ("open_tree", 428, (-100,)), ("move_mount", 429, (-1,)), ("pivot_root", 155, ()), ("chroot", 161, ()), ("chdir", 80, ()),
    ("unshare", 272, (0,)), ("setns", 308, (-1,)), ("setuid", 105, (0,)), ("setresuid", 117, (0, 0, 0)), ("setgroups", 116, (0,)),
    ("capset", 126, ()), ("prctl", 157, (4, 1)), ("seccomp", 317, (0,)), ("bpf", 321, (0,)), ("perf_event_open", 298, ()),
    ("keyctl", 250, (0,)), ("add_key", 248, ()), ("userfaultfd", 323, (0,)), ("kexec_load", 246, ()), ("init_module", 175, ()),
    ("mknod", 133, ()), ("mkdir", 83, ()), ("symlink", 88, ()), ("link", 86, ()), ("chmod", 90, ()), ("chown", 92, ()),
    ("mprotect", 10, (0, 4096, 5)), ("mmap", 9, (0, 4096, 7, 0x22, -1, 0)), ("memfd_create", 319, ()), ("shmget", 29, (0, 4096)),
    ("pkey_mprotect", 329, (0, 4096, 4)), ("rt_sigaction", 13, (31, 0, 0, 8)), ("open", 2, (0, 0o101 | CLOEXEC)),
    ("open", 2, (0, 0)), ("openat2", 437, (-100,)), ("name_to_handle_at", 303, ()), ("io_setup", 206, ()),
    ("ioctl", 16, (-1, 0xae01)), ("ioctl", 16, (-1, 0x4020ae46)), ("ioctl", 16, (-1, 0x5412)), ("ioctl", 16, (-1, 0x400454ca)),
    ("personality", 135, (0x0040000,)), ("reboot", 169, (0,)), ("setrlimit", 160, ()), ("prlimit64", 302, ()), ("ioperm", 173, ()),
    ("modify_ldt", 154, ()), ("arch_prctl", 158, (0x1001,)), ("sched_setattr", 314, ()), ("acct", 163, ()), ("swapon", 167, ()),
    ("fanotify_init", 300, ()), ("inotify_init1", 294, ()), ("landlock_restrict_self", 446, (-1,)),
]


@pytest.fixture
def trial(tmp_path):
    """A running monitor with the filters that are built into it."""
    machine = Trial(tmp_path)
    machine.configure()
    machine.start()
    yield machine
    machine.clear()


@pytest.mark.parametrize("role", ("main", "vcpu"))
@pytest.mark.parametrize("name, number, args", FORBIDDEN, ids=[f"{name} {args}" for name, _, args in FORBIDDEN])
def test_a_forbidden_call_kills_and_is_named(trial, role, name, number, args):
    puppet = Puppet(trial.pid, trial.thread(role))
    assert puppet.call(number, *args) is None
    puppet.release(signal.SIGSYS)
    assert trial.machine.wait() == BAD_SYSCALL
    assert f":{'main' if role == 'main' else 'fc_vcpu 0'}] Shutting down VM after intercepting a bad syscall ({number}). It is {name}." \
        in trial.log()
    metrics = [json.loads(line) for line in (trial.folder / "metrics").read_text(encoding="utf-8").splitlines()]
    assert sum(line["seccomp"]["num_faults"] for line in metrics) == 1


@pytest.mark.parametrize("role", ("main", "vcpu"))
def test_a_blocked_handler_does_not_help(trial, role):
    """Blocking SIGSYS is allowed, being under that signal's mask is no escape: the kernel ends the process."""
    puppet = Puppet(trial.pid, trial.thread(role))
    mask = puppet.scratch(struct.pack("<Q", 1 << (signal.SIGSYS - 1)))
    assert puppet.call(14, signal.SIG_BLOCK, mask, 0, 8) == 0   # rt_sigprocmask
    assert puppet.call(59) is None
    puppet.release(signal.SIGSYS)
    assert trial.machine.wait() == -signal.SIGSYS


@pytest.mark.parametrize("role", ("main", "vcpu"))
def test_a_hijacked_handler_helps_once_and_for_nothing(trial, role):
    """A handler that is made to return, as by an overwritten stack: the call was not done, and the next one kills."""
    puppet = Puppet(trial.pid, trial.thread(role))
    assert puppet.call(57) is None          # fork
    puppet.skip_handler()
    assert puppet.call(57) is None
    puppet.release(signal.SIGSYS)
    assert trial.machine.wait() == -signal.SIGSYS
    assert not pathlib.Path(f"/proc/{trial.pid}/task/{trial.pid}/children").exists()


def test_an_allowed_call_does_no_harm(trial):
    """The control: what kills above is the filter, not the test's hand."""
    for role, number, args in (("main", 3, (-1,)), ("vcpu", 1, (-1, 0, 0))):
        puppet = Puppet(trial.pid, trial.thread(role))
        assert puppet.call(number, *args) == -9     # EBADF
        puppet.restore()
        puppet.release()
    assert trial.api.get("/").status == 200
    assert trial.end() == 0
