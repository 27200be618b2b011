# SPDX-License-Identifier: Apache-2.0
"""The monitor's flags, and configuration from files."""

import json
import os
import re
import subprocess

import pytest

from conftest import ROOT, VMM

pytestmark = pytest.mark.native

BAD_ARGUMENTS, BAD_CONFIGURATION = 153, 152


def run(*args, folder="/"):
    return subprocess.run([VMM, *map(str, args)], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=600, check=False)


def test_version():
    done = run("--version")
    assert done.returncode == 0 and re.fullmatch(r"Bantam v\d+\.\d+\.\d+", done.stdout.splitlines()[0])


@pytest.mark.parametrize("args", (["--help"], ["-h"], ["--nonsense", "--help"], ["--api-sock", "--help"]))
def test_help(args):
    done = run(*args)
    assert done.returncode == 0
    for flag in ("api-sock", "id", "seccomp-filter", "no-seccomp", "start-time-us", "start-time-cpu-us",
                 "parent-cpu-time-us", "config-file", "metadata", "no-api", "log-path", "level", "module", "show-level",
                 "show-log-origin", "metrics-path", "boot-timer", "version", "snapshot-version", "describe-snapshot",
                 "http-api-max-payload-size", "mmds-size-limit", "enable-pci"):
        assert re.search(rf"^  --{flag}\b", done.stdout, re.MULTILINE), flag
    assert max(map(len, done.stdout.splitlines())) <= 132


@pytest.mark.parametrize("args, said", (
    (["x"], "Found argument 'x' which wasn't expected, or isn't valid in this context."),
    (["--x"], "Found argument 'x' which wasn't expected, or isn't valid in this context."),
    (["--api-sock=x"], "Found argument 'api-sock=x' which wasn't expected, or isn't valid in this context."),
    (["--api-sock"], "The argument 'api-sock' requires a value, but none was supplied."),
    (["--id", "a", "--id", "b"], "The argument 'id' was provided more than once."),
    (["--id", "a_b"], "Invalid instance ID: Invalid char (_) at position 1"),
    (["--no-seccomp", "--seccomp-filter", "x"],
     "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'."),
    (["--no-api"], "Argument 'config-file' required, but not found."),
    (["--start-time-us", "x"], "'start-time-us' parameter expected to be of 'u64' type"),
))
def test_bad_arguments(args, said):
    done = run(*args)
    assert done.returncode == BAD_ARGUMENTS
    assert "Arguments parsing error: " + said in done.stdout + done.stderr


def test_bad_level():
    assert run("--level", "loud").returncode == BAD_CONFIGURATION


def test_starts_with_every_flag(vmm, tmp_path):
    machine = vmm("--id", "all", "--log-path", tmp_path / "log", "--level", "Debug", "--show-level", "--show-log-origin",
                  "--module", "", "--metrics-path", tmp_path / "metrics", "--boot-timer", "--no-seccomp",
                  "--start-time-us", 0, "--start-time-cpu-us", 0, "--parent-cpu-time-us", 0, "--mmds-size-limit", 1)
    assert machine.api.get("/").json["id"] == "all"
    assert re.search(r"\[all:\S+:INFO:\S+:\d+\] Running Bantam v\d", (tmp_path / "log").read_text())
    assert machine.terminate() == 0


def test_arguments_behind_two_dashes_are_ignored(vmm):
    assert vmm("--id", "x", "--", "--id", "y", "nonsense").api.get("/").json["id"] == "x"


# ---- --config-file ----

@pytest.fixture
def config(tmp_path):
    """A configuration that boots the ticking guest, to be changed and written."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    return {
        "boot-source": {"kernel_image_path": str(ROOT / "build" / "guest" / "spin.elf"), "boot_args": ""},
        "drives": [{"drive_id": "a-b", "is_root_device": False, "path_on_host": str(disk)}],
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 64},
        "logger": {"log_path": str(tmp_path / "log"), "level": "Info"},
        "vsock": {"guest_cid": 3, "uds_path": "v.sock"},
        "entropy": {},
        "network-interfaces": [], "balloon": None, "pmem": [], "unheard-of": 1,
    }


@pytest.fixture
def write(tmp_path):
    def write_config(config):
        path = tmp_path / "config.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return path
    return write_config


def test_config_file_boots(vmm, tmp_path, config, write):
    machine = vmm("--config-file", write(config))
    machine.wait_for_console("tick")
    assert machine.api.get("/").json["state"] == "Running"
    assert machine.api.get("/machine-config").json["vcpu_count"] == 2
    assert "Successfully started microvm that was configured from one single json" in (tmp_path / "log").read_text()


def test_config_file_without_api(vmm, config, write):
    machine = vmm("--no-api", "--config-file", write(config))
    machine.wait_for_console("tick")
    assert not machine.socket.exists()
    assert machine.terminate() == 0


def test_what_is_printed_can_be_read(vmm, config, write):
    first = vmm("--config-file", write(config))
    text = first.api.get("/vm/config").body.decode()
    assert first.terminate() == 0
    second = vmm("--config-file", write(text))
    second.wait_for_console("tick")
    assert second.api.get("/vm/config").body.decode() == text


@pytest.mark.parametrize("key, value, said", (
    ("boot-source", None, "section `boot-source`: expected an object, found null"),
    ("boot-source", {"kernel_image_path": "/nowhere"}, "The kernel file cannot be opened: No such file or directory"),
    ("drives", {}, "section `drives`: expected a list"),
    ("drives", [{}], "section `drives`: entry 0: missing field `drive_id`: expected a string"),
    ("drives", [{"drive_id": "a", "is_root_device": True, "path_on_host": "/nowhere"}], "/nowhere"),
    ("machine-config", {"vcpu_count": 0, "mem_size_mib": 1}, "section `machine-config`: The number of vCPUs must be"),
    ("machine-config", {"vcpu_count": 1, "mem_size_mib": "1"}, "section `machine-config`: field `mem_size_mib`: expected"),
    ("balloon", {"amount_mib": 1, "deflate_on_oom": True}, "section `balloon`: not built into this version yet"),
    ("cpu-config", "file.json", "section `cpu-config`: not built into this version yet"),
    ("mmds-config", {"network_interfaces": ["a"]}, "section `mmds-config`: not built into this version yet"),
))
def test_bad_config(tmp_path, config, write, key, value, said):
    del config["logger"]
    path = write({**config, key: value})
    done = run("--no-api", "--config-file", path, folder=tmp_path)
    assert done.returncode == 1
    assert "Configuration for VMM from one single json failed: " in done.stdout + done.stderr
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("missing", ("boot-source", "drives"))
def test_required_sections(tmp_path, config, write, missing):
    del config[missing], config["logger"]
    done = run("--no-api", "--config-file", write(config), folder=tmp_path)
    assert done.returncode == 1 and f"missing section `{missing}`" in done.stdout + done.stderr


@pytest.mark.parametrize("text", ("", "x", "[]", "null", '{"drives":', "\0", '{"a":1}{}'))
def test_no_config_at_all(tmp_path, write, text):
    done = run("--no-api", "--config-file", write(text), folder=tmp_path)
    assert done.returncode == 1 and "config.json" in done.stdout + done.stderr


@pytest.mark.parametrize("path, said", (
    ("/nowhere", "No such file or directory"), ("/", "Is a directory"), ("/dev/zero", "larger than 1048576 bytes")))
def test_config_file_that_is_none(path, said):
    done = run("--no-api", "--config-file", path)
    assert done.returncode == 1 and said in done.stdout + done.stderr


def test_config_that_does_not_start(tmp_path, config, write):
    config["boot-source"]["kernel_image_path"] = str(tmp_path / "disk")
    del config["logger"]
    done = run("--no-api", "--config-file", write(config), folder=tmp_path)
    assert done.returncode == 1
    assert "Could not Start MicroVM from one single json: " in done.stdout + done.stderr
    # What was made for the microVM is gone: the socket of its vsock too.
    assert not os.path.exists(tmp_path / "v.sock")


# ---- --metadata ----

def test_metadata_is_taken(vmm, tmp_path):
    path = tmp_path / "metadata.json"
    path.write_text('{"latest": {"meta-data": {"ami-id": "x"}}}')
    machine = vmm("--metadata", path, "--log-path", tmp_path / "log")
    assert machine.api.get("/").status == 200
    assert str(path) in (tmp_path / "log").read_text()


@pytest.mark.parametrize("text, said", (
    ("x", "MMDS error: metadata provided not valid json"),
    ('"' + "x" * 51200 + '"', "Populating MMDS from file failed: "),
    (None, "Unable to open or read from the mmds content file: "),
))
def test_bad_metadata(tmp_path, text, said):
    path = tmp_path / "metadata.json"
    if text is not None:
        path.write_text(text)
    done = run("--api-sock", tmp_path / "s", "--metadata", path)
    assert done.returncode == 1 and said in done.stdout + done.stderr
    assert not (tmp_path / "s").exists()
