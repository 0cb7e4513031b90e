#!/bin/busybox sh
# The first program of the guest: find the disk and go on from there.
B=/bin/busybox
$B mount -t devtmpfs devices /dev
for module in /modules/*.ko; do $B insmod "$module"; done
tries=0
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do
    tries=$((tries + 1))
    [ $tries -lt 250 ] || { echo "BENCH: no disk"; $B poweroff -f; }
    $B usleep 20000
done
$B mount -t ext4 -o rw,noatime /dev/vda /newroot || { echo "BENCH: the disk cannot be mounted"; $B poweroff -f; }
$B mount --move /dev /newroot/dev
exec $B switch_root /newroot /sbin/init-bench
