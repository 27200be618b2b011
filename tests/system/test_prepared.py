# SPDX-License-Identifier: Apache-2.0
"""A KVM machine that is ready before the monitor knows what it will run: with --prepare-vcpus, and without."""

import json
import os
import re

import pytest

from api_client import wait_for
from conftest import ROOT

pytestmark = [pytest.mark.native, pytest.mark.newer]

COUNTER = {"kernel_image_path": str(ROOT / "build" / "guest" / "counter.elf"), "boot_args": ""}


def kvm_descriptors(machine):
    """{what KVM calls it: how many} of the monitor's descriptors."""
    found = {}
    for target in machine.descriptors():
        kind = re.match(r"anon_inode:(kvm-vm|kvm-vcpu)", target)
        if kind:
            found[kind[1]] = found.get(kind[1], 0) + 1
    return found


def vcpu_threads(machine):
    names = []
    for thread in os.listdir(f"/proc/{machine.pid}/task"):
        with open(f"/proc/{machine.pid}/task/{thread}/comm", encoding="ascii") as file:
            names.append(file.read().strip())
    return sorted(name for name in names if name.startswith("fc_vcpu"))


def start(machine, vcpus):
    machine.api.ok("PUT", "/machine-config", {"vcpu_count": vcpus, "mem_size_mib": 64})
    machine.api.ok("PUT", "/boot-source", COUNTER)
    machine.api.ok("PUT", "/actions", {"action_type": "InstanceStart"})


def counts(machine):
    seen = machine.console().count("0x")
    wait_for(lambda: machine.console().count("0x") > seen + 2, "the guest to count")


@pytest.mark.parametrize("vcpus", (1, 3))
def test_what_is_ready(vmm, vcpus):
    machine = vmm("--prepare-vcpus", vcpus)
    expected = ({"kvm-vm": 1, "kvm-vcpu": vcpus}, [f"fc_vcpu {index}" for index in range(vcpus)])
    wait_for(lambda: (kvm_descriptors(machine), vcpu_threads(machine)) == expected, "the KVM machine")
    assert machine.api.get("/").json["state"] == "Not started"
    start(machine, vcpus)
    counts(machine)
    assert (kvm_descriptors(machine), vcpu_threads(machine)) == expected
    assert machine.terminate() == 0


@pytest.mark.parametrize("ahead", ((), ("--prepare-vcpus", 1)))
def test_amx_is_asked_for_before_the_first_vcpu(vmm, tmp_path, ahead):
    """Afterwards the kernel refuses, and KVM hides the tiles."""
    trace = tmp_path / "trace"
    machine = vmm(*ahead, prefix=["strace", "-D", "-f", "-o", trace, "-e", "trace=arch_prctl,ioctl"])
    start(machine, 1)
    counts(machine)
    calls = re.findall(r"ARCH_REQ_XCOMP_GUEST_PERM|0x1025|KVM_CREATE_VCPU", trace.read_text(encoding="utf-8"))
    assert calls[-1] == "KVM_CREATE_VCPU" and len(calls) == 2


def test_what_is_made_while_the_client_talks(vmm):
    """The VM alone, and the thread that made it is gone. The start takes it."""
    machine = vmm()
    wait_for(lambda: kvm_descriptors(machine) == {"kvm-vm": 1} and len(os.listdir(f"/proc/{machine.pid}/task")) == 1, "the VM")
    start(machine, 2)
    counts(machine)
    assert kvm_descriptors(machine) == {"kvm-vm": 1, "kvm-vcpu": 2}
    assert machine.terminate() == 0


def test_who_starts_at_once_makes_no_second_one(vmm, tmp_path):
    (tmp_path / "config").write_text(json.dumps({"boot-source": COUNTER, "drives": []}))
    machine = vmm("--config-file", tmp_path / "config")
    counts(machine)
    assert kvm_descriptors(machine) == {"kvm-vm": 1, "kvm-vcpu": 1}


def test_without_kvm_the_api_answers_and_the_start_says_why(vmm):
    hide = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/kvm && exec "$@"', "sh"]
    machine = vmm(prefix=hide)
    machine.api.ok("PUT", "/boot-source", COUNTER)
    answer = machine.api.put("/actions", {"action_type": "InstanceStart"})
    assert answer.status == 400 and "KVM on this host lacks KVM_CAP_IRQCHIP" in answer.fault
    assert machine.terminate() == 0


def test_another_number_of_vcpus(vmm, tmp_path):
    machine = vmm("--prepare-vcpus", 3, "--log-path", tmp_path / "log")
    start(machine, 2)
    counts(machine)
    assert (kvm_descriptors(machine), vcpu_threads(machine)) == ({"kvm-vm": 1, "kvm-vcpu": 2}, ["fc_vcpu 0", "fc_vcpu 1"])
    assert "Prepared for 3 vCPUs, but it is to be 2" in (tmp_path / "log").read_text()


def test_a_start_that_fails_can_be_tried_again(vmm, tmp_path):
    """The prepared machine goes with the failed start; the next one makes its own."""
    machine = vmm("--prepare-vcpus", 1)
    (tmp_path / "bad").write_bytes(b"no kernel")
    machine.api.ok("PUT", "/boot-source", {"kernel_image_path": str(tmp_path / "bad")})
    assert machine.api.put("/actions", {"action_type": "InstanceStart"}).status == 400
    assert kvm_descriptors(machine) == {} and vcpu_threads(machine) == []
    start(machine, 1)
    counts(machine)


def test_a_snapshot_is_loaded_into_it(vmm, tmp_path):
    files = {"snapshot_path": str(tmp_path / "state"), "mem_file_path": str(tmp_path / "memory")}
    first = vmm("--prepare-vcpus", 2)
    start(first, 2)
    counts(first)
    first.api.ok("PATCH", "/vm", {"state": "Paused"})
    first.api.ok("PUT", "/snapshot/create", files)
    for prepared in (2, 1):
        machine = vmm("--prepare-vcpus", prepared, "--log-path", tmp_path / f"log{prepared}")    # not into the guest's lines
        machine.api.ok("PUT", "/snapshot/load", {
            "snapshot_path": files["snapshot_path"], "resume_vm": True,
            "mem_backend": {"backend_type": "File", "backend_path": files["mem_file_path"]}})
        counts(machine)
        assert kvm_descriptors(machine) == {"kvm-vm": 1, "kvm-vcpu": 2}
        numbers = [int(text, 16) for text in re.findall(r"(0x[0-9a-f]{8})\n", machine.console())]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_it_ends_without_having_run(vmm):
    assert vmm("--prepare-vcpus", 4).terminate() == 0
