# SPDX-License-Identifier: Apache-2.0
"""What the tests of the jailer share: start it, look at what it made, count what it left."""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from api_client import Api, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
VMM = pathlib.Path(os.environ.get("BANTAM_VMM", ROOT / "build" / "bantam-vmm")).absolute()
JAILER = VMM.parent / "bantam-jailer"
STATIC_VMM = ROOT / "build" / "bantam-vmm"     # a jail has no libraries for another
UID, GID = 61234, 61235     # nobody else's
USER = 61000                # who calls the jailer without privileges
PATIENCE_S = 30

LIBC = ctypes.CDLL(None, use_errno=True)


def landlock_version():
    """What the kernel knows of Landlock; 0: nothing."""
    return max(LIBC.syscall(444, None, 0, 1), 0)


def hierarchies():
    """{controller: mount point} of version 1, and "2" for version 2's mount point."""
    found = {}
    for line in pathlib.Path("/proc/mounts").read_text(encoding="ascii").splitlines():
        _, folder, kind, options = line.split()[:4]
        if kind == "cgroup2":
            found.setdefault("2", pathlib.Path(folder))
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, pathlib.Path(folder))
    return found


def v2_controllers():
    mount = hierarchies().get("2")
    return (mount / "cgroup.controllers").read_text(encoding="ascii").split() if mount else []


def build_inmate(folder):
    """The prisoner, static as the monitor is."""
    source, program = pathlib.Path(__file__).parent / "inmate.c", pathlib.Path(folder) / "inmate"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


def descendants_of_cgroups(name):
    """Every cgroup directory with this name, in any hierarchy."""
    return [pathlib.Path(folder) / name for mount in set(hierarchies().values())
            for folder, folders, _ in os.walk(mount) if name in folders]


class Site:
    """A folder in which jails are made, with the programs that run in them."""

    def __init__(self, inmate):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="jail-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.base = self.folder / "base"
        self.base.mkdir()
        self.user_base = self.folder / "user"
        self.user_base.mkdir()
        os.chown(self.user_base, USER, USER)
        self.inmate = self.folder / ("inmate-" + self.folder.name[5:])   # a name of its own: default cgroups bear it
        shutil.copy(inmate, self.inmate)
        self.started = []

    def command(self, name, *options, words=(), rootless=False, program=None, prefix=()):
        base = self.user_base if rootless else self.base
        return [*prefix, str(JAILER), "--id", name, "--exec-file", str(program or self.inmate), "--uid", str(UID), "--gid", str(GID),
                "--chroot-base-dir", str(base), *(["--rootless"] if rootless else []), *map(str, options), "--", *map(str, words)]

    def run(self, name, *options, rootless=False, **more):
        """Runs the jailer to its end."""
        return subprocess.run(self.command(name, *options, rootless=rootless, **more), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE_S * 10, check=False, **as_user(rootless))

    def start(self, name, *options, rootless=False, **more):
        """Starts the jailer in the background; standard output can be read."""
        process = subprocess.Popen(self.command(name, *options, rootless=rootless, **more), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **as_user(rootless))
        self.started.append(process)
        return process

    def root(self, name, rootless=False, program=None):
        base = self.user_base if rootless else self.base
        return base / (program or self.inmate).name / name / "root"

    def pid(self, name, rootless=False, program=None):
        """The program's, from the pid file, once it has been executed."""
        program = program or self.inmate
        path = self.root(name, rootless, program) / (program.name + ".pid")
        text = wait_for(lambda: path.exists() and path.read_text(encoding="ascii"), "the pid file")
        wait_for(lambda: program.name[:15] in comm(int(text)), "the exec")
        return int(text)

    def leftovers(self):
        """Everything that jails may leave: files, cgroups, processes."""
        name = self.inmate.name
        files = [os.path.join(folder, name) for base in (self.base, self.user_base)
                 for folder, folders, plain in os.walk(base) for name in folders + plain]
        groups = [str(path) for path in descendants_of_cgroups(name)]
        processes = [f"{pid} {comm(pid)}" for pid in pids() if name[:15] in comm(pid) or keeps(pid, self.folder)]
        return files + groups + processes

    def wait_until_nothing_is_left(self):
        try:
            wait_for(lambda: not self.leftovers(), "nothing left", PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"left: {self.leftovers()}") from None

    def end_inmates(self):
        for pid in pids():
            if comm(pid) == self.inmate.name[:15]:
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not [pid for pid in pids() if comm(pid) == self.inmate.name[:15] or keeps(pid, self.folder)], "all ends")

    def wipe(self):
        """Ends and removes all jails."""
        self.end_inmates()
        for group in descendants_of_cgroups(self.inmate.name):
            for folder, _, _ in os.walk(group, topdown=False):
                wait_for(lambda folder=folder: removed(folder), f"the end of {folder}")
        for base in (self.base, self.user_base):
            for path in base.iterdir():
                shutil.rmtree(path)

    def clear(self):
        for process in self.started:
            process.kill()
        self.end_inmates()
        for process in self.started:
            process.communicate()       # its output ends when the last inmate that holds it does
        self.wipe()
        shutil.rmtree(self.folder)


class JailedMonitor:
    """The released monitor in a jail: .api talks to it, .pid is its process, .console() its standard output. Paths that the API is
    told are the jail's: put() copies a file there. The guest's log is /log, its metrics are /metrics."""

    def __init__(self, site, name, *options, rootless=False, prefix=(), words=(), files=(), **more):
        self.site, self.name, self.rootless = site, name, rootless
        self.root = site.root(name, rootless, STATIC_VMM)
        self.folder = pathlib.Path("/")     # as the API is told
        for level in (self.root.parents[1], self.root.parents[0], self.root):
            level.mkdir(exist_ok=True)
            if rootless:
                os.chown(level, USER, USER)
        for file in files:
            self.put(file)
        self.out_path = site.folder / f"{name}.out"
        command = site.command(name, *options, rootless=rootless, program=STATIC_VMM, prefix=prefix,
                               words=["--api-sock", "/run/api.sock", "--log-path", "/log", "--metrics-path", "/metrics", *words])
        for log in ("log", "metrics"):
            self.give(self.root / log, b"")
        with open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **as_user(rootless and not prefix))
        site.started.append(self.process)
        self.pid = self._pid()
        self.api = Api(self.root / "run" / "api.sock")
        wait_for(self._answers, "the API")

    def give(self, path, data):
        """A file of the monitor's own user."""
        path.write_bytes(data)
        os.chown(path, *((USER, USER) if self.rootless else (UID, GID)))

    def put(self, file):
        """Copies a file into the jail; gives its path there."""
        file = pathlib.Path(file)
        shutil.copy(file, self.root / file.name)
        os.chown(self.root / file.name, *((USER, USER) if self.rootless else (UID, GID)))
        return "/" + file.name

    def _pid(self):
        path = self.root / (STATIC_VMM.name + ".pid")
        try:
            return int(wait_for(lambda: path.exists() and comm_of_monitor(path), "the pid file"))
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.console()}") from None

    def _answers(self):
        try:
            return self.api.get("/").status == 200
        except (ConnectionRefusedError, FileNotFoundError):
            return False

    def console(self):
        return self.out_path.read_text(errors="replace")

    def log(self):
        return (self.root / "log").read_text(errors="replace")

    def wait_for_console(self, text):
        wait_for(lambda: text in self.console(), repr(text))

    def alive(self):
        return comm(self.pid) != ""

    def end(self):
        """SIGTERM, to the monitor's end."""
        os.kill(self.pid, signal.SIGTERM)
        wait_for(lambda: not self.alive(), "the monitor's end")


def comm_of_monitor(path):
    """What a pid file says once the monitor has been executed. One that is executed from memory bears a descriptor's name."""
    text = path.read_text(encoding="ascii")
    return text if text and comm(int(text)) not in ("", "bantam-jailer") else None


def removed(path):
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def as_user(rootless):
    return {"user": USER, "group": USER, "extra_groups": []} if rootless else {}


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def comm(pid):
    """The name of a living process, or nothing."""
    try:
        if status(pid)["State"][0] in "ZX":
            return ""
        return pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return ""


def keeps(pid, folder):
    """Whether a process is a keeper of a jail in this folder (its command line is the jailer's)."""
    try:
        return str(folder).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() and comm(pid) in ("jail-keeper", "bantam-jailer")
    except (FileNotFoundError, ProcessLookupError):
        return False


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def mounts_of(pid):
    """{path: set of options} as the process sees them."""
    lines = pathlib.Path(f"/proc/{pid}/mountinfo").read_text(encoding="ascii").splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}


def results(output):
    """{attempt: result} of an inmate's output."""
    return dict(line.split(" ", 1) for line in output.splitlines())
