# SPDX-License-Identifier: Apache-2.0
"""The guest's root file system: this machine's busybox, fio and iperf3 with their libraries, and bench-guest.

Made with mke2fs -d (nothing is mounted), read-only in every guest, so all contestants share one file.
"""

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

GUEST_SOURCES = Path(__file__).resolve().parent.parent / "guest"
INIT = "/sbin/bench-guest"
TOOLS = ("fio", "iperf3")
FOLDERS = ("bin", "sbin", "bench", "dev", "proc", "sys", "tmp", "etc", "usr/bin")


class ImageError(Exception):
    """The guest image cannot be made or used."""


def _run(argv):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def find_tool(name):
    """The path of a program that this machine must have, or ImageError that says what to install."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise ImageError(f"{name} is not installed (Debian: apt-get install {name})")
    return Path(path)


def _static_busybox():
    path = find_tool("busybox")
    if b"not a dynamic executable" not in subprocess.run(
            ["ldd", path], capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}).stderr:
        raise ImageError(f"{path} is not static (Debian: apt-get install busybox-static)")
    return path


def _libraries(program):
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", _run(["ldd", program]))]


def _copy_into(tree, source, target=None):
    destination = tree / str(target or source).lstrip("/")
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not destination.exists():
        shutil.copy2(source.resolve(), destination)


def _compile_agent(target):
    _run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-s", "-o", target,
          GUEST_SOURCES / "bench_guest.c"])


def _fill(tree):
    for folder in FOLDERS:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    _copy_into(tree, _static_busybox(), "/bin/busybox")
    for applet in ("sh", "ip", "ping", "cat", "tail", "ls", "mount"):
        (tree / "bin" / applet).symlink_to("busybox")
    for tool in TOOLS:
        path = find_tool(tool)
        _copy_into(tree, path, f"/usr/bin/{tool}")
        for library in _libraries(path):
            _copy_into(tree, library)
    for script in GUEST_SOURCES.glob("*.sh"):
        _copy_into(tree, script, f"/bench/{script.name}")
    _compile_agent(tree / INIT.lstrip("/"))
    (tree / "bin/bench-guest").symlink_to(INIT)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")


def _fingerprint():
    digest = hashlib.sha256()
    for path in sorted(GUEST_SOURCES.iterdir()) + [Path(__file__)]:
        digest.update(path.read_bytes())
    for tool in TOOLS + ("busybox",):
        digest.update(str(find_tool(tool).stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


def build_image(cache):
    """Path of the guest image, made when it is not in the folder `cache` yet."""
    image = Path(cache) / f"bench-guest-{_fingerprint()}.ext4"
    if image.exists():
        return image
    image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-image-", dir=image.parent) as scratch:
        tree = Path(scratch) / "tree"
        _fill(tree)
        used = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
        unfinished = Path(scratch) / "image"
        _run([find_tool("mke2fs"), "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E",
              "root_owner=0:0", "-d", tree, unfinished, f"{used * 5 // 4096 + 8192}k"])
        unfinished.rename(image)
    return image


def check_rootfs(path):
    """A root file system given by the user must have the suite's init in it."""
    found = subprocess.run([str(find_tool("debugfs")), "-R", f"stat {INIT}", str(path)],
                           capture_output=True, text=True, check=False)
    if "Inode:" not in found.stdout:
        raise ImageError(f"{path} has no {INIT}: compile tests/bench/guest/bench_guest.c statically into it "
                         "and copy tests/bench/guest/*.sh to /bench, or leave --rootfs away")


# The tiny kernel: 32-bit protected mode through the PVH note; it writes the boot timer's mark, then one letter to
# the serial port, and halts for ever. No Linux, so it also runs where KVM emulates instructions in software.
TINY_CODE = (b"\xc6\x05\x00\x00\x00\xc0\x7b"   # movb $123, 0xC0000000
             b"\x66\xba\xf8\x03\xb0\x54\xee"   # movw $0x3f8, %dx; movb $'T', %al; outb %al, %dx
             b"\xfa\xf4\xeb\xfd")              # cli; 1: hlt; jmp 1b
TINY_ENTRY = 0x100000
# Like it, but it writes its letter again and again.
TALKING_CODE = (b"\x66\xba\xf8\x03\xb0\x54"         # movw $0x3f8, %dx; movb $'T', %al
                b"\xee\xb9\xc8\x00\x00\x00\xe2\xfe"  # 1: outb %al, %dx; movl $200, %ecx; 2: loop 2b
                b"\xeb\xf6")                          # jmp 1b

# Goes round 256 pages that lie far from each other, in an order that no read-ahead guesses; in the first round it writes to
# each, later it only looks at them. After each round it writes its letter.
TOURING_PAGES = 256
TOURING_CODE = (b"\x31\xc9"                            # 1: xorl %ecx, %ecx
                b"\x69\xd9\x9d\x00\x00\x00"            # 2: imull $157, %ecx, %ebx
                b"\x81\xe3\xff\x00\x00\x00"            # andl $0xff, %ebx
                b"\xc1\xe3\x12"                        # shll $18, %ebx
                b"\x81\xc3\x00\x00\x00\x01"            # addl $0x1000000, %ebx
                b"\x83\x3b\x00\x75\x06"                # cmpl $0, (%ebx); jne 3f
                b"\xc7\x03\x01\x01\x01\x01"            # movl $0x01010101, (%ebx)
                b"\x41\x81\xf9\x00\x01\x00\x00\x72\xd7"  # 3: incl %ecx; cmpl $0x100, %ecx; jb 2b
                b"\x66\xba\xf8\x03\xb0\x54\xee"        # movw $0x3f8, %dx; movb $'T', %al; outb %al, %dx
                b"\xeb\xcc")                            # jmp 1b


def build_tiny_kernel(path, code=TINY_CODE):
    """Write the tiny kernel as an ELF file with a PVH entry note."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", TINY_ENTRY)
    note_offset, code_offset = 64 + 2 * 56, 0x1000
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, TINY_ENTRY, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, code_offset, TINY_ENTRY, TINY_ENTRY,
                       len(code), len(code), 0x1000)
    notes = struct.pack("<IIQQQQQQ", 4, 4, note_offset, 0, 0, len(note), len(note), 4)
    image = header + load + notes + note
    Path(path).write_bytes(image + bytes(code_offset - len(image)) + code)
    return Path(path)
