"""Where the PN GW may be: its provisioned address, else whoever answers a question to everybody.

An address is a hint, never a proof: EDHOC with the pinned credential decides (docs/protocol.md section 3).
"""

from device_agent import tuning

_GET, _CONTENT = 0x01, 0x45
_URI_PATH, _URI_QUERY = 11, 15
_OPTIONS = [(_URI_PATH, b".well-known"), (_URI_PATH, b"core"), (_URI_QUERY, b"rt=keycast.gw")]


class Discovery:
    """Hands out one address after the other; `provisioned` is the link's address value or None."""

    def __init__(self, provisioned):
        self._provisioned = provisioned
        self._hints = [provisioned] if provisioned else []

    def next(self):
        """Flow -> the next address to try, or None when nobody answered; every call gives another one if it can."""
        if not self._hints:
            answers = yield (None, _GET, _OPTIONS, b"", tuning.DISCOVERY_TIMEOUT)
            if self._provisioned:
                self._hints.append(self._provisioned)
            for address, message in answers:
                if message.code == _CONTENT and b'"keycast.gw"' in message.payload and address not in self._hints:
                    self._hints.append(address)
        return self._hints.pop(0) if self._hints else None
