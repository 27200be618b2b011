# SPDX-License-Identifier: Apache-2.0
# Run by bench-guest in the guest: fio on the scratch drive, all jobs in one start of fio, one after the other.
# $scratch, $seconds, $mib and $only (jobs, with commas; default all) come from the kernel command line.
# fio asserts on the processor's cache line size, and the kernel reads nonsense or nothing off some emulated processors:
# give it 64 everywhere.
cpu=/sys/devices/system/cpu/cpu0
mount -t tmpfs none $cpu && busybox mkdir -p $cpu/cache/index0 && echo 64 > $cpu/cache/index0/coherency_line_size
dev=${scratch:-/dev/vdb}
cat > /tmp/jobs <<JOBS
[global]
filename=$dev
direct=1
ioengine=libaio
time_based
runtime=${seconds:-3}
ramp_time=1
size=${mib:-256}m
randrepeat=1
group_reporting
[randread_d1]
stonewall
rw=randread
bs=4k
iodepth=1
[randwrite_d1]
stonewall
rw=randwrite
bs=4k
iodepth=1
[randread_d32]
stonewall
rw=randread
bs=4k
iodepth=32
[randwrite_d32]
stonewall
rw=randwrite
bs=4k
iodepth=32
[seqread_128k]
stonewall
rw=read
bs=128k
iodepth=8
[seqwrite_128k]
stonewall
rw=write
bs=128k
iodepth=8
JOBS
sections=
for job in $(echo "${only:-}" | busybox tr , ' '); do sections="$sections --section=$job"; done
cd /tmp && HOME=/tmp fio --output-format=terse --terse-version=3 $sections /tmp/jobs > /tmp/out || exit 1
# Field 5 is the error, 7/8 KiB/s and IOPS read, 48/49 the same written.
busybox awk -F';' '$1 == 3 {
	if ($5 != 0) { print "RESULT error " $3 " failed with " $5; next }
	if ($3 ~ /_128k$/) print "RESULT " $3 " " ($7 + $48) / 1024
	else print "RESULT " $3 " " ($8 + $49)
}' /tmp/out
