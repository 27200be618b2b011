# SPDX-License-Identifier: Apache-2.0
"""A prisoner in the monitor's place tries everything to get out: each attempt fails, and succeeds without the jail."""

import contextlib
import ctypes
import os
import socket
import subprocess

import pytest

from jail import LIBC, UID, USER, hierarchies, landlock_version, results, v2_controllers

LIMITS = ("fork_bomb", "memory_bomb", "big_file", "many_files")
MODES = {
    "root": (),
    "root, own process ids": ("--new-pid-ns",),
    "root, in memory": ("--exec-copy", "memfd"),
    "root, shared program": ("--exec-copy", "shared"),
    "root, no Landlock": ("--no-landlock",),
    "rootless": (),
    "rootless, own process ids": ("--new-pid-ns",),
}


def add_key():
    """A key in a session keyring of this process's own; gives its number."""
    LIBC.syscall(250, 1, None)  # keyctl(KEYCTL_JOIN_SESSION_KEYRING)
    key = LIBC.syscall(248, b"user", b"bantam-test", b"secret", ctypes.c_size_t(6), -3)     # add_key, session keyring
    assert key > 0, os.strerror(ctypes.get_errno())
    return key


@contextlib.contextmanager
def outside(site, uid):
    """What the prisoner is told of the outside: a secret, a process of its own user's, a key, a socket, an open file."""
    secret = site.folder / "secret"
    secret.write_text("secret", encoding="ascii")
    name = "bantam-" + site.folder.name
    with socket.socket(socket.AF_UNIX) as listener, open(secret, "rb") as leaked:
        listener.bind("\0" + name)
        listener.listen()
        os.set_inheritable(leaked.fileno(), True)
        with subprocess.Popen(["sleep", "1000"], user=uid, group=uid, extra_groups=[]) as outsider:
            try:
                yield leaked.fileno(), [f"secret={secret}", f"outsider={outsider.pid}", f"key={add_key()}", f"abstract={name}",
                                        f"fd={leaked.fileno()}"]
            finally:
                outsider.kill()


def attempts(inmate):
    names = subprocess.run([inmate, "list"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in names if name not in (*LIMITS, "end")]


def beyond_the_mode(mode):
    """What a mode does not stop, and says so in jailer/README.md."""
    known = landlock_version() if "no Landlock" not in mode else 0
    allowed = set()
    if known < 6:
        allowed |= {"abstract_socket"}
    if known < 6 and "own process ids" not in mode:
        allowed |= {"signal_outsider"}
    if known < 4:
        allowed |= {"tcp_listen"}
    if known < 1:
        allowed |= {"link_anywhere"}
        if "own process ids" not in mode:
            allowed |= {"trace_outsider"}
    if "memory" in mode:
        allowed |= {"overwrite_program", "remove_program"}     # there is no file: nothing to show
    return allowed


@pytest.mark.newer
@pytest.mark.parametrize("mode", MODES)
def test_every_attempt_fails_in_the_jail(site, inmate, mode):
    rootless = "rootless" in mode
    with outside(site, USER if rootless else UID) as (leaked, told):
        done = subprocess.Popen(site.command("one", *MODES[mode], rootless=rootless, words=[*told, "dev=/dev", *attempts(inmate)]),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[leaked],
                                env={"SECRET": "of the caller"},
                                **({"user": USER, "group": USER, "extra_groups": []} if rootless else {}))
        output, errors = done.communicate()
    assert done.returncode == 0, errors
    found = results(output)
    assert list(found) == attempts(inmate), errors
    got_out = {name for name, result in found.items() if result == "done"}
    assert got_out <= beyond_the_mode(mode), found


def test_every_attempt_succeeds_without_the_jail(site, inmate):
    """As root, in namespaces that keep the machine from harm."""
    work = site.folder / "work"
    work.mkdir()
    with outside(site, UID) as (leaked, told):
        done = subprocess.run(["unshare", "-m", "-u", "--propagation", "private", str(site.inmate), *told, "dev=.", *attempts(inmate)],
                              cwd=work, capture_output=True, text=True, pass_fds=[leaked], env={"SECRET": "of the caller"}, check=True)
    found = results(done.stdout)
    assert list(found) == attempts(inmate)
    assert {name: result for name, result in found.items() if result != "done"} == {}


def limits_of(version):
    """The cgroup files for 20 processes and 64 MiB."""
    if version == 2:
        return ["--cgroup-version", "2", "--cgroup", "pids.max=20", "--cgroup", f"memory.max={64 << 20}", "--cgroup", "memory.swap.max=0"]
    return ["--cgroup", "pids.max=20", "--cgroup", f"memory.limit_in_bytes={64 << 20}"]


BOMBS = ["processes=200", f"bytes={256 << 20}", f"size={1 << 21}", "files=200", *LIMITS]


@pytest.mark.parametrize("pid_ns", [(), ("--new-pid-ns",)])
@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.guest)])
def test_bombs_stay_in_the_jail(site, version, pid_ns):
    have = hierarchies() if version == 1 else v2_controllers()
    assert "pids" in have and "memory" in have, "no such cgroups here"
    done = site.start("bomb", *limits_of(version), "--resource-limit", f"fsize={1 << 20}", "--resource-limit", "no-file=100", *pid_ns,
                      words=BOMBS)
    output, errors = done.communicate()
    found = results(output)
    assert found.get("fork_bomb") == "EAGAIN", errors
    assert found["memory_bomb"] == "signal 9"
    assert found["big_file"] == "EFBIG"
    assert found["many_files"] == "EMFILE"


def test_bombs_go_off_without_limits(site):
    done = site.start("bomb", "--resource-limit", "no-file=1000", words=BOMBS)
    output, errors = done.communicate()
    assert results(output) == dict.fromkeys(LIMITS, "done"), errors


def test_another_tenants_jail_is_out_of_reach(site):
    """Same user, same base: only the roots keep them apart."""
    first = site.start("first", words=["wait"])
    site.pid("first")
    secret = site.root("first") / "mine"
    secret.write_text("x", encoding="ascii")
    second = site.run("second", words=[f"secret={secret}", "outside_path", "dotdot_path"])
    assert results(second.stdout) == {"outside_path": "ENOENT", "dotdot_path": "ENOENT"}
    first.kill()
