"""The contract of a sender of BLE adverts, the table of all senders, and the choice among them.

A sender is one file in this folder and one line in `SENDERS`. It puts one payload after the other on the air and knows
nothing of objects, rows and keys: `ble_medium` decides what the next payload is. A module of the table has
`open_sender`. It is imported when its sender is wanted, as each needs other packages of the extra `ble`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from gateway_agent.errors import GatewayError
from gateway_agent.radios.ble_scanner import Scanner
from gateway_agent.radios.medium import News, Radio, Step
from message_plane.links.gatt import Carrier

if TYPE_CHECKING:
    from gateway_agent.radios.ble import BleSection

_log = logging.getLogger(__name__)

SENDERS: dict[str, str] = {
    "mgmt": "gateway_agent.radios.ble_mgmt",
    "bluez": "gateway_agent.radios.ble_bluez",
    "hci": "gateway_agent.radios.ble_hci",
    "virtual": "gateway_agent.radios.ble_virtual",
}
"""Value of `sender` -> module."""
AUTOMATIC = ("mgmt", "bluez")
"""The senders that "auto" tries, in this order. The others need a controller that the configuration names."""

PAYLOAD_LEN = 28
"""Octets of a payload: length, type 0xff, company id (2), advert (24). Flags, 3 octets, are left to the sender."""

Take = Callable[[], bytes | None]
"""A function that returns the next payload for a free place on the air, PAYLOAD_LEN octets, or None if there is none.

Each call is for one place. The payload counts as sent when the function returns, and is on the air until the next
payload of the same place, or for `BleSender.frame_s` if there is none.
"""


class NoSender(GatewayError):
    """A sender that cannot work on this machine at present. The text says why and what a person can do."""


class BleSender(Protocol):
    """A controller, or a share of one, that advertises non-connectable payloads, each at several advertising events.

    No method except `close` waits. A method may raise any exception, which counts as a failure of the radio.
    """

    @property
    def name(self) -> str:
        """The name of the sender in the table."""
        ...

    @property
    def adapter(self) -> str:
        """The name of the adapter that is used, such as "hci0", "" while there is none."""
        ...

    @property
    def frame_s(self) -> float:
        """Seconds from one payload to the next, for all places together; more than 0."""
        ...

    @property
    def instances(self) -> int:
        """How many places there are: payloads that are on the air at the same time. At least 1."""
        ...

    @property
    def interval_ms(self) -> float:
        """The advertising interval that is really used, in milliseconds; 0 while it is not known."""
        ...

    @property
    def scanner(self) -> Scanner | None:
        """The scanner of a controller that only this process can use, else None."""
        ...

    @property
    def carrier(self) -> Carrier | None:
        """The carrier of connections of such a controller, else None."""
        ...

    @property
    def up(self) -> bool:
        """True while payloads can be expected to go on the air."""
        ...

    @property
    def problem(self) -> str:
        """Why payloads do not go on the air, in words and with the next step; "" if nothing is wrong."""
        ...

    @property
    def advice(self) -> str:
        """How a person can make its adverts faster, in words and with the next step; "" if that is not possible."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """The steps of recovery, from mild to harsh: register again, power cycle, reset. It raises nothing."""
        ...

    def start(self, take: Take, news: News) -> None:
        """Begin to call `take` for each free place, and `news` on changes of `up`. Called once.

        When `take` returns None the sender rests until `wake`.
        """
        ...

    def wake(self) -> None:
        """Call `take` again, as there are payloads again. Does nothing if the sender is not resting."""
        ...

    def withdraw(self) -> None:
        """Take all payloads off the air: none of them is sent after the advert that is under way now (SEC-38).

        The command that does so has been given when this method returns. The sender goes on with `take` by itself.
        """
        ...

    async def close(self) -> None:
        """End all advertising of this sender, only its own, and release the controller. `take` is not called after."""
        ...


class SenderKind(Protocol):
    """The names that the module of a sender must have."""

    def open_sender(self, section: "BleSection", counters: Counter[str]) -> BleSender:
        """Return the sender for a section, which does not advertise before `BleSender.start`. It does not wait.

        Raises NoSender if it cannot work here; ImportError if a package of the extra `ble` is not installed.
        """
        ...


def kind(name: str) -> SenderKind:
    """Return the module of the sender called `name`. Raises KeyError, ImportError."""
    return cast(SenderKind, import_module(SENDERS[name]))


def choose(section: "BleSection", counters: Counter[str]) -> tuple[BleSender | None, dict[str, str]]:
    """Return the sender that a section names, with "auto" the first that works here; None if there is none.

    The second value says for each sender that was tried in vain why it cannot work, in words and with the next step.
    """
    reasons: dict[str, str] = {}
    for name in AUTOMATIC if section.sender == "auto" else (section.sender,):
        try:
            return kind(name).open_sender(section, counters), reasons
        except NoSender as refusal:
            reasons[name] = str(refusal)
        except ImportError as missing:
            reasons[name] = (
                f"The package {(missing.name or 'of the extra ble').partition('.')[0]} is not installed. "
                "Install the extra: pip install 'keycast[ble]'"
            )
        except Exception as fault:  # noqa: BLE001 - the gateway runs without BLE, too
            _log.exception("KC1114 the sender %s cannot be opened", name)
            reasons[name] = f"It failed: {fault}. This is a fault of keycast: please report it."
    return None, reasons


def radio_of(sender: BleSender | None, in_vain: Mapping[str, str]) -> Radio:
    """Return what a sender, None for none, says of itself at this moment; `in_vain` as `choose` returns it."""
    if sender is None:
        return Radio("", in_vain=in_vain)
    return Radio(
        sender.name,
        sender.adapter,
        sender.interval_ms,
        sender.instances,
        sender.frame_s,
        sender.problem,
        sender.advice,
        in_vain,
    )
