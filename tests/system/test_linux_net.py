# SPDX-License-Identifier: Apache-2.0
"""Linux and its network: a guest with two taps, one of them limited; iperf3, checked data, large packets, what goes wrong."""

import hashlib
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from api_client import wait_for
from linux_exec import full_root, recv_all, running_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20
# index, tap, MTU, address of the host; the guest's is .2
FAST = ("bantam-t0", 1400, "172.31.250.1")
SLOW = ("bantam-t1", 1500, "172.31.251.1")
MAC = "06:00:ac:1f:fa:02"
GUEST_FAST, GUEST_SLOW = "172.31.250.2", "172.31.251.2"
PER_SECOND = MIB // 4


def ip(*args):
    subprocess.run(["ip", *args], check=True)


@pytest.fixture(scope="module", name="taps")
def make_taps():
    for name, mtu, address in (FAST, SLOW):
        ip("tuntap", "add", name, "mode", "tap", "vnet_hdr")
        ip("link", "set", name, "mtu", str(mtu), "up")
        ip("addr", "add", f"{address}/24", "dev", name)
    yield
    for name, _, _ in (FAST, SLOW):
        subprocess.run(["ip", "link", "del", name], check=False)    # a test may have done so


@pytest.fixture(scope="module", name="guest")
def guest_with_taps(taps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    limit = {"bandwidth": {"size": PER_SECOND, "refill_time": 1000}}
    nets = [{"iface_id": "fast", "host_dev_name": FAST[0], "guest_mac": MAC, "mtu": FAST[1]},
            {"iface_id": "slow", "host_dev_name": SLOW[0], "rx_rate_limiter": limit, "tx_rate_limiter": limit}]
    root = {"drive_id": "root", "path_on_host": str(full_root()), "is_root_device": True,
            "is_read_only": True}
    with running_guest(folder, drives=[root], nets=nets, mem_size_mib=512, vcpu_count=2,
                       args=f"bantam.ip=eth0:{GUEST_FAST}/24 bantam.ip=eth1:{GUEST_SLOW}/24") as guest:
        guest.sh("iperf3 -s -D")
        guest.sh("dd if=/dev/urandom of=/dev/shm/data bs=1M count=16 2>/dev/null")
        yield guest


def iperf(address, *args):
    """Bits per second, as the receiver saw them."""
    done = subprocess.run(["iperf3", "-c", address, "--json", *args], stdout=subprocess.PIPE, check=False, timeout=120)
    said = json.loads(done.stdout)
    assert done.returncode == 0, said.get("error")
    return said["end"]["sum_received"]["bits_per_second"]


def tap_counts(name):
    """Packets and bytes as the host counts them: what the guest sent is received here."""
    folder = f"/sys/class/net/{name}/statistics"
    counts = {}
    for what in ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes"):
        with open(f"{folder}/{what}", encoding="ascii") as file:
            counts[what] = int(file.read())
    return counts


def test_addresses(guest):
    """MAC and MTU are the configured ones; without a MAC of its own the guest makes one."""
    assert guest.sh("cat /sys/class/net/eth0/address") == MAC
    assert guest.sh("cat /sys/class/net/eth0/mtu") == str(FAST[1])
    assert guest.sh("cat /sys/class/net/eth1/mtu") == "1500"
    assert guest.sh("cat /sys/class/net/eth1/address") not in (MAC, "00:00:00:00:00:00")


@pytest.mark.parametrize("size", (1, 1372, 9000, 60000))
def test_ping(guest, size):
    """Both ways, also what does not fit into one packet."""
    assert "0% packet loss" in guest.sh(f"ping -q -c 3 -W 20 -s {size} {FAST[2]}")
    subprocess.run(["ping", "-q", "-c", "3", "-W", "20", "-s", str(size), GUEST_FAST], check=True, stdout=subprocess.PIPE)


@pytest.mark.parametrize("direction", ("to the guest", "from the guest"))
def test_iperf3(guest, direction):
    """TCP flows, in packets much larger than the MTU: segmentation is left to whoever needs it last."""
    before = tap_counts(FAST[0])
    assert iperf(GUEST_FAST, "-t", "2", *(["-R"] if direction == "from the guest" else [])) > 0
    after = tap_counts(FAST[0])
    mine = "rx" if direction == "from the guest" else "tx"
    size = (after[f"{mine}_bytes"] - before[f"{mine}_bytes"]) / (after[f"{mine}_packets"] - before[f"{mine}_packets"])
    assert size > 1.25 * FAST[1]    # never above the MTU without offloads; a slow sender fills few of them


def test_iperf3_both_ways_at_once(guest):
    assert iperf(GUEST_FAST, "-t", "2", "--bidir", "-P", "4") > 0


@pytest.mark.parametrize("address", (GUEST_FAST, GUEST_SLOW))
def test_data_from_the_guest(guest, address):
    """TCP's checksum is offloaded, so the data's own is what counts."""
    host = address[:-1] + "1"
    count = 16 if address == GUEST_FAST else 1
    with socket.create_server((host, 7000)) as server:
        seen = {}

        def receive():
            with server.accept()[0] as sock:
                seen["data"] = recv_all(sock)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        wanted = guest.sh(f"dd if=/dev/shm/data bs=1M count={count} 2>/dev/null | socat -u - TCP:{host}:7000; "
                          f"dd if=/dev/shm/data bs=1M count={count} 2>/dev/null | md5sum", 300)
        thread.join()
    assert hashlib.md5(seen["data"]).hexdigest() == wanted.split()[0]


@pytest.mark.parametrize("address", (GUEST_FAST, GUEST_SLOW))
def test_data_to_the_guest(guest, address):
    data = os.urandom((16 if address == GUEST_FAST else 1) * MIB)
    guest.sh("socat -u TCP-LISTEN:7001,reuseaddr OPEN:/dev/shm/got,creat,trunc >/dev/null 2>&1 &")

    def connect():
        try:
            return socket.create_connection((address, 7001))
        except ConnectionRefusedError:
            return None

    with wait_for(connect, "socat in the guest") as sock:
        sock.sendall(data)
    seen = guest.sh("while pidof socat >/dev/null; do usleep 20000; done; md5sum /dev/shm/got", 300)
    assert seen.split()[0] == hashlib.md5(data).hexdigest()


def test_large_datagrams(guest):
    """Fragments, or one large packet where both sides know how; every one whole."""
    guest.sh("socat -b 65536 -u UDP-RECV:7002 OPEN:/dev/shm/got,creat,trunc >/dev/null 2>&1 & usleep 500000")
    data = os.urandom(40 * 30000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for start in range(0, len(data), 30000):
            sock.sendto(data[start:start + 30000], (GUEST_FAST, 7002))
            time.sleep(0.02)    # there is no flow control
    seen = guest.sh("sleep 1; killall socat; md5sum /dev/shm/got; wc -c </dev/shm/got")
    assert seen.split()[0] == hashlib.md5(data).hexdigest(), seen


@pytest.mark.parametrize("direction", ("to the guest", "from the guest"))
def test_rate_limiter(guest, direction):
    args = ["-t", "3", "-O", "1", *(["-R"] if direction == "from the guest" else [])]
    slow, fast = iperf(GUEST_SLOW, *args), iperf(GUEST_FAST, *args)
    assert slow > PER_SECOND * 8 / 10, slow     # slow, not dead
    assert fast > 2 * slow, f"{slow / 1e6:.1f} Mbit/s with the limit, {fast / 1e6:.1f} without"
    throttled = "rx_rate_limiter_throttled" if direction == "to the guest" else "tx_rate_limiter_throttled"
    assert guest.metrics()["net_slow"][throttled] > 0


def test_limit_taken_away(guest):
    none = {"bandwidth": {"size": 0, "refill_time": 0}}
    limited = iperf(GUEST_SLOW, "-t", "2")
    guest.api.ok("PATCH", "/network-interfaces/slow", {"iface_id": "slow", "rx_rate_limiter": none, "tx_rate_limiter": none})
    assert iperf(GUEST_SLOW, "-t", "2") > 1.5 * limited


def test_tap_down_and_up(guest):
    """What is sent meanwhile is lost; nothing else is."""
    ip("link", "set", FAST[0], "down")
    assert "100% packet loss" in guest.try_sh(f"ping -q -c 2 -W 1 {FAST[2]}")[1]
    ip("link", "set", FAST[0], "up")
    assert "0% packet loss" in guest.sh(f"ping -q -c 3 -W 20 {FAST[2]}")


def test_metrics(guest):
    counted = guest.metrics()
    fast = counted["net_fast"]
    for name in ("rx_bytes_count", "tx_bytes_count"):
        assert fast[name] > 16 * MIB
        assert counted["net"][name] == fast[name] + counted["net_slow"][name]
    assert fast["rx_packets_count"] > 0 and fast["tx_packets_count"] > 0
    assert fast["tx_malformed_frames"] == fast["rx_fails"] == fast["activate_fails"] == 0


def test_what_the_kernel_says(guest):
    said = guest.sh("dmesg")
    assert "eth0" not in "\n".join(line for line in said.splitlines() if "bad gso" in line or "hung" in line.lower())


def test_tap_deleted(guest):
    """The device under the guest's network goes away: it is silent from then on, and the rest of the machine lives."""
    ip("link", "del", FAST[0])
    assert "100% packet loss" in guest.try_sh(f"ping -q -c 2 -W 1 {FAST[2]}")[1]
    cpu = cpu_seconds(guest.machine)
    time.sleep(2)
    assert cpu_seconds(guest.machine) - cpu < 0.5
    assert "0% packet loss" in guest.sh(f"ping -q -c 2 -W 20 {SLOW[2]}")


def cpu_seconds(machine):
    with open(f"/proc/{machine.pid}/task/{machine.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
