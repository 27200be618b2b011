# SPDX-License-Identifier: Apache-2.0
"""Firecracker's own Go SDK, unmodified, starts, queries, snapshots, restores and stops a microVM with this monitor as its binary.

gosdk/main.go is the program. The SDK comes from the Go proxy as a module, or from a checkout that $BANTAM_GO_SDK names.
The program is built once, where there is a network, and kept in build/: the test host has none.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, VMM, monitor_environment
from linux_guest import stock_kernel

sys.path.insert(0, str(ROOT / "tests" / "bench"))
from benchlib.image import build_tiny_kernel  # noqa: E402  pylint: disable=wrong-import-position

SOURCES = Path(__file__).resolve().parent / "gosdk"
MODULE = "github.com/firecracker-microvm/firecracker-go-sdk"
READY = "SDK-GUEST-UP"
PROGRAM = ROOT / "build" / "tests" / "gosdk"
# What `go` says of a module that it is not given, as against one that does not compile.
NOT_TO_BE_HAD = re.compile(
    re.escape(MODULE) + r"\S*: .*(403|404|410|dial tcp|no such host|i/o timeout|unrecognized import)", re.DOTALL)


def newest_change(paths):
    return max(path.stat().st_mtime for path in paths)


def build(folder):
    """Build the program into PROGRAM; skips, with the reason, when go or the SDK is not to be had here."""
    go = shutil.which("go")
    if not go:
        pytest.skip("go is not installed, so the Go SDK was NOT tried")
    for source in SOURCES.iterdir():
        shutil.copy(source, folder)
    checkout = os.environ.get("BANTAM_GO_SDK")
    if checkout:
        subprocess.run([go, "mod", "edit", f"-replace={MODULE}={Path(checkout).resolve()}"], cwd=folder, check=True)
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([go, "build", "-mod=mod", "-o", str(PROGRAM), "."], cwd=folder, capture_output=True,
                          text=True, check=False, env={**os.environ, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"})
    if done.returncode and not checkout and NOT_TO_BE_HAD.search(done.stderr):
        pytest.skip(f"the Go proxy does not give {MODULE}, so the Go SDK was NOT tried: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", name="sdk")
def fixture_sdk(tmp_path_factory):
    """The built program's path."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest_change(SOURCES.iterdir()):
        if "BANTAM_TESTHOST" in os.environ:
            pytest.skip("the Go SDK's program was not built before the test host started, so it was NOT tried")
        build(tmp_path_factory.mktemp("gosdk"))
    return PROGRAM


def run_sdk(sdk, folder, **settings):
    words = [word for name, value in settings.items() for word in (f"-{name}", str(value))]
    done = subprocess.run([sdk, "-binary", VMM, "-folder", folder, *words], capture_output=True, text=True, check=False,
                          env=monitor_environment())
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    return json.loads(done.stdout)


def check_queries(report):
    assert report["id"] == "gosdk-check"
    assert (report["state"], report["paused"], report["resumed"]) == ("Running", "Paused", "Running")
    assert report["restored"] == "Running"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", report["version"])
    assert report["pid"] > 1


def test_the_sdk_runs_a_tiny_guest_and_ends_it_by_sigterm(sdk, tmp_path):
    kernel = build_tiny_kernel(tmp_path / "tiny.elf")
    report = run_sdk(sdk, tmp_path, kernel=kernel, args="console=ttyS0", ready="T", stop="stopvmm")
    check_queries(report)
    # The SDK tells a process that a signal ended, or one that ended orderly on it; anything else is a failure.
    assert report["wait_error"] == "" or "signal: terminated" in report["wait_error"]


def linux_guest():
    """Kernel, initrd and command line of a Linux guest that says it is up and then waits."""
    kernel = Path(stock_kernel()) / "vmlinux"  # the tuned one has no virtual terminals, which know Ctrl-Alt-Del
    initrd = subprocess.run([ROOT / "resources/guest/make-initrd"], capture_output=True, text=True,
                            check=True).stdout.strip()
    # Ctrl-Alt-Del is to restart the kernel at once, whatever process 1 would do; READY is said only after that is so.
    command = base64.b64encode(f"echo 1 >/proc/sys/kernel/ctrl-alt-del; echo {READY}; while :; do sleep 60; done"
                               .encode()).decode()
    return {"kernel": kernel, "initrd": initrd,
            "args": f"console=ttyS0 reboot=k panic=1 quiet bantam.run={command} bantam.end=reboot"}


@pytest.mark.guest
@pytest.mark.parametrize("stop", ["shutdown", "stopvmm"])
def test_the_sdk_runs_linux_and_ends_it(sdk, tmp_path, stop):
    """"shutdown" is the SDK's orderly way: SendCtrlAltDel, then the guest reboots and the monitor ends with 0."""
    report = run_sdk(sdk, tmp_path, **linux_guest(), ready=READY, stop=stop)
    check_queries(report)
    if stop == "shutdown":
        assert report["wait_error"] == ""
    else:
        assert report["wait_error"] == "" or "signal: terminated" in report["wait_error"]
