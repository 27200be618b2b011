# SPDX-License-Identifier: Apache-2.0
"""A Linux guest under load, saved and restored again and again: no byte is lost, no clock goes back, no processor is stuck.

DOC: the load
  In the guest: fio writes two drives and verifies what it wrote, one with each I/O engine; a loop checks a checksum; another
  one looks at clocks and timers. From outside: a TCP stream through the guest that lives as long as the test, by another tap
  each time, and a vsock connection that ends with each monitor. The kernel is Debian's, which looks for processors that are
  stuck and tasks that hang.
"""

import os
import select
import socket
import threading
import time

import pytest

from api_client import wait_for
from linux_exec import COMPLAINTS_SH, complaints, connect_vsock, drive, full_root
from linux_guest import stock_kernel
from test_linux_snapshot import (GUEST, HOST, MIB, TAPS, WORK_SH, make_taps, saved_snapshot,  # noqa: F401 (fixtures)
                                 use_tap)
from test_linux_vsock import checked_bytes

pytestmark = pytest.mark.guest

ROUNDS = int(os.environ.get("BANTAM_TEST_ROUNDS", "4"))
ECHO = 5001
TURNS = 10      # of the vsock echo, each a message there and back

# One fio a drive, for ever. Clocks may stand still and jump forward, never back; a timer is never early.
LOAD_SH = """
cat >/tmp/fio.sh <<'END'
cd /tmp
fio --name=$1 --filename=/dev/$1 --ioengine=libaio --iodepth=4 --direct=1 --rw=randwrite --bs=16k --size=1m --loops=1000000 \\
	--verify=crc32c --verify_fatal=1 --verify_state_save=0 --thinktime=20000 --thread --clocksource=clock_gettime >/tmp/fio.$1 2>&1
echo "fio on $1 ended with $?" >>/tmp/wrong
END
cat >/tmp/clock.sh <<'END'
up=0 now=0
while :; do
	set -- $(cut -d' ' -f1 /proc/uptime | tr -d .) $(date +%%s)
	[ "$1" -ge "$((up + 4))" ] && [ "$2" -ge "$now" ] || echo "clock: $1 after $up, $2 after $now" >>/tmp/wrong
	up=$1 now=$2
	echo $up >/tmp/ticks.new && mv /tmp/ticks.new /tmp/ticks
	usleep 50000
done
END
sh /tmp/fio.sh vdb >/dev/null 2>&1 &
sh /tmp/fio.sh vdc >/dev/null 2>&1 &
sh /tmp/clock.sh >/dev/null 2>&1 &
vsock-tool echo %d >/dev/null 2>&1 &
(socat TCP:%s:%d EXEC:cat; echo "the stream ended with $?" >>/tmp/wrong) >/dev/null 2>&1 &
"""

# Waits until each part of the load has done something, then tells what went wrong, and what the kernel said. What goes wrong
# ends the wait, as does a part that has stood still for thousands of looks.
PROGRESS_SH = """
moves() {
	before=$("$@" 2>/dev/null || true) looks=0
	while [ "$("$@" 2>/dev/null)" = "$before" ] && [ ! -e /tmp/wrong ]; do
		usleep 20000
		looks=$((looks + 1))
		[ $looks -lt 4000 ] || { echo "stands still: $*"; ps -o pid,stat,args; cat /proc/interrupts /tmp/fio.*; break; }
	done
}
moves cat /tmp/count
moves cat /tmp/ticks
moves awk '{ print $1 + $5 }' /sys/block/vdb/stat	# reads and writes that are done
moves awk '{ print $1 + $5 }' /sys/block/vdc/stat
[ ! -e /tmp/wrong ] || cat /tmp/wrong /tmp/fio.*
echo ==
""" + COMPLAINTS_SH


class Stream:
    """The host's end of a TCP stream through the guest, on a thread: what comes back must be what was sent."""

    WINDOW = 1 << 17    # bytes under way, some of them in the guest, some in queues
    PIECE = 1 << 13

    def __init__(self):
        self.bytes = checked_bytes(65521 + self.PIECE)
        self.sent = self.received = 0
        self.trouble, self.stop = None, False
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def piece(self, at, length):
        return self.bytes[at % 65521:at % 65521 + length]

    def run(self):
        self.listener.settimeout(0.1)
        while not self.stop:
            try:
                with self.listener.accept()[0] as sock:
                    sock.setblocking(False)
                    self.flow(sock)
                return
            except TimeoutError:
                continue

    def flow(self, sock):
        while not self.stop and not self.trouble:
            room = min(self.PIECE, self.WINDOW - (self.sent - self.received))
            readable, writable, _ = select.select([sock], [sock] if room else [], [], 0.1)
            if readable:
                self.check(sock.recv(self.PIECE))
            if writable:
                self.sent += sock.send(self.piece(self.sent, room))
            time.sleep(0.01)    # the guest has other things to do

    def check(self, data):
        if not data:
            self.trouble = f"it ended after {self.received} bytes"
        elif data != self.piece(self.received, len(data)):
            self.trouble = f"other bytes came back after {self.received}"
        self.received += len(data)

    def must_flow(self, wait_s=120):
        """More than was under way comes back: so it goes through the guest as it is now."""
        wanted, end = self.sent + 1, time.monotonic() + wait_s
        while self.received < wanted and not self.trouble:
            assert time.monotonic() < end, f"the stream stands at {self.received} of {self.sent} bytes"
            time.sleep(0.01)
        assert not self.trouble, self.trouble

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()
        self.listener.close()


def must_echo(sock):
    message = checked_bytes(4096)
    for _ in range(TURNS):
        sock.sendall(message)
        back = b""
        while len(back) < len(message):
            data = sock.recv(len(message) - len(back))
            assert data, f"the echo ended after {len(back)} bytes"
            back += data
        assert back == message


def check_load(guest, stream):
    """All parts of the load go on without a mistake, and the guest's kernel has nothing to say about it. Gives a vsock
    connection that is in use."""
    # A guest on a busy host may miss the two seconds that it has to take a connection: clients ask again.
    sock = wait_for(lambda: connect_vsock(guest.uds, ECHO), "the echo in the guest")
    must_echo(sock)
    stream.must_flow()
    wrong, said = guest.sh(PROGRESS_SH, 300).split("==", 1)
    assert wrong == ""
    # The guest's clocks ran on while it stood still: one that looks after the others notes a long second.
    said = complaints(said)
    assert [line for line in said if "clocksource: Long readout interval" not in line] == []
    return sock


def boot_under_load(saved, folder, stream, vcpus):
    drives = [drive(full_root(), is_root_device=True, is_read_only=True)]
    for name, engine in (("sync", "Sync"), ("async", "Async")):
        path = folder / f"{name}.img"
        path.write_bytes(bytes(4 * MIB))
        drives.append(drive(path, io_engine=engine))
    guest = saved.boot(kernel=f"{stock_kernel()}/vmlinux", initrd="stock", drives=drives, nets=[
        {"iface_id": "net", "host_dev_name": TAPS[0], "guest_mac": "06:00:ac:1f:f0:02"}],
                       args=f"bantam.root=/dev/vda bantam.rootfstype=ext4 bantam.ip=eth0:{GUEST}/24",
                       vcpu_count=vcpus, mem_size_mib=192, track_dirty_pages=True)
    guest.sh(WORK_SH + LOAD_SH % (ECHO, HOST, stream.port))
    return guest


@pytest.mark.parametrize("vcpus", (1, 4))
def test_under_load_again_and_again(saved, taps, tmp_path, vcpus):  # noqa: F811 (fixtures)
    """Each round the guest is saved, whole or as a difference, and its successor goes on; nothing is lost on the way."""
    use_tap(TAPS[0])
    with Stream() as stream:
        guest = boot_under_load(saved, tmp_path, stream, vcpus)
        saved.create(guest)
        guest.api.ok("PATCH", "/vm", {"state": "Resumed"})
        for i in range(ROUNDS):
            with check_load(guest, stream) as sock:
                (saved.create if i % 2 else saved.add_difference)(guest)
                guest.machine.kill()
                assert sock.recv(1) == b""
            saved.forget(guest)
            tap = TAPS[(i + 1) % 2]
            use_tap(tap)
            guest = saved.load(f"r{i}", track_dirty_pages=True, network_overrides=[{"iface_id": "net", "host_dev_name": tap}])
            print(f"round {i}: {stream.received} bytes have gone through the guest")
        check_load(guest, stream).close()
        # Connections of earlier monitors are gone: the listener and a few that are just ending are left.
        assert int(guest.sh("ps | grep -c '[v]sock-tool echo'")) < 5
