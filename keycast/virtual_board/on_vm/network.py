# The ESP32's `network` for a virtual board, whose "access point" is the network of the host.
import air
import machine

STA_IF, AP_IF = 0, 1
STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 1000, 1001, 1010, 201, 202


class WLAN:
    IF_STA, IF_AP = 0, 1
    PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2
    _pm = PM_PERFORMANCE
    _wanted = False

    def __init__(self, interface=STA_IF):
        if interface != STA_IF:
            raise OSError(19)  # ENODEV: no access point mode here

    def active(self, on=None):
        if on is not None:
            air.radio_on = bool(on)
            if not on:
                self.disconnect()
        return air.radio_on

    def connect(self, ssid=None, key=None, *, bssid=None):
        if not air.radio_on:
            raise OSError("Wifi Not Started")
        if air.WIFI_NAME:
            air.out_of_range = ssid != air.WIFI_NAME
            air.refused = STAT_WRONG_PASSWORD if key != air.WIFI_PASSWORD else 0
        WLAN._wanted = True
        self.isconnected()

    def disconnect(self):
        WLAN._wanted = air.connected = False

    def isconnected(self):
        air.connected = WLAN._wanted and air.radio_on and not air.out_of_range and not air.refused
        return air.connected

    def status(self, what=None):
        if what == "rssi":
            return -50
        if self.isconnected():
            return STAT_GOT_IP
        if not WLAN._wanted:
            return STAT_IDLE
        return STAT_NO_AP_FOUND if air.out_of_range else air.refused

    def ifconfig(self):
        if not self.isconnected():
            return ("0.0.0.0",) * 4
        return (air.ADDRESS, air.NETMASK, "0.0.0.0", "0.0.0.0")

    def config(self, name=None, **settings):
        if name == "mac":
            return machine.unique_id()
        if name == "pm":
            return WLAN._pm
        if name is not None:
            raise ValueError("unknown config param")
        WLAN._pm = settings.get("pm", WLAN._pm)
