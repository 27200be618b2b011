# SPDX-License-Identifier: Apache-2.0
"""What the builders of guest images share: the cache, static helper programs, kernel modules in order, initramfs archives."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
CACHE = os.environ.get("BANTAM_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bantam")

# Static programs of ours that every test guest carries, by source file.
HELPERS = ("vsock-tool", "boot-timer")


class BuildError(Exception):
    """An image cannot be built; the text says why."""


def file_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def content_key(*parts):
    """Names a result by all that decides it: bytes, text, or lists of them."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        total.update(b"%d:" % len(data) + data)
    return total.hexdigest()[:16]


def cached(path, build):
    """Returns path, after build(temporary path) has made it if it is not there. Safe with several callers at once."""
    if os.path.exists(path):
        return path
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as work:
        result = os.path.join(work, "result")
        build(result)
        os.rename(result, path)
    return path


def deliver(path, out):
    """Copies a result out of the cache when the caller names a place; returns where it is then."""
    if not out:
        return path
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", path, out], check=True)
    return out


def run_tool(*command):
    """Runs one of our scripts; returns what it prints on standard output."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as reason:
        raise BuildError(f"{os.path.basename(command[0])} failed: {reason}") from reason


def static_program(source):
    """Compiles one C file to a static program, in the cache."""
    def build(result):
        subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static", "-s", source, "-o", result],
                       check=True)
    name = os.path.basename(source)[:-len(".c")]
    return cached(os.path.join(CACHE, "guest-tools", f"{name}-{content_key(file_bytes(source))}"), build)


def helper_programs():
    """Pairs of name and path of our static helpers."""
    return [(name, static_program(os.path.join(HERE, name + ".c"))) for name in HELPERS]


def busybox():
    """Path of a busybox that needs no shared library."""
    for path in (shutil.which("busybox"), "/bin/busybox", "/usr/bin/busybox-static"):
        if path and os.path.exists(path) and b"ld-linux" not in file_bytes(path)[:4096]:
            return os.path.realpath(path)
    raise BuildError("no static busybox (resources/host/deps test installs it)")


def applets():
    return [name for name in run_tool(busybox(), "--list").split() if name != "busybox"]


def only_module_dir(kernel_dir):
    """The lib/modules/RELEASE folder of a kernel unpacked by stock-kernel."""
    modules = os.path.join(kernel_dir, "lib/modules")
    return os.path.join(modules, os.listdir(modules)[0])


def module_files(module_dir, names):
    """Paths of the modules, each after those it depends on. A name that is built into the kernel is left out."""
    depends = {}
    with open(os.path.join(module_dir, "modules.dep"), encoding="ascii") as lines:
        for line in lines:
            path, _, needed = line.partition(":")
            depends[os.path.basename(path).split(".ko")[0].replace("-", "_")] = (path, needed.split())
    ordered = {}
    for name in names:
        if name in depends:
            path, needed = depends[name]
            for file in (*reversed(needed), path):
                ordered[os.path.join(module_dir, file)] = True
    return list(ordered)


class Initramfs:
    """An archive in the "newc" format: the same input gives the same bytes."""

    def __init__(self):
        self.parts, self.folders = [], set()

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        encoded = name.encode() + b"\0"
        fields = (len(self.parts), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        self.parts.append(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def _parents(self, name):
        folder = os.path.dirname(name)
        if folder and folder not in self.folders:
            self.folder(folder)

    def folder(self, name):
        self._parents(name)
        self.folders.add(name)
        self._entry(name, 0o40755)

    def file(self, name, data, mode=0o755):
        self._parents(name)
        self._entry(name, 0o100000 | mode, data)

    def link(self, name, target):
        self._parents(name)
        self._entry(name, 0o120777, target.encode())

    def console(self):
        """/dev/console, which the kernel opens for process 1 before anything is mounted."""
        self._parents("dev/console")
        self._entry("dev/console", 0o20600, device=(5, 1))

    def content(self):
        return b"".join(self.parts) + _trailer()


def _trailer():
    last = Initramfs()
    last._entry("TRAILER!!!", 0)  # pylint: disable=protected-access
    return last.parts[0]


def main_with_errors(main, name):
    """Prints what a builder's main(arguments) returns; turns what goes wrong into one line and exit status 1."""
    try:
        print(main(sys.argv[1:]))
    except (BuildError, OSError, subprocess.CalledProcessError) as reason:
        print(f"{name}: {reason}", file=sys.stderr)
        sys.exit(1)
