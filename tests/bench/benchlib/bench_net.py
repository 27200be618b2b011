# SPDX-License-Identifier: Apache-2.0
"""iperf3 and ping between the guest and the host's end of a tap, in a network namespace of the run's own."""

from .context import GUEST_ADDRESS, HOST_ADDRESS, TAP
from .image import find_tool
from .process import Process
from .workload import WORK_MEM_MIB, boot_args, run_script


def run(context, contestant):
    guest = context.linux(WORK_MEM_MIB)
    netns = context.netns()
    server = ["ip", "netns", "exec", netns, find_tool("iperf3"), "-s", "-B", HOST_ADDRESS, "--forceflush"]
    settings = {"host": HOST_ADDRESS, "guest": GUEST_ADDRESS, "seconds": context.seconds}
    with Process(server) as iperf:
        iperf.wait_for_output(rb"Server listening", 10)
        with contestant.start(netns=netns) as instance:
            instance.configure(guest, boot_args("net", **settings),
                               [("root", guest.rootfs, True, True, "Sync")], tap=TAP)
            results = run_script(context, instance)
    results["ping_us"] = results.pop("ping_ms") * 1e3
    return results
