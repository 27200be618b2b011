# SPDX-License-Identifier: Apache-2.0
"""The promises of tests/host/run: exact arguments, output and status; and no silence when the host dies or time runs out."""

import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
RUN = TOP / "tests" / "host" / "run"
EMULATOR = RUN.parent / "emulator"
STOCK_KERNEL = TOP / "resources" / "guest" / "stock-kernel"


def run(*arguments, folder=None, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "BANTAM_TESTHOST"}
    return subprocess.run([str(RUN), *arguments], cwd=folder, env={**environment, **variables}, capture_output=True, check=False)


@pytest.mark.parametrize("arguments, words", [
    ((), b"a command is needed"),
    (("--timeout", "soon", "true"), b"invalid float value"),
    (("--timeout", "0", "true"), b"wrong value"),
    (("--memory", "16", "true"), b"wrong value"),
    (("--cpus", "0", "true"), b"wrong value"),
    (("--kernel", "newest", "true"), b"--kernel takes"),
    (("--unknown", "true"), b"unrecognized arguments"),
])
def test_wrong_options_end_with_2_and_say_why(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_help_teaches():
    done = run("--help")
    assert done.returncode == 0
    assert b"BANTAM_OUT_DIR" in done.stdout and b"exit status 125" in done.stdout


def test_it_does_not_run_inside_itself():
    done = run("true", BANTAM_TESTHOST="1")
    assert done.returncode == 125
    assert b"test host already" in done.stderr


# One boot for all that a living host promises. The script is given as one argument with every kind of character in it.
SCRIPT = r"""
printf '%s\n' "$@" "$PWD" "$BANTAM_PROBE" "$BANTAM_TESTHOST" >"$BANTAM_OUT/facts"
ls -l /proc/self/fd/0 >>"$BANTAM_OUT/facts"
test -c /dev/kvm && test -c /dev/net/tun && test -w /tmp && grep -q cgroup2 /proc/mounts && echo places >>"$BANTAM_OUT/facts"
i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i + 1)); done
head -c 3000000 /dev/zero
echo error >/dev/stderr
(sleep 1000 &)
touch "$PWD/left-behind"
exit 200
"""


@pytest.fixture(scope="module")
def fetched():
    """The host's kernel and emulator are there: fetching them, which a new machine does once, says so on standard error."""
    subprocess.run([STOCK_KERNEL, "--flavour", "generic"], check=True, capture_output=True)
    subprocess.run([EMULATOR], check=True, capture_output=True)


@pytest.mark.usefixtures("fetched")
def test_arguments_output_and_status_are_exact(tmp_path):
    out, here = tmp_path / "out", tmp_path / "a, b"
    here.mkdir()
    odd = ["a b", "", "it's \"$HOME\" `x` \\ *", "tab\tand\nnewline", "-x", "\u00fc"]
    done = run("sh", "-c", SCRIPT, "sh", *odd, folder=here, BANTAM_OUT_DIR=str(out), BANTAM_PROBE="p q")
    assert done.returncode == 200, done.stderr.decode(errors="replace")
    assert done.stdout == bytes(range(256)) + bytes(3000000)
    assert done.stderr == b"error\n"
    facts = (out / "facts").read_text()
    expected = "".join(word + "\n" for word in (*odd, str(here), "p q", "1"))
    assert facts.startswith(expected)
    assert re.search(r"/dev/null\nplaces\n$", facts)
    assert not (here / "left-behind").exists(), "the caller's files must not change"


def test_time_running_out_is_125_and_said():
    done = run("--timeout", "1", "true")
    assert done.returncode == 125
    assert b"time ran out" in done.stderr
    assert b"once more" not in done.stderr


def test_a_dying_host_is_named_tried_again_and_125(tmp_path):
    """An emulator that ends at once stands for one that dies under the command."""
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\necho out of order >&2\nexit 9\n")
    fake.chmod(0o755)
    done = run("true", BANTAM_TESTHOST_QEMU=str(fake))
    assert done.returncode == 125
    assert done.stderr.count(b"ended without a word (QEMU's exit status 9)") == 2
    assert b"trying once more" in done.stderr and b"out of order" in done.stderr
