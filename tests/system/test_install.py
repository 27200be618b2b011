# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts beside the programs: man pages that know every flag, and completion for bash."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT

pytestmark = pytest.mark.native

PROGRAMS = ("bantam", "bantam-vmm", "bantam-jailer", "bantam-seccomp")
# The words that bash offers for a command line whose last word is not finished.
TRY_SH = """
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
function=$(complete -p "$1" | sed -E 's/.*-F ([^ ]+).*/\\1/')
$function "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo "${COMPREPLY[*]}"
"""


@pytest.fixture(scope="module", name="installed")
def install(tmp_path_factory):
    if not shutil.which("help2man"):
        pytest.fail("help2man is missing: resources/host/deps man installs it")
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "--no-print-directory", "install", f"DESTDIR={folder}", "PREFIX=/usr"], cwd=ROOT, check=True,
                   stdout=subprocess.PIPE, env={**os.environ, "FLAVOUR": "release"})
    return folder / "usr"


def help_of(installed, program):
    return subprocess.run([installed / "bin" / program, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_man_page_names_every_flag(installed, program):
    page = (installed / "share/man/man1" / f"{program}.1").read_text().replace("\\-", "-")
    flags = re.findall(r"^ +(--[a-z-]+)", help_of(installed, program), re.M)
    assert flags or program == "bantam"
    assert [flag for flag in flags if flag not in page] == []
    for section in ("NAME", "EXAMPLES", "SEE ALSO") + (("EXIT STATUS",) if program != "bantam-seccomp" else ()):
        assert re.search(rf'^\.SH "?{section}"?$', page, re.M), section
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-z", installed / "share/man/man1" / f"{program}.1"], check=True,
                              stderr=subprocess.PIPE)
        assert done.stderr == b""


@pytest.mark.parametrize("words, offered", [
    (["bantam-vmm", "--no-"], "--no-api --no-seccomp"),
    (["bantam-vmm", "--level", "Er"], "Error"),
    (["bantam-vmm", "--api-sock", "/et"], "/etc"),
    (["bantam-jailer", "--exec-copy", "m"], "memfd"),
    (["bantam-jailer", "--cgroup-version", ""], "1 2"),
    (["bantam-seccomp", "--c"], "--c-source"),
    (["bantam", ""], "snapshot"),
    (["bantam", "snapshot", "m"], "merge"),
    (["bantam", "snapshot", "merge", "/et"], "/etc"),
])
def test_completion(installed, words, offered):
    script = installed / "share/bash-completion/completions" / words[0]
    done = subprocess.run(["bash", "-c", TRY_SH, "bash", script, *words], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"})
    assert done.stdout.strip() == offered
