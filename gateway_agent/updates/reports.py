"""What a board and its PN GW say to each other about updates, as octets and in words (docs/protocol.md section 16)."""

from dataclasses import dataclass

from cpns.cborlite import decode, encode
from cpns.errors import MalformedMessage
from suit import numbers as n

CLASS_ID = 16  # octets
CLASSES_MAX = 8
_KEY_IDS = (0, n.ID)  # octets
_DETAIL_MAX = 0xFFFF  # no update has so many pieces

STATES = {
    n.IDLE: "idle",
    n.COLLECTING: "collecting",
    n.WAITING: "waiting",
    n.TRIAL: "trial",
    n.FELL_BACK: "fell-back",
    n.REFUSED: "refused",
}
"""The words for the states of boards."""
REASONS = {
    n.NOT_CONFIRMED: "it did not reach its gateway with it",
    n.NOT_WHOLE: "the image in its flash was not the signed one",
    n.BOOT_LOADER: "its boot loader went back to the firmware before",
    n.CRASHED: "it crashed with it before it reached its gateway",
    n.NO_AGENT: "the signed image lacks files of an agent: sign the folder of `keycast board files`",
    n.OTHER_KEY: "it has another update key, which only a cable replaces",
    n.NO_KEY: "it has no update key: name one in [update] of the gateway",
    n.OTHER_CLASS: "it is for other boards or another firmware",
    n.OLD_NUMBER: "it has this number or a higher one already",
    n.TRIED_BEFORE: "it went back from this number, or from a higher one: sign a new one",
    n.NOT_UNDERSTOOD: "its agent does not read such a manifest",
    n.NO_ROOM: "its flash has no room left for it",
    n.FLASH_FAILED: "its flash cannot be written",
    n.NO_HEAP: "its code runs in its flash, which has no two slots, and its memory has no room for it: use a cable",
    n.NO_FLOOR: "its record of the numbers is damaged, so it takes none: use `keycast board rescue`",
    n.NO_SLOT: "both of its slots are in use, as its start could not read which one is to run: restart it",
}
"""Why a board went back or refused, in words that complete "because ..."."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What a board has said last. `class_ids`: what it accepts; `key_id`: of its update key, b"" without one.

    `agent_number` and `firmware_number`: the highest numbers that it has confirmed, 0 for none; `state`: one of
    `suit.numbers.IDLE` and so on; `wanted`: the number that it works on or has tried last; `detail`: pieces that it
    misses while it collects, or the reason why it went back or refused.
    """

    class_ids: tuple[bytes, ...]
    key_id: bytes
    agent_number: int
    firmware_number: int
    state: int
    wanted: int
    detail: int

    def number(self, kind: str) -> int:
        """Return the number that the board has confirmed of a kind, "agent" or "firmware"."""
        return self.firmware_number if kind == "firmware" else self.agent_number


def request(octets: bytes) -> UpdateReport | tuple[bytes, int, int]:
    """Return the UpdateReport or, of a PIECE, (update ID, what, index) in a request. Raises MalformedMessage."""
    match decode(octets):
        case [n.REPORT, classes, key_id, agent_number, firmware_number, state, wanted, detail]:
            return UpdateReport(
                _class_ids(classes),
                _octets(key_id, *_KEY_IDS),
                _number(agent_number),
                _number(firmware_number),
                _number(state),
                _number(wanted),
                _number(detail, _DETAIL_MAX),
            )
        case [n.PIECE, update_id, what, index]:
            return _octets(update_id, n.ID), _number(what), _number(index)
    raise MalformedMessage("no request about an update")


def answer(update_id: bytes, number: int, key: bytes, by_air_s: int) -> bytes:
    """Return the answer to a report: the update that the board is offered, b"" and 0 for none.

    `key`: the update key, x || y, for a board without one, else b""; `by_air_s`: seconds to wait before it pulls.
    """
    return bytes(encode([update_id, number, key, by_air_s]))


def piece(octets: bytes) -> bytes:
    """Return the answer to a PIECE."""
    return bytes(encode(octets))


def ask() -> bytes:
    """Return the request for a report."""
    return bytes(encode([n.ASK]))


def in_words(report: UpdateReport, is_offered: bool) -> str:
    """Return what a board does about updates; `is_offered`: there is one for it."""
    match report.state:
        case n.COLLECTING:
            return f"collects update {report.wanted}"
        case n.WAITING:
            return f"has update {report.wanted} and is about to restart"
        case n.TRIAL:
            return f"runs update {report.wanted} on trial"
        case n.FELL_BACK:
            return f"went back from update {report.wanted}"
        case n.REFUSED:
            return "takes no update" if report.detail == n.NO_FLOOR else f"refused update {report.wanted}"
    return "is offered an update" if is_offered else "wants no update"


def reason_in_words(report: UpdateReport) -> str:
    """Return why a board went back or refused, "" if it did not."""
    if report.state not in (n.FELL_BACK, n.REFUSED):
        return ""
    return REASONS.get(report.detail, f"reason {report.detail}, which this release does not know")


def _class_ids(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > CLASSES_MAX:
        raise MalformedMessage("no list of class IDs")
    return tuple(_octets(each, CLASS_ID) for each in value)


def _octets(value: object, *lengths: int) -> bytes:
    if not isinstance(value, bytes) or len(value) not in lengths:
        raise MalformedMessage("octets of a wrong length")
    return value


def _number(value: object, most: int = n.NUMBER_MAX) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise MalformedMessage(f"no number from 0 to {most}")
    return value
