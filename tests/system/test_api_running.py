# SPDX-License-Identifier: Apache-2.0
"""The API while a microVM runs: what is refused then, what may change, what is counted."""

import json

import pytest

from conftest import ROOT

pytestmark = pytest.mark.native

AFTER = "The requested operation is not supported after starting the microVM."
PCI = "PCI is not enabled"
DRIVE = "Drive config error: Unable to patch the block device: "
VERIFY = " Please verify the request arguments."


class Running:
    def __init__(self, machine, disk, other):
        self.machine, self.api, self.disk, self.other = machine, machine.api, disk, other

    def drive(self):
        return self.api.get("/vm/config").json["drives"][0]


@pytest.fixture
def running(vmm, tmp_path):
    """A microVM whose guest ticks, with one drive."""
    disk, other = tmp_path / "disk", tmp_path / "other"
    disk.write_bytes(bytes(1 << 16))
    other.write_bytes(bytes(1 << 17))
    machine = vmm("--log-path", tmp_path / "log")
    kernel = ROOT / "build" / "guest" / "spin.elf"
    assert kernel.exists(), f"{kernel} is missing: make guests"
    machine.api.ok("PUT", "/boot-source", {"kernel_image_path": str(kernel), "boot_args": ""})
    machine.api.ok("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": str(disk)})
    machine.api.ok("PUT", "/metrics", {"metrics_path": str(tmp_path / "metrics"), "emit_id": True,
                                       "properties": {"who": 'a "test"', "é": ""}})
    machine.api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    machine.wait_for_console("tick")
    return Running(machine, disk, other)


@pytest.mark.parametrize("paused", (False, True))
def test_what_is_refused(running, paused):
    """One microVM answers all of it: nothing of this may change anything."""
    api = running.api
    if paused:
        api.ok("PATCH", "/vm", {"state": "Paused"})
    config = api.get("/vm/config").body
    for method, path, body, fault in (
            ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 0}, AFTER),
            ("PATCH", "/machine-config", {"vcpu_count": 1}, AFTER),
            ("PATCH", "/machine-config", {}, "Empty PATCH request."),
            ("PUT", "/boot-source", {"kernel_image_path": "/nowhere"}, AFTER),
            ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v"}, AFTER),
            ("PUT", "/entropy", {}, AFTER),
            ("PUT", "/serial", {}, AFTER),
            ("PUT", "/logger", {}, AFTER),
            ("PUT", "/metrics", {"metrics_path": "m"}, AFTER),
            ("PUT", "/actions", {"action_type": "InstanceStart"}, AFTER),
            ("PUT", "/drives/b", {"drive_id": "b", "is_root_device": False, "path_on_host": "/nowhere"}, PCI),
            ("PUT", "/network-interfaces/b", {"iface_id": "b", "host_dev_name": "none"}, PCI),
            ("DELETE", "/drives/a", None, PCI),
            ("DELETE", "/network-interfaces/b", None, PCI),
            # What is wrong with the request itself is said first.
            ("PUT", "/drives/b", {"drive_id": "c", "is_root_device": False},
             "The id from the path does not match the id from the body!"),
            ("DELETE", "/drives/a-b", None,
             "API Resource IDs can only contain alphanumeric characters and underscores.")):
        response = api.request(method, path, body)
        assert (response.status, response.fault) == (400, fault), (method, path)
    assert api.get("/vm/config").body == config
    assert running.machine.alive()


def test_states(running):
    api = running.api
    for state, then in (("Resumed", "Running"), ("Paused", "Paused"), ("Paused", "Paused"), ("Resumed", "Running"),
                        ("Resumed", "Running")):
        api.ok("PATCH", "/vm", {"state": state})
        assert api.get("/").json["state"] == then


@pytest.mark.parametrize("paused", (False, True))
def test_patch_of_a_drive(running, paused):
    api = running.api
    if paused:
        api.ok("PATCH", "/vm", {"state": "Paused"})
    api.ok("PATCH", "/drives/a", {"drive_id": "a", "path_on_host": str(running.other), "rate_limiter": None})
    assert running.drive()["path_on_host"] == str(running.other)
    api.ok("PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {"ops": {"size": 5, "refill_time": 7}}})
    api.ok("PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {"bandwidth": {"size": 1, "refill_time": 2}}})
    api.ok("PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {}})     # changes nothing
    assert running.drive()["rate_limiter"] == {
        "bandwidth": {"size": 1, "one_time_burst": None, "refill_time": 2},
        "ops": {"size": 5, "one_time_burst": None, "refill_time": 7}}
    api.ok("PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {"ops": {"size": 0, "refill_time": 0}}})
    assert running.drive()["rate_limiter"]["ops"] is None
    assert running.drive()["path_on_host"] == str(running.other)


def test_faults_of_a_drive(running):
    api = running.api
    missing = str(running.disk.parent / "missing")
    assert api.patch("/drives/b", {"drive_id": "b", "path_on_host": missing}).fault == (
        DRIVE + "Device not found: no drive has the id 'b'" + VERIFY)
    for nothing in ({}, {"path_on_host": None, "rate_limiter": None}):
        assert api.patch("/drives/a", {"drive_id": "a", **nothing}).fault == (
            DRIVE + "Running method expected different backend." + VERIFY)
    assert api.patch("/drives/a", {"drive_id": "a", "path_on_host": missing}).fault == (
        DRIVE + "Virtio backend error: Error manipulating the backing file: No such file or directory (os error 2) "
        + missing + VERIFY)
    assert running.drive()["path_on_host"] == str(running.disk)


def test_network_interface(vmm, tmp_path):
    """The tap is made for the test and goes with the monitor."""
    machine = vmm("--log-path", tmp_path / "log")
    api = machine.api
    api.ok("PUT", "/boot-source", {"kernel_image_path": str(ROOT / "build" / "guest" / "spin.elf"), "boot_args": ""})
    tap = f"bt{machine.pid}"
    bucket = {"size": 3, "one_time_burst": None, "refill_time": 4}
    for _ in range(2):      # the same id again replaces, though the tap has one owner
        api.ok("PUT", "/network-interfaces/n", {"iface_id": "n", "host_dev_name": tap, "guest_mac": "06:00:AC:10:00:02",
                                                "mtu": 1400, "tx_rate_limiter": {"ops": bucket}})
    assert api.put("/network-interfaces/m", {"iface_id": "m", "host_dev_name": tap + "m",
                                             "guest_mac": "06:00:ac:10:00:02"}).fault == (
        "Network config error: The MAC address is already in use: 06:00:ac:10:00:02")
    api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    assert api.patch("/network-interfaces/x", {"iface_id": "x"}).fault == (
        "Network config error: Unable to update the net device: Device not found: no network interface has the id 'x'")
    api.ok("PATCH", "/network-interfaces/n", {"iface_id": "n"})
    api.ok("PATCH", "/network-interfaces/n", {"iface_id": "n", "rx_rate_limiter": {"bandwidth": bucket}})
    net = api.get("/vm/config").json["network-interfaces"][0]
    assert net["rx_rate_limiter"] == {"bandwidth": bucket, "ops": None}
    assert net["tx_rate_limiter"] == {"bandwidth": None, "ops": bucket}
    assert net["host_dev_name"] == tap and net["mtu"] == 1400


def test_what_is_counted(running):
    api, path = running.api, running.machine.folder / "metrics"

    def flush():
        api.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
        return json.loads(path.read_text().splitlines()[-1])

    first = flush()
    assert first["id"] == "anonymous-instance"
    assert first["properties"] == {"who": 'a "test"', "é": ""}
    api.get("/")
    api.get("/version")
    api.get("/version")
    api.get("/machine-config")
    api.put("/drives/b-", {})
    api.put("/vsock", {"guest_cid": 3, "uds_path": "v", "vsock_id": "x"})
    api.patch("/drives/a", {"drive_id": "a"})
    api.ok("PATCH", "/vm", {"state": "Paused"})
    api.ok("PATCH", "/vm", {"state": "Resumed"})
    line = flush()
    assert line["get_api_requests"]["instance_info_count"] == 1
    assert line["get_api_requests"]["vmm_version_count"] == 2
    assert line["get_api_requests"]["machine_cfg_count"] == 1
    assert (line["put_api_requests"]["drive_count"], line["put_api_requests"]["drive_fails"]) == (1, 1)
    assert (line["put_api_requests"]["vsock_count"], line["put_api_requests"]["vsock_fails"]) == (1, 1)
    assert (line["put_api_requests"]["actions_count"], line["put_api_requests"]["actions_fails"]) == (1, 0)
    assert (line["patch_api_requests"]["drive_count"], line["patch_api_requests"]["drive_fails"]) == (1, 1)
    assert line["deprecated_api"]["deprecated_http_api_calls"] == 1
    assert line["latencies_us"]["pause_vm"] >= line["latencies_us"]["vmm_pause_vm"]
    assert flush()["put_api_requests"]["drive_count"] == 0
