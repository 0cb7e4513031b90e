"""The Wi-Fi station of a board, which is switched on first and kept connected. Modem sleep is as the firmware sets it:
a broadcast waits in the access point for the next beacon, some 0.1 to 0.3 s.

The record `wifi` of the key store has the access point's name and password: CBOR `[1, name, password]`.
"""

import network

RECORD = "wifi"
FORMAT = 1
CONNECT_MS = 15000
RETRY_MIN_MS = 1000
RETRY_MAX_MS = 60000
CHECK_MS = 1000

# Reasons in the ESP32's `status()`, those of IEEE 802.11 and Espressif's own from 200 on -> code of `status_lines`
_TROUBLE = {
    201: "no-access-point",
    202: "wrong-password",
    15: "wrong-password",  # the access point does not go on with the handshake that shows that both know it
    204: "wrong-password",
}


class Station:
    """The one station interface of the board. It is not connected before `keep_connected` runs."""

    def __init__(self):
        self._wlan = network.WLAN(network.STA_IF)
        self._name = self._password = None
        self.connects = 0  # number of connections made since the start
        self.trouble = ""  # why the last try to connect failed, a code of `status_lines`, or "" if it did not

    @property
    def named(self):
        """True if the board knows an access point."""
        return self._name is not None

    def switch_on(self):
        """Power the radio, which allocates its memory at once."""
        self._wlan.active(True)

    def load(self, store):
        """Read the access point's name and password, if any, from `store`, a ports.Storage. Raises ValueError."""
        from cpns import cborlite
        from device_agent.key_store import KeyStore

        record = KeyStore(store).load(RECORD)
        if record:
            form, self._name, self._password = cborlite.decode(record)
            if form != FORMAT:
                raise ValueError("the wifi record has an unknown format")

    def connected(self):
        """Return True while the station has an address in a network."""
        return self._wlan.isconnected()

    def broadcast_address(self):
        """Return the directed broadcast address of the network, or None while not connected."""
        if not self._wlan.isconnected():
            return None
        from device_agent.links.udp import directed_broadcast

        return directed_broadcast(*self._wlan.ifconfig()[:2])

    async def keep_connected(self):
        """Connect, and connect again whenever the connection is lost, with growing pauses. Never returns."""
        import asyncio

        self._wlan.config(reconnects=0)  # the driver's own tries would make ours fail
        pause = RETRY_MIN_MS
        while True:
            if self._name is None:
                await asyncio.sleep_ms(RETRY_MAX_MS)
            elif self._wlan.isconnected():
                pause = RETRY_MIN_MS
                await asyncio.sleep_ms(CHECK_MS)
            elif await self._connect(asyncio.sleep_ms):
                self.connects += 1
            else:
                await asyncio.sleep_ms(pause)
                pause = min(2 * pause, RETRY_MAX_MS)

    async def _connect(self, sleep_ms):
        # Return True if the connection was made within CONNECT_MS
        try:
            self._wlan.connect(self._name, self._password)
            for _ in range(CONNECT_MS // 100):
                if self._wlan.isconnected():
                    self.trouble = ""
                    return True
                await sleep_ms(100)
                if not self.trouble and self._wlan.status() in _TROUBLE:
                    break  # only the first time, as the driver keeps the reason until it is connected
            self.trouble = _TROUBLE.get(self._wlan.status(), "no-connection")
            self._wlan.disconnect()
        except OSError:
            # the driver is between two states; switching it off and on resets it for the next try
            self._wlan.active(False)
            self._wlan.active(True)
        return False
