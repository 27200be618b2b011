# SPDX-License-Identifier: Apache-2.0
"""Every system call of the jailer fails once. Either the jailer says so in words and leaves nothing behind, or the program
runs with nothing more than it may have."""

import collections
import os
import re
import subprocess

import pytest

from api_client import wait_for
from jail import JAILER, USER, comm, hierarchies, landlock_version, pids, removed, results

pytestmark = pytest.mark.skipif("asan" in str(JAILER), reason="a sanitizer's own system calls are not the jailer's")

# What must never succeed, whatever failed before.
ATTEMPTS = ["keep_capability", "outside_path", "dotdot_path", "leave_no_new_privs", "become_root", "mount_tmpfs", "user_namespace",
            "execute_other", "environment", "change_securebits"]
MODES = {
    "foreground": ((), False),
    "foreground, cleaned up": (("--clean-up",), False),
    "daemon": (("--daemonize", "--new-pid-ns"), False),
    "daemon, cleaned up": (("--daemonize", "--clean-up"), False),
    "own process ids, in memory": (("--new-pid-ns", "--exec-copy", "memfd"), False),
    "rootless": (("--new-net-ns",), True),
    "rootless, own process ids": (("--new-pid-ns", "--clean-up"), True),
}
# The C library's start, before and without which there is no program to judge; ends.
# close() releases the descriptor even when it reports a failure: one that stays open is nothing that happens.
# Without brk() the C library goes on with mmap(), and the next brk() is the program's.
STARTUP = {"brk", "close", "execve", "arch_prctl", "set_tid_address", "exit", "exit_group"}


class Trial:
    """One run of the jailer under strace."""

    def __init__(self, site, mode, inject=None):
        options, self.rootless = MODES[mode]
        self.site, self.daemon = site, "--daemonize" in options
        self.log = site.folder / "trace"
        groups = ["--cgroup", "pids.max=40"] if "pids" in hierarchies() and not self.rootless else []
        words = [f"secret={site.folder}/secret", *(["report=report"] if self.daemon else []), *ATTEMPTS]
        traced = ["strace", "-f", "-Y", "-o", str(self.log), *(["-e", f"inject={inject}"] if inject else [])]
        self.log.unlink(missing_ok=True)
        (site.folder / "secret").write_text("secret", encoding="ascii")
        command = site.command("one", *options, *groups, words=words, rootless=self.rootless)
        if self.rootless:
            user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
            os.chown(site.folder, USER, USER)
        else:
            user = ["setpriv", "--groups", "5,6"]   # something to lose
        self.done = subprocess.run(["unshare", "-m", "--propagation", "private", *user, *traced, *command],
                                   stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)

    def results(self):
        """What the program reported, or None when it did not run."""
        if self.daemon:
            report = self.site.root("one", self.rootless) / "report"
            return results(report.read_text(encoding="ascii")) if report.exists() else None
        return results(self.done.stdout) if self.done.stdout else None

    def lines(self):
        """(process, call, line) of the jailer's own calls, what strace tells in two parts put together."""
        found, begun = [], {}
        for line in self.log.read_text(encoding="utf-8").splitlines():
            process, name, said = re.match(r"(\d+)<([^>]*)> +(.*)", line).groups()
            if (resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", said)) and process in begun:
                found[begun.pop(process)][2] += resumed[1]
            elif (match := re.match(r"(\w+)\(", said)) and name in ("bantam-jailer", "jail-keeper"):
                if said.endswith("<unfinished ...>"):
                    begun[process] = len(found)
                found.append([process, match[1], said])
        return found

    def calls(self):
        """{process: [names]}"""
        found = collections.OrderedDict()
        for process, name, _ in self.lines():
            found.setdefault(process, []).append(name)
        return found

    def hit(self):
        """Processes of the jailer in which something was injected."""
        return {process for process, _, line in self.lines() if "(INJECTED)" in line}


def injections(calls):
    """Every call of every process, by its name and which it is of that name."""
    counts = collections.Counter()
    for names in calls.values():
        for name, count in collections.Counter(names).items():
            counts[name] = max(counts[name], count)
    for name, count in sorted(counts.items()):
        if name not in STARTUP:
            yield from ((name, when) for when in range(1, count + 1))
    yield "execve", 1       # strace does not count its own
    yield "execveat", 1


def refused(found):
    """Whether the program got nowhere."""
    beyond = {"execute_other"} if landlock_version() < 1 else set()
    return found is not None and all(result != "done" for name, result in found.items() if name not in beyond)


@pytest.mark.parametrize("mode", MODES)
def test_a_failing_call_leaves_no_half_made_jail(site, mode):
    baseline = Trial(site, mode)
    assert baseline.done.returncode == 0, baseline.done.stderr
    calls = baseline.calls()
    site.wipe()
    judged, missed = collections.Counter(), []
    for name, when in injections(calls):
        what = f"{name} the {when}th time"
        trial = Trial(site, mode, f"{name}:error=EPERM:when={when}")
        if not trial.hit():
            missed.append(what)
            site.wipe()
            continue
        if trial.done.returncode:
            # A sentence; a second line with the call, where the jailer did the call knowingly.
            assert re.match(r"[A-Z/][^\n]{8,}", trial.done.stderr), (what, trial.done.stderr)
            # Who loses the other's word when the program runs already ends it: it may have said something before.
            assert trial.results() is None or refused(trial.results()), what
            if len(trial.hit()) == 1:   # else undoing was hit as well
                try:
                    site.wait_until_nothing_is_left()
                except AssertionError as error:
                    raise AssertionError(f"{what}: {error}; {trial.done.stderr}") from None
                judged["undone"] += 1
        else:
            if trial.daemon or "--new-pid-ns" in MODES[mode][0]:
                wait_for(lambda: not [pid for pid in pids() if comm(pid) == site.inmate.name[:15]], "the program's end")
            if "--clean-up" not in MODES[mode][0] or not trial.daemon:
                assert refused(trial.results()), (what, trial.results(), trial.done.stderr)
            judged["ran"] += 1
        site.wipe()
    assert judged["undone"] > 100, judged
    # A jail has execve() or execveat(); how often a folder is read while it is removed depends on the order of what is in it.
    removing = {"getdents64", "lseek", "unlinkat", "rmdir", "openat2"}
    assert len([what for what in missed if what.split()[0] not in removing]) <= 1, missed


@pytest.mark.parametrize("call", ["setresuid", "setresgid", "setgroups", "capset"])
def test_a_kernel_that_lies_about_privileges_is_found_out(site, call):
    """The call reports success and does nothing."""
    trial = Trial(site, "foreground", f"{call}:retval=0")
    assert trial.done.returncode == 1
    assert trial.done.stderr.startswith("Failed to drop privileges: the kernel accepted every call, but ")
    site.wait_until_nothing_is_left()


@pytest.mark.parametrize("mode", ["foreground", "daemon", "foreground, cleaned up"])
def test_the_jailers_death_is_undone_too(site, mode):
    """SIGKILL at every third call of the process that builds."""
    calls = Trial(site, mode).calls()
    site.wipe()
    builder = next(names for names in calls.values() if "pivot_root" in names)
    begin = builder.index("mkdir") if "mkdir" in builder else 0
    seen, undone = collections.Counter(builder[:begin]), 0
    for position, name in enumerate(builder[begin:]):
        seen[name] += 1
        if position % 3 or name in ("brk", "execve"):   # from the exec on it is the program's end
            continue
        trial = Trial(site, mode, f"{name}:signal=SIGKILL:when={seen[name]}")
        log = trial.log.read_text(encoding="utf-8")
        killed = re.findall(r"^(\d+)<.*killed by SIGKILL", log, re.M)
        assert killed, name
        # A keeper that dies of the same keeps nothing; with --daemonize alone the jailer itself is the keeper.
        if trial.results() is None and len(killed) == 1 and not (mode == "daemon" and log.startswith(killed[0])):
            undone += 1
            site.wait_until_nothing_is_left()
        site.wipe()
    assert undone > 20


def test_a_keeper_that_cannot_start_is_reported(site):
    """Its starter is the last process that the caller's cgroup has room for. What has been made meanwhile goes away."""
    group = hierarchies()["pids"] / site.inmate.name
    group.mkdir()
    (group / "pids.max").write_text("2", encoding="ascii")
    enter = ["sh", "-c", f'echo $$ >{group}/tasks && exec "$0" "$@"']
    done = subprocess.run(site.command("one", words=ATTEMPTS, prefix=enter), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Failed to start the keeper: Resource temporarily unavailable (os error 11)\n")
    wait_for(lambda: removed(group), "the end of the cgroup")
    site.wait_until_nothing_is_left()


@pytest.mark.newer
def test_the_hosts_mounts_are_not_copied(site):
    """Where the kernel shows its namespaces, the one of kdevtmpfs is entered before a copy is made."""
    many = f'for i in $(seq 80); do mkdir {site.folder}/$i && mount -t tmpfs many {site.folder}/$i || exit; done; exec "$@"'
    calls = site.folder / "calls"
    prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", many, "sh", "strace", "-o", calls, "-e", "trace=setns,unshare"]
    (site.folder / "secret").write_text("secret", encoding="ascii")
    done = site.run("one", words=[f"secret={site.folder}/secret", *ATTEMPTS], prefix=prefix)
    assert done.returncode == 0 and refused(results(done.stdout)), done.stderr
    shown = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 12) and "kdevtmpfs" in map(comm, pids())
    entered = [line.split("(")[0] for line in calls.read_text(encoding="ascii").splitlines() if "CLONE_NEWNS" in line and line.endswith("= 0")]
    assert entered == (["setns", "unshare"] if shown else ["unshare"])


def test_old_kernels_get_the_same_jail(site):
    """mount_setattr() is younger than the oldest kernel that is served; Landlock and clone3() may be missing or denied."""
    for missing in ("mount_setattr", "landlock_create_ruleset", "clone3", "keyctl", "copy_file_range"):
        for mode in ("foreground", "daemon"):
            trial = Trial(site, mode, f"{missing}:error=ENOSYS")
            assert trial.done.returncode == 0, (missing, trial.done.stderr)
            wait_for(lambda: not [pid for pid in pids() if comm(pid) == site.inmate.name[:15]], "the program's end")
            assert refused(trial.results()), (missing, trial.results())
            site.wipe()
