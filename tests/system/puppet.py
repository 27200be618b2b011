# SPDX-License-Identifier: Apache-2.0
"""A thread of another process under this one's control, by ptrace(2): makes it do system calls of its own that its program
would never do, as somebody would who has taken it over. And a start without the vDSO: `puppet.py PROGRAM ARGUMENT...`."""

import ctypes
import os
import pathlib
import re
import signal
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

CONT, SINGLESTEP, GETREGS, SETREGS, DETACH, SEIZE, INTERRUPT = 7, 9, 12, 13, 17, 0x4206, 0x4207
O_TRACEEXEC, EVENT_EXEC = 1 << 4, 4
WALL = 0x40000000
NO_CALL = (1 << 64) - 1
AT_SYSINFO_EHDR, AT_IGNORE = 33, 1


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs").split()]


def thread_named(pid, name):
    """The number of the process's thread of that name."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        if pathlib.Path(f"/proc/{pid}/task/{thread}/comm").read_text(encoding="ascii").strip() == name:
            return int(thread)
    raise AssertionError(f"no thread {name}")


class Puppet:
    """Stopped in a system call while this exists; must be used on one thread of the test's only."""

    def __init__(self, pid, thread=None):
        self.pid, self.thread = pid, thread or pid
        self._ptrace(SEIZE, 0, 0)
        self._interrupt()
        while self.before.orig_rax == NO_CALL:
            self._ptrace(CONT, 0, 0)
            self._interrupt()

    def _interrupt(self):
        self._ptrace(INTERRUPT, 0, 0)
        self._wait()
        self.before = self._registers()

    def _ptrace(self, request, address, data):
        if LIBC.ptrace(request, self.thread, address, data) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace({request})")

    def _wait(self):
        """The signal that it stopped for."""
        _, status = os.waitpid(self.thread, WALL)
        assert os.WIFSTOPPED(status), status
        return os.WSTOPSIG(status)

    def _registers(self):
        registers = Registers()
        self._ptrace(GETREGS, 0, ctypes.addressof(registers))
        return registers

    def _set(self, registers):
        self._ptrace(SETREGS, 0, ctypes.addressof(registers))

    def call(self, number, *args):
        """One system call, from the instruction at which the thread was interrupted in another; gives its result, or None
        when it raised SIGSYS, which is then still to be delivered."""
        registers = Registers.from_buffer_copy(self.before)
        registers.orig_rax, registers.rax = NO_CALL, number
        registers.rip -= 2      # the `syscall` behind which it stands
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args):
            setattr(registers, name, value)
        self._set(registers)
        self._ptrace(SINGLESTEP, 0, 0)
        stopped_for = self._wait()
        if stopped_for == signal.SIGSYS:
            return None
        assert stopped_for == signal.SIGTRAP, stopped_for
        return ctypes.c_longlong(self._registers().rax).value

    def scratch(self, data):
        """Bytes below the thread's stack; their address."""
        address = (self.before.rsp - 4096) & ~15
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(data)
        return address

    def skip_handler(self):
        """Lets the handler of the signal that is to be delivered begin, and return before it has done anything."""
        self._ptrace(SINGLESTEP, 0, signal.SIGSYS)
        assert self._wait() == signal.SIGTRAP
        registers = self._registers()
        restorer = struct.unpack("<Q", self._read(registers.rsp, 8))[0]
        registers.rip, registers.rsp = restorer, registers.rsp + 8
        self._set(registers)
        for _ in range(8):      # mov $15, %rax; syscall
            self._ptrace(SINGLESTEP, 0, 0)
            assert self._wait() == signal.SIGTRAP
            if self._registers().rsp > registers.rsp + 128:
                return
        raise AssertionError("the handler did not return")

    def _read(self, address, size):
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)

    def restore(self):
        """Back to where it was interrupted, as if nothing had been called."""
        self._set(self.before)

    def release(self, number=0):
        """Lets go, with a signal to deliver. A process that has ended does so only now, with its last thread."""
        try:
            self._ptrace(DETACH, 0, number)
        except ProcessLookupError:
            os.waitpid(self.thread, WALL)


def without_vdso(pid):
    """Takes the vDSO out of what the kernel tells a process that is about to execute a program."""
    def check(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    check(LIBC.ptrace(SEIZE, pid, 0, O_TRACEEXEC))
    yield
    _, status = os.waitpid(pid, WALL)
    assert status >> 8 == (signal.SIGTRAP | EVENT_EXEC << 8), status
    registers = Registers()
    check(LIBC.ptrace(GETREGS, pid, 0, ctypes.addressof(registers)))
    stack = next(line.split()[0] for line in pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines()
                 if "[stack]" in line)
    end = int(re.split("-", stack)[1], 16)
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(registers.rsp)
        words = list(struct.unpack_from(f"<{(end - registers.rsp) // 8}Q", memory.read(end - registers.rsp)))
        at = words.index(0, 1) + 1          # behind the arguments
        at = words.index(0, at) + 1         # behind the environment: the auxiliary vector
        while words[at] != AT_SYSINFO_EHDR:
            assert words[at] != 0, "no vDSO"
            at += 2
        memory.seek(registers.rsp + at * 8)
        memory.write(struct.pack("<Q", AT_IGNORE))
    check(LIBC.ptrace(DETACH, pid, 0, 0))


def main(words):
    parent = os.getpid()
    ready, tell = os.pipe()
    if os.fork() == 0:
        tracing = without_vdso(parent)
        next(tracing)
        os.write(tell, b"x")
        next(tracing, None)
        os._exit(0)
    os.read(ready, 1)
    os.execv(words[0], words)


if __name__ == "__main__":
    main(sys.argv[1:])
