#!/bin/sh
# bluetoothd as systemd and D-Bus keep it on a usual system: started again when it has ended. Options are passed to it.
while :; do
    /usr/libexec/bluetooth/bluetoothd -n -d "$@"
    echo "bluetoothd has ended with $?"
    sleep 1
done
