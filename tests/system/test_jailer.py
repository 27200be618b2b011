# SPDX-License-Identifier: Apache-2.0
"""The jailer from outside: its words, what it makes, what the program is when it runs, what is left afterwards."""

import os
import pathlib
import re
import signal
import stat
import subprocess

import pytest

from api_client import Api, wait_for
from jail import GID, JAILER, STATIC_VMM, UID, USER, comm, hierarchies, mounts_of, status, v2_controllers

RUNNING = {"foreground": (), "daemon": ("--daemonize",), "own process ids": ("--new-pid-ns",),
           "daemon, own process ids": ("--daemonize", "--new-pid-ns")}
ENDINGS = {"normal": signal.SIGTERM, "killed": signal.SIGKILL, "crash": None}


def speak(*words):
    done = subprocess.run([JAILER, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr.splitlines()[0] if done.stderr else ""


def good(site):
    return {"--id": "a", "--exec-file": str(site.inmate), "--uid": "1", "--gid": "2", "--chroot-base-dir": str(site.base)}


def words_of(pairs):
    return [word for pair in pairs.items() for word in pair]


@pytest.mark.parametrize("change, sentence", [
    ({"--id": ""}, "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64"),
    ({"--id": "a" * 65}, "Invalid instance ID: Invalid len (65);  the length must be between 1 and 64"),
    ({"--id": "a/b"}, "Invalid instance ID: Invalid char (/) at position 1"),
    ({"--exec-file": "/nowhere"}, "Failed to canonicalize path /nowhere: No such file or directory (os error 2)"),
    ({"--exec-file": "/proc"}, "/proc is not a file"),
    ({"--chroot-base-dir": "/proc/version"}, "/proc/version is not a directory"),
    ({"--uid": "x"}, "Invalid uid: x"),
    ({"--gid": "-1"}, "Invalid gid: -1"),
    ({"--uid": "4294967296"}, "Invalid uid: 4294967296"),
    ({"--parent-cgroup": "/a"}, "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'"),
    ({"--parent-cgroup": "a/../b"}, "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'"),
    ({"--cgroup-version": "x"}, "x is an invalid cgroup version specifier"),
    ({"--cgroup": "cpu.shares"}, "Invalid format for cgroups: cpu.shares"),
    ({"--cgroup": "../cpu.shares=1"}, "Cgroup invalid file: ../cpu.shares=1"),
    ({"--resource-limit": "fsize"}, "Invalid format for resources limits: fsize"),
    ({"--resource-limit": "stack=1"}, "Invalid resource argument: stack"),
    ({"--resource-limit": "fsize=x"}, "Invalid limit value for resource: x: invalid digit found in string"),
    ({"--unknown": "1"}, "Failed to parse arguments: Found argument 'unknown' which wasn't expected, or isn't valid in this context."),
    ({"--netns": "--daemonize"}, "Failed to parse arguments: The argument 'netns' requires a value, but none was supplied."),
    ({"--netns": "/nowhere"}, "Failed to open file /nowhere: No such file or directory (os error 2)"),
    ({"--netns": "/dev/null"}, "Failed to join network namespace: netns: Invalid argument (os error 22)"),
])
def test_says_what_is_wrong_in_known_words(site, change, sentence):
    code, _, line = speak(*words_of(good(site) | change))
    assert (code, line) == (1, sentence)
    site.wait_until_nothing_is_left()


@pytest.mark.parametrize("missing", ["--exec-file", "--gid", "--id", "--uid"])
def test_misses_what_is_required(site, missing):
    words = good(site)
    del words[missing]
    assert speak(*words_of(words))[2] == f"Failed to parse arguments: Argument '{missing[2:]}' required, but not found."


def test_version_is_the_monitors(site):
    code, out, _ = speak("--nonsense", "--version")
    assert code == 0
    assert re.fullmatch(r"Jailer v\d+\.\d+\.\d+\n\n", out)
    assert "required" in speak("--version", "-h")[1]
    assert not site.leftovers()


def test_dry_run_prints_the_plan_and_does_nothing(site):
    code, out, _ = speak(*words_of(good(site)), "--dry-run", "--daemonize", "--", "--api-sock", "x")
    assert code == 0
    assert f"{site.base}/{site.inmate.name}/a/root" in out
    assert out.rstrip().splitlines()[-2].endswith("--parent-cpu-time-us N --api-sock x")
    assert not site.leftovers()


def test_exec_arguments_in_firecrackers_order(site):
    """The program's own words come from its command line, which the kernel keeps."""
    site.start("args", words=["wait", "--api-sock", "x"])
    line = pathlib.Path(f"/proc/{site.pid('args')}/cmdline").read_bytes().split(b"\0")[:-1]
    name = b"/" + site.inmate.name.encode()
    assert [word for word in line if not word.isdigit()] == [
        name, b"--id", b"args", b"--start-time-us", b"--start-time-cpu-us", b"--parent-cpu-time-us", b"wait", b"--api-sock", b"x"]


def check_layout(root, name, owner):
    modes = {"": 0o40700, "dev": 0o40700, "dev/net": 0o40700, "run": 0o40700, "dev/kvm": 0o20600, "dev/net/tun": 0o20600,
             "dev/urandom": 0o20600, name: 0o100755}
    for path, mode in modes.items():
        found = (root / path).lstat()
        assert (oct(found.st_mode), found.st_uid, found.st_gid) == (oct(mode), *owner), path
    numbers = {path: (os.major(device), os.minor(device)) for path in modes if modes[path] & 0o20000 and not modes[path] & 0o100000
               for device in [(root / path).lstat().st_rdev] if stat.S_ISCHR(modes[path])}
    assert numbers == {"dev/kvm": (10, 232), "dev/net/tun": (10, 200), "dev/urandom": (1, 9)}
    assert (root / f"{name}.pid").stat().st_uid == 0


@pytest.mark.parametrize("running", RUNNING)
def test_the_running_program_holds_nothing(site, running):
    process = site.start("one", *RUNNING[running], "--new-net-ns", words=["wait"])
    pid = site.pid("one")
    check_layout(site.root("one"), site.inmate.name, (UID, GID))
    found = status(pid)
    assert found["Uid"].split() == [str(UID)] * 4
    assert found["Gid"].split() == [str(GID)] * 4
    assert found["Groups"] == ""
    assert found["NoNewPrivs"] == "1"
    assert {found[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert found["Umask"] == "0077"
    assert found["NSpid"].split()[1:] == (["1"] if "process ids" in running else [])
    assert pathlib.Path(f"/proc/{pid}/environ").read_bytes() == b""
    descriptors = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert set(descriptors) == {0, 1, 2}
    if "daemon" in running:
        assert set(descriptors.values()) == {"/dev/null"}
        assert os.getsid(pid) not in (os.getsid(0), pid)
    for kind in ["mnt", "ipc", "uts", "net"] + (["pid"] if "process ids" in running else []):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    assert re.search(r"Max open files +2048 +2048", limits)
    if running == "foreground":
        assert pid == process.pid
    else:
        assert process.wait() == 0


@pytest.mark.parametrize("rootless", [False, True])
def test_mounts_are_closed(site, rootless):
    site.start("one", words=["wait"], rootless=rootless)
    mounts = mounts_of(site.pid("one", rootless))
    program = f"/{site.inmate.name}"
    nodes = {"/dev/kvm", "/dev/net/tun", "/dev/urandom", "/dev/userfaultfd"} if rootless else set()
    assert set(mounts) - nodes == {"/", "/dev", program}
    assert {"rw", "nosuid", "nodev", "noexec"} <= mounts["/"]
    assert {"ro", "nosuid", "noexec"} <= mounts["/dev"] and "nodev" not in mounts["/dev"]
    assert {"ro", "nosuid", "nodev"} <= mounts[program] and "noexec" not in mounts[program]
    for node in set(mounts) & nodes:
        assert {"ro", "nosuid", "noexec"} <= mounts[node]


def test_rootless_needs_no_privilege_and_has_none(site):
    site.start("one", "--new-net-ns", words=["wait"], rootless=True)
    pid = site.pid("one", rootless=True)
    found = status(pid)
    assert found["Uid"].split() == [str(USER)] * 4
    assert {found[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert pathlib.Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii").split() == [str(UID), str(USER), "1"]
    assert found["NoNewPrivs"] == "1"


def test_operators_mounts_reach_the_jail_and_none_come_back(site):
    """Mounted before, or while the program runs: Kata does both. The jail's own mounts stay in it."""
    script = f"""
        mount --make-rshared / && mkdir -p {site.root('one')}/early {site.root('one')}/late &&
        mount -t tmpfs early {site.root('one')}/early &&
        {" ".join(site.command("one", "--daemonize", words=["wait"]))} &&
        mount -t tmpfs late {site.root('one')}/late && grep -c {site.folder} /proc/self/mountinfo &&
        cat /proc/$(cat {site.root('one')}/*.pid)/mountinfo"""
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True, check=True)
    count, *lines = done.stdout.splitlines()
    paths = [line.split()[4] for line in lines]
    assert "/early" in paths and "/late" in paths
    assert int(count) == 2
    assert not any("shared:" in line for line in lines)


def test_device_nodes_of_the_operator_work(site):
    """A drive may be a block device that somebody made in the jail's folder, or makes later with --allow-devices."""
    root = site.root("early")
    root.mkdir(parents=True)
    os.mknod(root / "drive", 0o60600, os.makedev(7, 0))
    site.start("early", words=["wait"])
    assert "nodev" not in mounts_of(site.pid("early"))["/"]
    site.start("late", "--allow-devices", words=["wait"])
    assert "nodev" not in mounts_of(site.pid("late"))["/"]


def test_network_namespace_by_path(site):
    """Through a link, as operators have them."""
    link = site.folder / "netns"
    with subprocess.Popen(["unshare", "-n", "sleep", "1000"]) as holder:
        wait_for(lambda: comm(holder.pid) == "sleep", "the namespace")
        link.symlink_to(f"/proc/{holder.pid}/ns/net")
        site.start("one", "--netns", link, words=["wait"])
        assert os.readlink(f"/proc/{site.pid('one')}/ns/net") == os.readlink(f"/proc/{holder.pid}/ns/net")
        holder.kill()


@pytest.mark.parametrize("running", RUNNING)
@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.guest)])
def test_cgroups_are_made_and_joined(site, version, running):
    assert ("cpu" in hierarchies()) if version == 1 else ("cpu" in v2_controllers())
    setting = ("cpu.shares=512", "pids.max=30", "cpuset.cpus=0") if version == 1 else ("cpu.weight=50", "pids.max=30", "cpuset.cpus=0")
    options = [word for text in setting for word in ("--cgroup", text)]
    site.start("one", *RUNNING[running], "--cgroup-version", version, *options, words=["wait"])
    pid = site.pid("one")
    groups = {line.split(":")[1]: line.split(":")[2] for line in
              pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()}
    for text in setting:
        file, value = text.split("=")
        controller = file.split(".")[0] if version == 1 else ""
        assert groups[controller] == f"/{site.inmate.name}/one"
        folder = hierarchies()[controller or "2"] / site.inmate.name / "one"
        assert (folder / file).read_text(encoding="ascii").strip() == value
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("running", ["foreground", "daemon"])
def test_joins_an_existing_version_2_cgroup(site, running):
    folder = hierarchies()["2"] / site.inmate.name
    folder.mkdir()
    site.start("one", "--cgroup-version", "2", *RUNNING[running], words=["wait"])
    pid = site.pid("one")
    assert f"0::/{site.inmate.name}\n" in pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii")
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("limit", [None, pytest.param("pids.max=7", marks=pytest.mark.guest)])
def test_rootless_with_a_delegated_cgroup(site, limit):
    """Somebody was given a version 2 cgroup and starts the jailer in it: the jail joins it, or makes its own below, with limits
    when there are controllers."""
    mount = hierarchies()["2"]
    given = mount / site.inmate.name
    (given / "caller").mkdir(parents=True)
    if limit:
        (mount / "cgroup.subtree_control").write_text("+pids", encoding="ascii")
    for path in (given, given / "caller"):
        for owned in (path, path / "cgroup.procs", path / "cgroup.subtree_control"):
            os.chown(owned, USER, USER)
    enter = ["sh", "-c", f'echo 0 >{given}/caller/cgroup.procs && exec setpriv --reuid {USER} --regid {USER} --clear-groups "$0" "$@"']
    command = site.command("one", "--cgroup-version", "2", *(["--cgroup", limit] if limit else []), rootless=True, prefix=enter,
                           words=["wait"])
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        site.started.append(process)
        pid = site.pid("one", rootless=True)
        group = given / "one" if limit else given
        assert f"0::/{group.relative_to(mount)}\n" in pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii")
        if limit:
            assert (group / "pids.max").read_text(encoding="ascii").strip() == limit.partition("=")[2]
        process.kill()


def test_refuses_links_where_a_tenant_could_plant_them(site):
    root = site.root("one")
    root.mkdir(parents=True)
    victim = site.folder / "victim"
    victim.write_text("mine", encoding="ascii")
    copy = root / site.inmate.name
    copy.symlink_to(victim)
    assert f"Failed to open {copy}: " in site.run("one").stderr
    copy.unlink()
    os.link(victim, copy)
    assert f"Detected hard link at: {copy}" in site.run("one").stderr
    copy.unlink()
    (root / "dev").symlink_to(site.folder)
    assert "Failed to create directory /dev: " in site.run("one").stderr
    (root / "dev").unlink()
    (root / (site.inmate.name + ".pid")).symlink_to("dev")
    assert "Failed to open file" in site.run("one").stderr
    assert victim.read_text(encoding="ascii") == "mine"
    assert os.listdir(root) == [site.inmate.name + ".pid"]     # what was there before, and nothing else


def test_a_running_jail_is_not_harmed_by_a_second_of_its_name(site):
    site.start("one", words=["wait"])
    pid = site.pid("one")
    before = sorted(map(str, site.root("one").glob("**/*")))
    again = site.run("one")
    assert again.returncode == 1
    assert "os error" in again.stderr
    assert sorted(map(str, site.root("one").glob("**/*"))) == before
    assert comm(pid)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("running", RUNNING)
def test_clean_up_leaves_nothing_however_it_ends(site, running, ending):
    groups = [word for text in (["cpu.shares=2", "pids.max=40"] if "pids" in hierarchies() else []) for word in ("--cgroup", text)]
    process = site.start("one", "--clean-up", *groups, *RUNNING[running], words=["crash"])
    pid = site.pid("one")
    if "daemon" not in running and "process ids" not in running:
        assert process.pid == pid       # the keeper hides from the caller
    (site.root("one") / "run" / "deep" / "er").mkdir(parents=True)
    (site.root("one") / "run" / "link").symlink_to("/etc")
    signum = ENDINGS[ending]
    if "process ids" in running and signum == signal.SIGTERM:
        signum = signal.SIGKILL         # process 1 of a namespace ignores what it does not handle
    if signum:
        os.kill(pid, signum)
    else:
        (site.root("one") / "crash").touch()
    site.wait_until_nothing_is_left()
    assert os.path.exists("/etc/passwd")


def test_clean_up_survives_a_hostile_tree(site):
    """Deep beyond any path or descriptor limit, names of every kind, a folder nobody may enter, somebody's mount."""
    process = site.start("one", "--clean-up", words=["wait"])
    site.pid("one")
    root = site.root("one")
    folder = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    for name in ("-rf", " ", "a\nb", ".bantam-removed-0", "\xff"):
        (root / name).mkdir()
        (root / name / "file").touch()
    (root / "closed").mkdir(mode=0)
    process.kill()
    site.wait_until_nothing_is_left()


def test_clean_up_leaves_an_operators_mount_alone(site):
    precious = site.folder / "precious"
    precious.mkdir()
    (precious / "file").touch()
    process = site.start("one", "--clean-up", words=["wait"])
    site.pid("one")
    place = site.root("one") / "mounted"
    place.mkdir()
    subprocess.run(["mount", "--bind", precious, place], check=True)
    try:
        process.kill()
        wait_for(lambda: not (site.root("one") / "run").exists(), "the clean-up")
        wait_for(lambda: not [word for word in site.leftovers() if "keeper" in word], "the keeper's end")
        assert (precious / "file").exists()
    finally:
        subprocess.run(["umount", place], check=True)


def test_the_keeper_lets_go_of_the_callers_pipes(site):
    """Who reads the jailer's output to its end must not wait for the daemon's."""
    done = site.run("one", "--daemonize", "--clean-up", words=["wait"])
    assert done.returncode == 0
    os.kill(site.pid("one"), signal.SIGKILL)
    site.wait_until_nothing_is_left()


def test_closed_standard_descriptors_are_no_danger(site):
    """Nothing that the jailer opens becomes the program's standard I/O."""
    command = " ".join(site.command("one", "--daemonize", words=["wait"]))
    subprocess.run(["sh", "-c", f"exec {command} <&- >&- 2>&-"], check=True)
    pid = site.pid("one")
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")} == {"/dev/null"}


@pytest.mark.parametrize("running", RUNNING)
def test_a_caller_that_ignores_the_end_of_its_children(site, running):
    """The jailer has children to wait for, and the program may have some."""
    process = site.start("one", *RUNNING[running], words=["wait"], prefix=["sh", "-c", """trap '' CHLD; exec "$0" "$@\""""])
    pid = site.pid("one")
    assert not int(status(pid)["SigIgn"], 16) & 1 << (signal.SIGCHLD - 1)
    assert running == "foreground" or process.wait() == 0


def test_a_broken_program_is_reported_and_undone(site):
    broken = site.folder / ("broken-" + site.inmate.name[7:])
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    for options in RUNNING.values():
        done = site.run("one", *options, program=broken)
        assert done.returncode == 1
        assert done.stderr.startswith("Failed to exec into Firecracker: Exec format error (os error 8)")
        assert not site.leftovers()


@pytest.mark.parametrize("copy", ["file", "memfd", "shared"])
def test_the_monitor_serves_its_api_from_the_jail(site, copy):
    """As SDKs do it: the socket is found at the place where it always is, and the monitor works."""
    site.start("vm", "--daemonize", "--clean-up", "--exec-copy", copy, program=STATIC_VMM, words=["--api-sock", "/run/api.socket"])
    root = site.root("vm", program=STATIC_VMM)
    wait_for((root / "run" / "api.socket").exists, "the socket")
    pid = int((root / (STATIC_VMM.name + ".pid")).read_text(encoding="ascii"))
    api = Api(root / "run" / "api.socket")
    wait_for(lambda: answers(api), "the API")
    assert api.get("/").json["id"] == "vm"
    assert api.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}).status == 204
    os.kill(pid, signal.SIGTERM)
    site.wait_until_nothing_is_left()


def answers(api):
    try:
        return api.get("/").status == 200
    except ConnectionRefusedError:
        return False


def test_a_hundred_jails_at_once_leave_nothing(site):
    """All are there at the same time, and torn down at the same time."""
    groups = ["--cgroup", "pids.max=40"] if "pids" in hierarchies() else []
    mounts = pathlib.Path("/proc/self/mountinfo").read_text(encoding="ascii")
    processes = [site.start(f"many-{i}", "--clean-up", "--new-pid-ns" if i % 2 else "--daemonize", *groups, words=["wait"])
                 for i in range(100)]
    assert [process.wait() for process in processes] == [0] * 100, [process.stderr.read() for process in processes]
    programs = [site.pid(f"many-{i}") for i in range(100)]
    assert len(set(programs)) == 100 and all(comm(pid) == site.inmate.name[:15] for pid in programs)
    for pid in programs:
        os.kill(pid, signal.SIGKILL)
    site.wait_until_nothing_is_left()
    assert pathlib.Path("/proc/self/mountinfo").read_text(encoding="ascii") == mounts
