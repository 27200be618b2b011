# SPDX-License-Identifier: Apache-2.0
"""Benches of booting: to a tiny guest's first instruction, to Linux's init, and the memory a monitor then has."""

import time

from .image import INIT
from .monitor import BASE_BOOT_ARGS
from .process import memory_beyond_guest

INIT_MARK = rb"BENCH-INIT\n"
TINY_MARK = rb"(?m)^T|T\Z"
# After the guest is up, the time given to the monitor's threads to come to rest before its memory is read.
SETTLE_S = 0.5
# What a client takes between the API's first answer and its request to start or load: little for an SDK, which looks for the
# socket every so often and sends some requests first.
CLIENT_S = 0.02


def _boot_tiny(context, guest, instance):
    instance.configure(guest, "none")
    call_s = instance.instance_start()
    boot_s = instance.boot_time_s(context.timeout_s)
    _, seen_s = instance.process.wait_for_output(TINY_MARK, context.timeout_s)
    return call_s, boot_s, seen_s - instance.process.started_s


def run_tiny(context, contestant):
    """The monitor's and the host kernel's part of a boot, with nothing of Linux in it."""
    guest = context.tiny()  # made before the clock runs
    with contestant.start(boot_timer=True) as instance:
        call_s, boot_s, total_s = _boot_tiny(context, guest, instance)
        cpu_s = instance.process.cpu_s()
    with contestant.start(boot_timer=True) as instance:
        time.sleep(CLIENT_S)
        later_s = _boot_tiny(context, guest, instance)[0]
    return {"boot_timer": boot_s * 1e3, "instance_start": call_s * 1e3, "exec_to_guest": total_s * 1e3,
            "cpu": cpu_s * 1e3, "instance_start_later": later_s * 1e3}


def run_tiny_memory(context, contestant):
    guest = context.tiny()
    with contestant.start(boot_timer=True) as instance:
        _boot_tiny(context, guest, instance)
        time.sleep(SETTLE_S)
        return memory_beyond_guest(instance.process.pid, guest.mem_bytes)


def _boot_linux(context, guest, instance):
    instance.configure(guest, f"{BASE_BOOT_ARGS} init={INIT} bench=idle", [("root", guest.rootfs, True, True, "Sync")])
    call_s = instance.instance_start()
    _, seen_s = instance.process.wait_for_output(INIT_MARK, context.timeout_s)
    return call_s, seen_s - instance.process.started_s


def run_boot(context, contestant):
    """InstanceStart to init by the boot timer; exec to init by the first line that init writes to the serial port.

    A peer has neither an API nor the boot timer; only the latter figure exists for it.
    """
    guest = context.linux()
    with contestant.start(boot_timer=True) as instance:
        call_s, total_s = _boot_linux(context, guest, instance)
        sample = {"exec_to_init": total_s * 1e3, "cpu": instance.process.cpu_s() * 1e3,
                  **context.kvm_stats.read(instance.process.pid)}
        if contestant.kind != "peer":
            sample["instance_start"] = call_s * 1e3
            sample["boot_timer"] = instance.boot_time_s(context.timeout_s) * 1e3
    return sample


def run_memory(context, contestant):
    guest = context.linux()
    with contestant.start(boot_timer=True) as instance:
        _boot_linux(context, guest, instance)
        time.sleep(SETTLE_S)
        return memory_beyond_guest(instance.process.pid, guest.mem_bytes)
