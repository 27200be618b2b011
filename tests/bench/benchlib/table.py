# SPDX-License-Identifier: Apache-2.0
"""The table of benches. A new one is a function and a row here; nothing else has to know of it."""

from dataclasses import dataclass
from typing import Callable

from . import bench_block, bench_boot, bench_jailer, bench_net, bench_snapshot, bench_start, bench_vsock, image

FIRECRACKER = "firecracker-compatible"
PEER = "peer"


@dataclass(frozen=True)
class Metric:
    """One row of the result: `key` is what run() returns it under; `lower` says which way is better."""
    key: str
    title: str
    unit: str
    lower: bool = True


@dataclass(frozen=True)
class Bench:
    """run(context, contestant) makes one sample, {key: value}; it raises with the reason when it cannot."""
    name: str
    title: str
    run: Callable
    metrics: tuple
    runs: int
    kinds: tuple = (FIRECRACKER,)


def _block_metrics():
    return (
        Metric("randread_d1", "random read 4k, depth 1", "IOPS", lower=False),
        Metric("randwrite_d1", "random write 4k, depth 1", "IOPS", lower=False),
        Metric("randread_d32", "random read 4k, depth 32", "IOPS", lower=False),
        Metric("randwrite_d32", "random write 4k, depth 32", "IOPS", lower=False),
        Metric("seqread_128k", "sequential read 128k", "MiB/s", lower=False),
        Metric("seqwrite_128k", "sequential write 128k", "MiB/s", lower=False),
    )


def _snapshot_metrics():
    return (
        Metric("create", "create call", "ms"),
        Metric("state_kib", "state file", "KiB"),
        Metric("memory_kib", "memory file, allocated", "KiB"),
        Metric("load", "load call", "ms"),
    )


def _round_metrics():
    return (
        Metric("warm", f"load until {image.TOURING_PAGES} scattered pages are read, page cache warm", "ms"),
        Metric("cold", "the same, page cache cold", "ms"),
        Metric("prefetched", "the same, working set prefetched where the monitor can", "ms"),
    )


MEMORY = (
    Metric("private", "private", "KiB"),
    Metric("anonymous", "of that anonymous", "KiB"),
    Metric("pss", "proportional", "KiB"),
    Metric("rss", "resident", "KiB"),
)

BENCHES = (
    Bench("size", "binary", bench_start.run_size, (
        Metric("stripped", "stripped size", "KiB"),
    ), runs=1, kinds=(FIRECRACKER, PEER)),
    Bench("start", "exec to API answers", bench_start.run_start, (
        Metric("wall", "wall time", "ms"),
        Metric("cpu", "CPU time of the process", "ms"),
    ), runs=40),
    Bench("api", "API call latency", bench_start.run_api, (
        Metric("get_root", "GET /", "us"),
        Metric("get_config", "GET /vm/config", "us"),
        Metric("put_machine", "PUT /machine-config", "us"),
        Metric("patch_machine", "PATCH /machine-config", "us"),
        Metric("put_boot", "PUT /boot-source", "us"),
        Metric("put_drive", "PUT /drives/x", "us"),
        Metric("bad_request", "a refused request", "us"),
    ), runs=10),
    Bench("tiny", "InstanceStart to a tiny guest's first instruction", bench_boot.run_tiny, (
        Metric("boot_timer", "InstanceStart to guest code", "ms"),
        Metric("instance_start", "InstanceStart call", "ms"),
        Metric("instance_start_later", f"InstanceStart call, {bench_boot.CLIENT_S * 1e3:g} ms after the API's first answer", "ms"),
        Metric("exec_to_guest", "exec to guest code", "ms"),
        Metric("cpu", "CPU time of the process", "ms"),
    ), runs=20),
    Bench("tiny-memory", "monitor memory beyond the guest's, tiny guest", bench_boot.run_tiny_memory, MEMORY,
          runs=5),
    Bench("boot", "Linux boot", bench_boot.run_boot, (
        Metric("boot_timer", "InstanceStart to init", "ms"),
        Metric("instance_start", "InstanceStart call", "ms"),
        Metric("exec_to_init", "exec to init", "ms"),
        Metric("cpu", "CPU time of the process, guest included", "ms"),
        Metric("exits", "VM exits", "count"),
        Metric("io_exits", "exits for port I/O", "count"),
        Metric("mmio_exits", "exits for memory-mapped I/O", "count"),
    ), runs=10, kinds=(FIRECRACKER, PEER)),
    Bench("memory", "monitor memory beyond the guest's, Linux booted", bench_boot.run_memory, MEMORY,
          runs=5, kinds=(FIRECRACKER, PEER)),
    Bench("block-sync", "block, Sync engine", bench_block.run_sync, _block_metrics(), runs=3),
    Bench("block-async", "block, Async engine", bench_block.run_async, _block_metrics(), runs=3),
    Bench("block-slow", f"block on a disk of {bench_block.SLOW_DISK_MS} ms", bench_block.run_slow, (
        Metric("sync_randread_d1", "random read 4k, depth 1, Sync", "IOPS", lower=False),
        Metric("sync_randread_d32", "random read 4k, depth 32, Sync", "IOPS", lower=False),
        Metric("async_randread_d1", "random read 4k, depth 1, Async", "IOPS", lower=False),
        Metric("async_randread_d32", "random read 4k, depth 32, Async", "IOPS", lower=False),
    ), runs=3),
    Bench("net", "network over a tap", bench_net.run, (
        Metric("tx_mbit", "one TCP stream, guest to host", "Mbit/s", lower=False),
        Metric("rx_mbit", "one TCP stream, host to guest", "Mbit/s", lower=False),
        Metric("ping_us", "ping round trip", "us"),
    ), runs=3, kinds=(FIRECRACKER, PEER)),
    Bench("vsock", "vsock", bench_vsock.run, (
        Metric("to_guest", "stream, host to guest", "MiB/s", lower=False),
        Metric("to_host", "stream, guest to host", "MiB/s", lower=False),
        Metric("round_trip", "round trip of 1 byte", "us"),
        Metric("connect", "connect", "us"),
    ), runs=3),
    Bench("snapshot-tiny", "snapshot of a tiny guest", bench_snapshot.run_tiny, (
        *_snapshot_metrics(),
        Metric("load_later", f"load call, {bench_boot.CLIENT_S * 1e3:g} ms after the API's first answer", "ms"),
        Metric("load_prepared", "load call, KVM machine prepared", "ms"),
        Metric("load_to_guest", "load to guest code", "ms"),
        Metric("many", f"{bench_snapshot.MANY_CLONES} microVMs from it, one by one, not resumed", "ms"),
        Metric("many_pss", f"proportional memory of each of the {bench_snapshot.MANY_CLONES}", "KiB"),
    ), runs=5),
    Bench("snapshot-cold", "cold snapshot of a guest that wants its pages at once", bench_snapshot.run_cold, _round_metrics(), runs=5),
    Bench("snapshot-slow", f"the same on a disk of {bench_block.SLOW_DISK_MS} ms", bench_snapshot.run_slow, _round_metrics(), runs=3),
    Bench("snapshot", "snapshot of Linux", bench_snapshot.run_linux, (
        *_snapshot_metrics(),
        Metric("load_to_answer", "load to an answer over vsock", "ms"),
        Metric("cold_to_answer", f"the same from a cold disk of {bench_block.SLOW_DISK_MS} ms", "ms"),
        Metric("prefetch_to_answer", "the same, working set prefetched", "ms"),
        Metric("clone_pss_1", "proportional memory of one clone", "KiB"),
        Metric("clone_pss_10", f"proportional memory of each of {bench_snapshot.CLONES}", "KiB"),
        Metric("clones_10", f"{bench_snapshot.CLONES} clones until all answered, one by one", "ms"),
    ), runs=3),
    Bench("jailer", "jailer start, shared mounts", bench_jailer.run, (
        Metric("m0p1", "the same small program", "ms"),
        Metric("m0p10", "the same, 10 at once", "ms"),
        Metric("m500p1", "the same, 500 mounts", "ms"),
        Metric("m500p10", "the same, 500 mounts, 10 at once", "ms"),
        Metric("own_m0p1", "own monitor, if static", "ms"),
        Metric("own_m0p10", "own monitor, if static, 10 at once", "ms"),
        Metric("own_m500p1", "own monitor, if static, 500 mounts", "ms"),
        Metric("own_m500p10", "own monitor, if static, 500 mounts, 10 at once", "ms"),
    ), runs=5),
)
