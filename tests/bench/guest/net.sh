# SPDX-License-Identifier: Apache-2.0
# Run by bench-guest in the guest: iperf3 against the host's end of the tap, both directions, and ping.
host=${host:-172.31.255.1}
guest=${guest:-172.31.255.2}
ip link set lo up
ip addr add "$guest/30" dev eth0 && ip link set eth0 up || exit 1
megabits()
{
	iperf3 -c "$host" -f m -t "${seconds:-3}" -O 1 "$@" > /tmp/iperf 2>&1 || { tail -3 /tmp/iperf; return 1; }
	busybox awk '/receiver/ { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") print $(i - 1) }' /tmp/iperf
}
rtt=$(ping -q -c 200 -i 0.005 "$host" | busybox sed -n 's|^round-trip.*= [0-9.]*/\([0-9.]*\)/.*|\1|p')
[ -n "$rtt" ] || { echo "RESULT error no answer to ping from $host"; exit 1; }
echo "RESULT ping_ms $rtt"
tx=$(megabits) || { echo "RESULT error iperf3 to the host: $tx"; exit 1; }
echo "RESULT tx_mbit $tx"
rx=$(megabits -R) || { echo "RESULT error iperf3 from the host: $rx"; exit 1; }
echo "RESULT rx_mbit $rx"
