# SPDX-License-Identifier: Apache-2.0
"""Snapshots of jailed monitors: made and loaded by paths in the jail, by users who own nothing else."""

import os
import shutil

import pytest

from api_client import Api, wait_for
from conftest import ROOT, VMM
from jail import GID, UID

pytestmark = [pytest.mark.native, pytest.mark.skipif(os.geteuid() != 0, reason="jails with a uid of their own need root")]

STATIC_VMM = ROOT / "build" / "bantam-vmm"     # a jail has no libraries for another


def jailed(site, name):
    """A monitor in a jail of its own: (API, the jail's root)."""
    program = site.folder / STATIC_VMM.name
    if not program.exists():
        shutil.copy(STATIC_VMM, program)
    site.start(name, program=program)
    root = site.root(name, program=program)
    socket = root / "run" / "firecracker.socket"
    wait_for(socket.exists, "the API in the jail")
    return Api(socket), root


def give(root, source, name):
    """A file in the jail that belongs to its user."""
    shutil.copy(source, root / name)
    os.chown(root / name, UID, GID)


def test_from_one_jail_to_another(site):
    assert VMM.exists()
    api, root = jailed(site, "first")
    give(root, ROOT / "build" / "guest" / "keeper.elf", "kernel")
    (root / "disk").write_bytes(bytes(16 * 4096))
    os.chown(root / "disk", UID, GID)
    api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
    api.ok("PUT", "/boot-source", {"kernel_image_path": "kernel", "boot_args": ""})
    api.ok("PUT", "/drives/disk", {"drive_id": "disk", "path_on_host": "disk", "is_root_device": False})
    api.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    api.ok("PUT", "/actions", {"action_type": "InstanceStart"})
    for kind in ("Full", "Diff", "Full"):
        api.ok("PATCH", "/vm", {"state": "Paused"})
        api.ok("PUT", "/snapshot/create", {"snapshot_path": "state", "mem_file_path": "/memory", "snapshot_type": kind})
        api.ok("PATCH", "/vm", {"state": "Resumed"})
    assert os.stat(root / "memory").st_uid == UID and not list(root.glob("*.partial"))
    second, other = jailed(site, "second")
    for name in ("state", "memory", "disk"):
        give(other, root / name, name)
    second.ok("PUT", "/snapshot/load", {
        "snapshot_path": "state", "mem_backend": {"backend_type": "File", "backend_path": "memory"}, "resume_vm": True})
    assert second.get("/").json["state"] == "Running"
    assert (other / "v.sock").exists()
    second.ok("PATCH", "/vm", {"state": "Paused"})
    second.ok("PUT", "/snapshot/create", {"snapshot_path": "state", "mem_file_path": "memory"})
