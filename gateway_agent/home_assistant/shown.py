"""What MQTT shows of a home: these values and nothing else, so that no secret can come into a message.

Times are Unix seconds, 0 for never.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShownGateway:
    """The gateway. `version` of keycast runs, `installed` is on the disk: they differ until it is started again.

    `alarms`: what a person should look at, in words; `uplink`: the CPNS Server answers.
    """

    version: str
    installed: str
    uplink: bool
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A Service Group. `version`: that of its key in words, "" for none.

    `key_age_s`: seconds since the key was made, None if that is not known.
    """

    sg_id: str
    version: str
    members: int
    confirmed: int
    key_age_s: int | None


@dataclass(frozen=True, slots=True)
class ShownUpdate:
    """How far a board is with updates, as in `updates.status.BoardStatus`; a number is 0 for none."""

    state: str
    agent_number: int
    firmware_number: int
    offered_number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ShownBoard:
    """A board. `available`: it was heard in the last two days. `groups`: (SG ID, confirmed version) of each of its.

    `link`: by which link the last confirmed key came, "" if that is not known; `version`: that key's, in words;
    `update`: None if the board has said nothing about updates.
    """

    pne_id: str
    software: str
    available: bool
    heard_at: int
    confirmed_at: int
    link: str
    version: str
    groups: tuple[tuple[str, str], ...]
    update: ShownUpdate | None = None


@dataclass(frozen=True, slots=True)
class ShownHome:
    """A gateway with its Service Groups and its boards."""

    gateway: ShownGateway
    groups: tuple[ShownGroup, ...]
    boards: tuple[ShownBoard, ...]
