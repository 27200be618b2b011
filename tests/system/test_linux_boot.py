# SPDX-License-Identifier: Apache-2.0
"""Linux boots: each kernel, image format, number of vCPUs, kind of root and size of memory; and what it finds when it is up."""

import re
import struct
import time

import pytest

from linux_exec import (COMPLAINTS_SH, complaints, drive, end_of, running_guest, small_root, start, tuned_kernel,
                        without_splat)
from linux_guest import stock_kernel

pytestmark = pytest.mark.guest

LOOK = f"""echo "cpus=$(nproc)"
awk '$2 == "/" {{ print "root=" $1 " " $3 " " substr($4, 1, 2) }}' /proc/mounts
touch /written 2>/dev/null && echo "root is writable"
{COMPLAINTS_SH}
"""


def look(machine, end="poweroff", **options):
    """Boots, runs LOOK, waits for an orderly end. Gives the console's text."""
    start(machine, run=LOOK, end=end, **options)
    assert end_of(machine) == 0, machine.console()[-3000:] + machine.stderr()
    said = machine.console()
    assert "BANTAM-GUEST-EXIT 0" in said, said[-3000:]
    return said


def stock(image):
    return f"{stock_kernel()}/{image}"


def root_drive(path, read_only=False, **more):
    return drive(path, is_root_device=True, is_read_only=read_only, **more)


@pytest.mark.parametrize("image, vcpus, root", (
    ("vmlinuz", 1, "initrd"), ("vmlinuz", 4, "rw"), ("vmlinux", 4, "initrd"), ("vmlinux", 1, "ro")))
def test_stock_kernel(vmm, tmp_path, image, vcpus, root):
    """Debian's kernel finds its devices by ACPI alone and brings their drivers in an initrd."""
    options = {"initrd": "stock", "vcpu_count": vcpus, "kernel": stock(image)}
    if root != "initrd":
        options.update(drives=[root_drive(small_root(tmp_path), root == "ro")], args=f"bantam.root=/dev/vda bantam.rootflags={root}")
    said = look(vmm(), **options)
    assert f"cpus={vcpus}\n" in said
    assert "root=" + ("rootfs rootfs rw" if root == "initrd" else f"/dev/vda ext4 {root}") in said
    assert ("root is writable" in said) == (root != "ro")


@pytest.mark.parametrize("image, vcpus, root, engine", (
    ("vmlinux", 1, "rw", "Sync"), ("vmlinux", 4, "ro", "Async"), ("bzImage", 1, "initrd", None), ("bzImage", 4, "rw", "Async")))
def test_tuned_kernel(vmm, tmp_path, image, vcpus, root, engine):
    """Mounts its root itself, as the monitor's addition to its command line says, and has nothing to complain of."""
    options = {"vcpu_count": vcpus, "kernel": tuned_kernel(image), "end": "reboot" if vcpus == 1 else "poweroff"}
    if root == "initrd":
        options.update(initrd="tuned")
    else:
        options.update(drives=[root_drive(small_root(tmp_path), root == "ro", io_engine=engine)])
    said = look(vmm(), entropy=True, vsock=True, **options)
    assert f"cpus={vcpus}\n" in said
    assert "root=" + ("rootfs rootfs rw" if root == "initrd" else f"/dev/root ext4 {root}") in said
    assert ("root is writable" in said) == (root != "ro")
    assert not complaints(said)


def test_without_acpi(vmm, tmp_path):
    """Processors and interrupts from the MP table, devices from the command line."""
    said = look(vmm(), end="reboot", args="acpi=off", vcpu_count=4, entropy=True, vsock=True,
                drives=[root_drive(small_root(tmp_path), True)])
    assert "cpus=4\n" in said
    assert "root=/dev/root ext4 ro" in said
    assert not complaints(said)


def test_root_by_partition_id(vmm, tmp_path):
    """root=PARTUUID=..., on the second drive in the order of the requests: the root drive comes first in the guest."""
    disk, signature, start_sector = tmp_path / "disk.img", 0x1234abcd, 2048
    data = small_root(tmp_path).read_bytes()
    entry = struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x83, b"\0\0\0", start_sector, len(data) // 512)
    with open(disk, "wb") as file:
        file.write(bytes(440) + struct.pack("<IH", signature, 0) + entry + bytes(48) + b"\x55\xaa")
        file.seek(start_sector * 512)
        file.write(data)
    other = tmp_path / "other.img"
    other.write_bytes(bytes(1 << 20))
    said = look(vmm(), end="reboot",
                drives=[drive(other), root_drive(disk, True, partuuid=f"{signature:08x}-01")])
    assert "root=/dev/root ext4 ro" in said


def test_memory_on_both_sides_of_the_hole(vmm):
    """4 GiB, backed by transparent huge pages: 3 GiB below the hole for devices, 1 GiB above."""
    machine = vmm()
    start(machine, run="cat /proc/iomem /proc/meminfo; dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>/dev/null; echo filled",
          end="shell", initrd="tuned", mem_size_mib=4096, huge_pages="Transparent")
    said = machine.wait_for_console("BANTAM-GUEST-EXIT")
    assert "filled" in said
    ranges = {(int(a, 16), int(b, 16)) for a, b in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM", said, re.M)}
    assert (0x100000, 0xbfffffff) in ranges and (0x100000000, 0x13fffffff) in ranges
    total_kib = int(re.search(r"MemTotal: +(\d+) kB", said)[1])
    assert 0.95 * 4096 < total_kib / 1024 <= 4096
    huge_kib = int(re.search(r"AnonHugePages: +(\d+) kB", smaps_rollup(machine))[1])
    assert huge_kib >= 64 * 1024


def smaps_rollup(machine):
    with open(f"/proc/{machine.pid}/smaps_rollup", encoding="ascii") as file:
        return file.read()


@pytest.mark.usefixtures("huge_pages")
def test_2m_pages(vmm):
    machine = vmm()
    start(machine, run="dd if=/dev/zero of=/dev/shm/x bs=1M count=32 2>/dev/null && echo filled", end="shell", initrd="tuned",
          mem_size_mib=96, huge_pages="2M")
    assert "filled" in machine.wait_for_console("BANTAM-GUEST-EXIT 0")
    assert int(re.search(r"Private_Hugetlb: +(\d+) kB", smaps_rollup(machine))[1]) >= 32 * 1024


# ---- one guest with Debian's kernel, looked at from all sides ----

@pytest.fixture(scope="module", name="guest")
def stock_guest(tmp_path_factory):
    with running_guest(tmp_path_factory.mktemp("boot"), kernel=stock("vmlinuz"), initrd="stock", entropy=True,
                       vcpu_count=2) as guest:
        yield guest


def test_clock(guest):
    """The guest's clock is the host's, give or take what a slow start loses before the kernel counts with KVM's clock."""
    before = time.time()
    seen = int(guest.sh("date +%s"))
    assert before - 30 <= seen <= time.time() + 2
    assert guest.sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") == "kvm-clock"


def test_ptp_clock(guest):
    """KVM's own clock device, which Linux makes when the host can tell pairs of times."""
    guest.sh("insmod $(ls /modules/*/ptp_kvm.ko) || true")
    assert guest.sh("cat /sys/class/ptp/ptp0/clock_name") == "KVM virtual PTP"


def test_entropy(guest):
    """The device is Linux's current source; bytes come, and never the same ones."""
    assert guest.sh("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    first, second = (guest.sh("dd if=/dev/hwrng bs=64 count=4 2>/dev/null | xxd -p | tr -d '\\n'") for _ in range(2))
    assert len(first) == len(second) == 512 and first != second
    assert len(set(bytes.fromhex(first))) > 100
    counted = guest.metrics()["entropy"]
    assert counted["entropy_bytes"] >= 512 and counted["entropy_event_count"] >= 2 and counted["host_rng_fails"] == 0


def test_acpi_devices(guest):
    """What the tables name is there and Linux bound what it has drivers for."""
    found = guest.sh("cd /sys/bus/acpi/devices; for d in *; do echo \"$d $(cat $d/hid 2>/dev/null) $(cat $d/path)\"; done")
    for name in ("VGEN", "AMZNC10C", "ACPI0013", "LNRO0005", "PNP0501", "PNP0303"):
        assert name in found, found
    assert guest.sh("ls /sys/bus/platform/drivers/virtio-mmio | grep -c LNRO0005") == "2"   # vsock, entropy


@pytest.mark.newer
def test_what_the_kernel_says(guest):
    """No error, no trace of a bug, and the interrupt controllers and clock that it should have."""
    said = without_splat(guest.sh("dmesg -r"))
    assert not re.findall(r".*(?:BUG:|WARNING:|Call Trace|ACPI Error|ACPI BIOS Error).*", said)
    assert "Hypervisor detected: KVM" in said
    assert "smp: Brought up 1 node, 2 CPUs" in said


def test_generation_id_and_tuned_kernel(vmm):
    """The tuned kernel has a driver for the generation id: it binds, to one device."""
    machine = vmm()
    start(machine, run="for f in /sys/bus/acpi/drivers/vmgenid/*:*; do echo bound to $(cat $f/path); done", initrd="tuned")
    assert end_of(machine) == 0
    assert machine.console().count("bound to \\_SB_.VGEN") == 1, machine.console()[-2000:]
