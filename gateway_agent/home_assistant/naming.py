"""The names of a gateway and its parts on MQTT: device IDs and topics.

Home Assistant takes IDs from [a-zA-Z0-9_-] only, and topics have characters of their own, so a name is written as a
`tag`. Different names have different tags.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

ONLINE, OFFLINE = b"online", b"offline"
"""The payloads of an availability topic."""
COMMAND = "command"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_TAG_MAX = 64
_DIGITS = 24  # of SHA-256: nobody finds two names with the same


@lru_cache(maxsize=4096)
def tag(name: str) -> str:
    """Return `name` in at most 64 characters of [a-zA-Z0-9_-]: "_" is "__", another octet is "_" and two hex digits.

    A longer one ends with "_h" and a hash instead, which no other tag contains.
    """
    escaped = "".join(chr(each) if each in _PLAIN else _escaped(each) for each in name.encode("utf-8", "surrogatepass"))
    if len(escaped) <= _TAG_MAX:
        return escaped
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{escaped[: _TAG_MAX - _DIGITS - 2]}_h{digest}"


def printable(name: str) -> str:
    """Return `name` as people may see it: control characters and right-to-left marks are shown by their number."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)


def _escaped(octet: int) -> str:
    return "__" if octet == ord("_") else f"_{octet:02x}"


@dataclass(frozen=True, slots=True)
class MqttNames:
    """The device IDs and topics of the gateway `gateway_id`, below the topics `prefix` and, for Home Assistant's
    discovery, `discovery`."""

    prefix: str
    discovery: str
    gateway_id: str

    @property
    def base(self) -> str:
        """The topic below which this gateway keeps all but its discovery."""
        return f"{self.prefix}/{tag(self.gateway_id)}"

    @property
    def availability(self) -> str:
        """Where the gateway says that it is there, and the broker that it is not."""
        return f"{self.base}/availability"

    @property
    def health(self) -> str:
        """Where the gateway says whether it lives and is ready."""
        return f"{self.base}/health"

    @property
    def state(self) -> str:
        """The state of the gateway."""
        return f"{self.base}/state"

    @property
    def birth(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.discovery}/status"

    @property
    def commands(self) -> str:
        """The filter of all topics at which commands arrive."""
        return f"{self.base}/group/+/{COMMAND}"

    @property
    def gateway_device(self) -> str:
        """The device ID of the gateway. What is behind it, "_g-" or "_p-", occurs in no tag."""
        return f"keycast-{tag(self.gateway_id)}"

    def group_device(self, sg_id: str) -> str:
        """Return the device ID of a Service Group."""
        return f"{self.gateway_device}_g-{tag(sg_id)}"

    def board_device(self, pne_id: str) -> str:
        """Return the device ID of a board."""
        return f"{self.gateway_device}_p-{tag(pne_id)}"

    def config(self, device: str) -> str:
        """Return the topic of the discovery message of a device."""
        return f"{self.discovery}/device/{device}/config"

    def group(self, sg_id: str, leaf: str) -> str:
        """Return a topic of a Service Group: its "state", its "event", its "command"."""
        return f"{self.base}/group/{tag(sg_id)}/{leaf}"

    def board(self, pne_id: str, leaf: str) -> str:
        """Return a topic of a board: its "state", its "availability"."""
        return f"{self.base}/board/{tag(pne_id)}/{leaf}"
