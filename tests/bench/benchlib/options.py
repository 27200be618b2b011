# SPDX-License-Identifier: Apache-2.0
"""The command line: parsed, checked as a whole, and errors that say what to do."""

import argparse
import os
import shutil
from pathlib import Path

from .image import ImageError, check_rootfs
from .monitor import Monitor
from .peers import Kvmtool, Qemu
from .table import BENCHES

REPOSITORY = Path(__file__).resolve().parents[3]


def default_cache():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BANTAM_CACHE") or Path(base) / "bantam")


def build_parser():
    parser = argparse.ArgumentParser(
        prog="compare", description="Compare monitors that have Firecracker's API: in turns, in one run, with the "
        "same guest. The first one is the subject; ratios are the subject's figure by each other's.",
        epilog="benches: " + ", ".join(bench.name for bench in BENCHES))
    add = parser.add_argument
    add("--vmm", action="append", default=[], metavar="PATH", help="a monitor's binary; give it twice or more "
        "(once: its own figures, without ratios)")
    add("--vmm-name", action="append", default=[], metavar="NAME", help="name in the tables for the --vmm at the "
        "same place (default: the file's name)")
    add("--qemu", nargs="?", const="qemu-system-x86_64", metavar="PATH", help="QEMU's microvm machine as a further "
        "row for boot, memory and network")
    add("--kvmtool", nargs="?", const="lkvm", metavar="PATH", help="kvmtool as a further row for boot and memory")
    add("--kvmtool-kernel", metavar="FILE", help="bzImage of the same kernel, as kvmtool loads no ELF")
    add("--kernel", metavar="FILE", help="guest kernel (default: the tuned one that `make kernel` built)")
    add("--rootfs", metavar="FILE", help="ext4 image with the suite's init in it (default: made and kept)")
    add("--only", metavar="NAME,…", help="these benches only")
    add("--skip", metavar="NAME,…", help="all but these benches")
    add("--runs", type=int, metavar="N", help="rounds of each bench (default: by bench, 1 to 40)")
    add("--seconds", type=int, default=3, metavar="N", help="length of each throughput measurement (default 3)")
    add("--mem", type=int, default=128, metavar="MIB", help="guest memory for boot and memory (default 128)")
    add("--scratch", metavar="DIR", help="folder for the block benches' file (default: the temporary folder)")
    add("--scratch-mib", type=int, default=256, metavar="MIB", help="size of that file (default 256)")
    add("--cache", metavar="DIR", help="where the guest image is kept (default: ~/.cache/bantam)")
    add("--timeout", type=int, default=300, metavar="S", help="give up on a guest after S seconds (default 300)")
    add("--from", action="append", default=[], dest="sources", metavar="FILE", help="measure nothing; show these "
        "JSON results (several are merged)")
    add("--json", metavar="FILE", help="write all samples there")
    add("--plot", metavar="FILE.svg", help="draw the ratios there")
    add("--quiet", action="store_true", help="no progress on standard error")
    add("--list", action="store_true", help="name the benches and end")
    return parser


def _existing_file(parser, flag, value):
    path = Path(value)
    if not path.is_file():
        parser.error(f"{flag}: there is no file {value}")
    if not os.access(path, os.R_OK):
        parser.error(f"{flag}: {value} cannot be read")
    return path.resolve()


def _executable(parser, flag, value):
    found = shutil.which(value)
    if not found:
        parser.error(f"{flag}: {value} is not an executable file")
    return Path(found).resolve()


def _benches(parser, options):
    known = {bench.name: bench for bench in BENCHES}

    def names(flag, text):
        words = [word for word in text.split(",") if word]
        for word in words:
            if word not in known:
                parser.error(f"{flag}: no bench is called {word!r}; there are {', '.join(known)}")
        if not words:
            parser.error(f"{flag}: needs the name of a bench")
        return words

    chosen = names("--only", options.only) if options.only is not None else list(known)
    left_out = names("--skip", options.skip) if options.skip is not None else []
    benches = [known[name] for name in known if name in chosen and name not in left_out]
    if not benches:
        parser.error("--only and --skip together leave no bench")
    return benches


def _contestants(parser, options):
    binaries = [_executable(parser, "--vmm", value) for value in options.vmm]
    if not binaries:
        parser.error("give at least one --vmm PATH (two to compare), or --from FILE")
    if len(options.vmm_name) > len(binaries):
        parser.error(f"{len(options.vmm_name)} --vmm-name for {len(binaries)} --vmm")
    names = options.vmm_name + [binary.name for binary in binaries[len(options.vmm_name):]]
    contestants = [Monitor(name, binary) for name, binary in zip(_distinct(names), binaries)]
    if options.qemu:
        contestants.append(Qemu("qemu-microvm", _executable(parser, "--qemu", options.qemu)))
    if options.kvmtool:
        kernel = options.kvmtool_kernel
        kernel = _existing_file(parser, "--kvmtool-kernel", kernel) if kernel else None
        contestants.append(Kvmtool("kvmtool", _executable(parser, "--kvmtool", options.kvmtool), kernel))
    return contestants


def _distinct(names):
    """Two contestants may be the same binary (a check of the method): number the repeated names."""
    seen = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct


def _default_kernel(options):
    path = options.cache / "guest-kernel" / "current" / "vmlinux"
    return path.resolve() if path.is_file() else None


def parse(argv):
    """The checked options, with `benches` and `contestants` as objects; leaves with status 2 and a message if not."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.list:
        return options
    for flag, least in (("runs", 1), ("seconds", 1), ("mem", 32), ("scratch_mib", 16), ("timeout", 1)):
        value = getattr(options, flag)
        if value is not None and value < least:
            parser.error(f"--{flag.replace('_', '-')}: at least {least}")
    for flag in ("json", "plot"):
        value = getattr(options, flag)
        if value and not Path(value).resolve().parent.is_dir():
            parser.error(f"--{flag}: there is no folder {Path(value).resolve().parent}")
    if options.plot and not options.plot.endswith(".svg"):
        parser.error("--plot: the file's name must end in .svg")
    if options.sources:
        if options.vmm:
            parser.error("--from shows results that exist; it cannot be used with --vmm")
        return options
    options.cache = Path(options.cache) if options.cache else default_cache()
    options.benches = _benches(parser, options)
    options.contestants = _contestants(parser, options)
    options.kernel = _existing_file(parser, "--kernel", options.kernel) if options.kernel \
        else _default_kernel(options)
    if options.scratch and not Path(options.scratch).is_dir():
        parser.error(f"--scratch: {options.scratch} is not a folder")
    if options.rootfs:
        options.rootfs = _existing_file(parser, "--rootfs", options.rootfs)
        try:
            check_rootfs(options.rootfs)
        except ImageError as error:
            parser.error(f"--rootfs: {error}")
    return options
