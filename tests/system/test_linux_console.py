# SPDX-License-Identifier: Apache-2.0
"""Linux and the devices that are not virtio: serial port, keyboard controller, power, boot timer."""

import hashlib
import os
import re

import pytest

from linux_guest import boot, run

pytestmark = pytest.mark.guest


def log_of(machine):
    return (machine.folder / "log").read_text()


@pytest.fixture
def machine(vmm, tmp_path):
    """A monitor with a log of its own, and with a FIFO on standard input: .type(bytes)."""
    fifo = tmp_path / "in"
    os.mkfifo(fifo)
    stdin = os.open(fifo, os.O_RDWR)
    started = vmm("--log-path", tmp_path / "log", "--boot-timer", stdin=stdin)
    started.type = lambda data: os.write(stdin, data)
    yield started
    os.close(stdin)


def test_shell_on_the_serial_port(machine):
    """A line goes in, its result comes out; more than the receiver holds goes in at once and nothing is lost."""
    boot(machine, end="shell")
    machine.wait_for_console("BANTAM-GUEST-READY")
    machine.type(b"echo $((6 * 7))-is-it\n")
    machine.wait_for_console("42-is-it")
    text = "".join(f"{number:03}," for number in range(150))
    machine.type(f"echo {text} | sha256sum; echo did-it\n".encode())
    said = machine.wait_for_console("\ndid-it")
    assert hashlib.sha256(f"{text}\n".encode()).hexdigest() in said
    machine.type(b"reboot -f\n")
    assert machine.wait() == 0
    assert "asked for a reset" in log_of(machine)


def test_power_off(machine):
    """By ACPI, which needs no driver of ours in the guest."""
    status, _ = run(machine, "true", end="poweroff")
    assert status == 0
    assert "powered off" in log_of(machine)


@pytest.mark.parametrize("how", ("k", "a", "t"))
def test_reboot(vmm, tmp_path, how):
    """Through the keyboard controller, by ACPI's reset register, and by a triple fault, which is no orderly end."""
    machine = vmm("--log-path", tmp_path / "log")
    boot(machine, "true", more_args=f"reboot={how}")
    code = machine.wait()
    assert "BANTAM-GUEST-EXIT 0" in machine.console()
    assert code == (1 if how == "t" else 0)
    assert ("triple fault" if how == "t" else "asked for a reset") in log_of(machine)


def test_ctrl_alt_del(machine):
    """Linux finds the keyboard, and the three keys make it reboot."""
    boot(machine, "echo 1 >/proc/sys/kernel/ctrl-alt-del; cat /proc/bus/input/devices; dmesg | grep -E 'i8042|input:'; "
                  "echo waiting; while :; do sleep 1; done")
    assert "AT Translated Set 2 keyboard" in machine.wait_for_console("waiting")
    machine.api.ok("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
    assert machine.wait() == 0
    assert "asked for a reset" in log_of(machine)


def test_boot_timer(machine):
    run(machine, "true", more_args="bantam.boottimer")
    found = re.search(r"Guest-boot-time = +(\d+) us (\d+) ms, +(\d+) CPU us (\d+) CPU ms", log_of(machine))
    assert found
    wall_us, wall_ms, cpu_us, cpu_ms = (int(number) for number in found.groups())
    assert wall_us // 1000 == wall_ms > 0 and cpu_us // 1000 == cpu_ms > 0


def test_serial_to_a_file(vmm, tmp_path):
    machine = vmm("--log-path", tmp_path / "log")
    machine.api.ok("PUT", "/serial", {"serial_out_path": str(tmp_path / "serial")})
    boot(machine, "echo said-to-a-file")
    assert machine.wait() == 0
    assert "said-to-a-file" in (tmp_path / "serial").read_text()
    assert machine.console() == ""


def test_serial_rate_limit(vmm, tmp_path):
    """The guest goes on at its own speed; what is too much is lost and counted."""
    machine = vmm("--log-path", tmp_path / "log", "--metrics-path", tmp_path / "metrics")
    machine.api.ok("PUT", "/serial", {"rate_limiter": {"size": 1000, "refill_time": 10**10}})
    boot(machine, "seq 1000")
    assert machine.wait() == 0
    assert len(machine.out_path.read_bytes()) == 1000
    assert sum(int(count) for count in re.findall(r'"rate_limiter_dropped_bytes":(\d+)',
                                                  (tmp_path / "metrics").read_text())) > 2000
