#!/bin/sh
# An access point on wlan0 (10.77.0.1) and one station on wlan1 (10.77.0.11), which is in the network namespace "station".
# `wifi.sh up` or `wifi.sh down`.
set -e
folder=/run/wifi
case $1 in
up)
    modprobe mac80211_hwsim radios=2
    mkdir -p $folder
    ip netns add station
    iw phy "$(cat /sys/class/net/wlan1/phy80211/name)" set netns name station # the card goes with its radio
    cat > $folder/hostapd.conf <<END
interface=wlan0
driver=nl80211
ssid=bench
hw_mode=g
channel=6
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase=benchbench
END
    cat > $folder/station.conf <<END
ctrl_interface=$folder/station
network={
 ssid="bench"
 psk="benchbench"
 key_mgmt=WPA-PSK
 scan_freq=2437
}
END
    ip addr add 10.77.0.1/24 broadcast + dev wlan0
    hostapd -B -f $folder/hostapd.log -P $folder/hostapd.pid $folder/hostapd.conf
    ip -n station link set lo up
    ip -n station addr add 10.77.0.11/24 broadcast + dev wlan1
    ip netns exec station wpa_supplicant -B -i wlan1 -D nl80211 -c $folder/station.conf -P $folder/station.pid
    tries=0
    until ip netns exec station wpa_cli -p $folder/station -i wlan1 status | grep -q wpa_state=COMPLETED; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo "the station is not let in" >&2; exit 1; }
        sleep 0.3
    done
    ;;
down)
    kill "$(cat $folder/hostapd.pid)" "$(cat $folder/station.pid)" || true
    ip netns delete station
    modprobe -r mac80211_hwsim
    ;;
esac
