# SPDX-License-Identifier: Apache-2.0
"""fio in the guest on a scratch drive, one bench for each of the monitor's block engines; and both on a slow disk."""

from .workload import WORK_MEM_MIB, boot_args, run_script


SLOW_DISK_MS = 4


def _run(context, contestant, engine, path=None, **more):
    guest = context.linux(WORK_MEM_MIB)
    drives = [("root", guest.rootfs, True, True, "Sync"),
              ("scratch", path or context.scratch(), False, False, engine)]
    settings = {"scratch": "/dev/vdb", "seconds": context.seconds, "mib": context.options.scratch_mib, **more}
    with contestant.start() as instance:
        instance.configure(guest, boot_args("block", **settings), drives)
        return run_script(context, instance)


def run_sync(context, contestant):
    return _run(context, contestant, "Sync")


def run_async(context, contestant):
    return _run(context, contestant, "Async")


def run_slow(context, contestant):
    """Random reads from a disk that answers each one late but any number at a time, as network storage does."""
    results = {}
    for engine in ("Sync", "Async"):
        path = context.slow_disk(SLOW_DISK_MS)
        found = _run(context, contestant, engine, path, only="randread_d1,randread_d32")
        results.update({f"{engine.lower()}_{name}": value for name, value in found.items()})
    return results
