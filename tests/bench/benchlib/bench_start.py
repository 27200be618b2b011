# SPDX-License-Identifier: Apache-2.0
"""Benches that boot no guest: binary size, start to API, API latency."""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from .api import ApiError

CALLS_PER_SAMPLE = 200


def run_size(_context, contestant):
    """Size of the binary without symbols; a stripped copy is made, so a debug build is measured alike."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        copy = Path(folder) / "stripped"
        done = subprocess.run(["strip", "--strip-all", "-o", copy, contestant.binary],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"strip: {done.stderr.strip()[-200:]}")
        return {"stripped": copy.stat().st_size / 1024}


def run_start(_context, contestant):
    """From before the exec to the answer of GET /; CPU: of the process at that moment."""
    with contestant.start() as instance:
        instance.api.call("GET", "/")
        wall_s = time.perf_counter() - instance.process.started_s
        cpu_s = instance.process.cpu_s()
    return {"wall": wall_s * 1e3, "cpu": cpu_s * 1e3}


def _median_us(api, method, path, body=None):
    return statistics.median(api.call(method, path, body) for _ in range(CALLS_PER_SAMPLE)) * 1e6


def _median_refused_us(api):
    times = []
    for _ in range(CALLS_PER_SAMPLE):
        status, _, took_s = api.request("PUT", "/machine-config", {"vcpu_count": 0, "mem_size_mib": 128})
        if status != 400:
            raise ApiError(f"PUT /machine-config with 0 vCPUs answered {status}, not 400")
        times.append(took_s)
    return statistics.median(times) * 1e6


def run_api(context, contestant):
    """Median of 200 calls of each kind on one keep-alive connection."""
    drive = context.folder / "drive"
    if not drive.exists():
        drive.write_bytes(bytes(4096))
    with contestant.start() as instance:
        api = instance.api
        return {
            "get_root": _median_us(api, "GET", "/"),
            "get_config": _median_us(api, "GET", "/vm/config"),
            "put_machine": _median_us(api, "PUT", "/machine-config",
                                      {"vcpu_count": 2, "mem_size_mib": 256}),
            "patch_machine": _median_us(api, "PATCH", "/machine-config", {"mem_size_mib": 128}),
            "put_boot": _median_us(api, "PUT", "/boot-source", {"kernel_image_path": str(drive)}),
            "put_drive": _median_us(api, "PUT", "/drives/x",
                                    {"drive_id": "x", "path_on_host": str(drive),
                                     "is_root_device": False, "is_read_only": False}),
            "bad_request": _median_refused_us(api),
        }
