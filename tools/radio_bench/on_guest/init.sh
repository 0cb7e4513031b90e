#!/bin/sh
# Process 1 of the guest: file systems and D-Bus, then the program that executes what the host asks for. No systemd.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export PYTHONPATH=/opt/keycast/site:/opt/keycast PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /dev/pts /dev/shm /run/dbus /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t ext4 -o ro /dev/vdb /opt/keycast
hostname bench
ip link set lo up
modprobe -a virtio_console virtio_rng
[ -s /etc/machine-id ] || dbus-uuidgen > /etc/machine-id
dbus-daemon --system --fork --nopidfile
python3 -m tools.radio_bench.on_guest.agent
echo o > /proc/sysrq-trigger
sleep 60
