"""The story of `keycast demo --trust end-to-end`: a group whose key the PN GW carries unread, and an ordinary one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cpns import cborlite, messages
from cpns.fingerprint import fingerprint
from cpns.key_ring import KeyRing
from device_agent import membership
from device_agent.key_store import KeyStore
from keycast.demo.house import House
from keycast.demo.story import SG_ID as LIGHTS
from keycast.demo.story import DemoFigures, Say, Story, counted
from keycast.demo.watched_gateway import WatchedGateway
from keycast.virtual_board.board import VirtualBoard
from keycast.virtual_board.thief import Thief

ALARM = "home/alarm"
END_TO_END = "end-to-end"


@dataclass
class Confirmation:
    """The proof of one board that it has a version, as the CPNS Server shows it."""

    pne_id: str
    version: int
    way: str
    tries: int


@dataclass
class EndToEndFigures(DemoFigures):
    """What the story measures besides. `excluded_opened`: versions whose wrapped keys the expelled board could open.

    `gateway_holds_ordinary`: the search for keys in the PN GW has found that of the ordinary group, as it must.
    """

    trust: str = END_TO_END
    confirmations: list[Confirmation] = field(default_factory=list)
    wrapped_count: int = 0
    excluded_opened: list[int] = field(default_factory=list)
    gateway_holds_ordinary: bool | None = None
    gateway_could_read: bool | None = None

    @property
    def good(self) -> bool:
        """True if neither the board that was thrown out nor the PN GW got at a key that is not theirs."""
        return super().good and self.gateway_holds_ordinary is True and self.gateway_could_read is False


class EndToEndStory(Story):
    """The demo in `houses` whose CPNS Server is elsewhere."""

    sg_ids = (LIGHTS, ALARM)
    figures: EndToEndFigures

    def __init__(self, houses: Sequence[House], figures: EndToEndFigures, say: Say) -> None:
        super().__init__(houses, figures, say)
        apps = [house.app for house in houses]  # `build_houses` makes watched ones if the Server is elsewhere
        self._gateways = [app for app in apps if isinstance(app, WatchedGateway)]

    async def play(self) -> None:
        """Play the whole story. Raise TimeoutError if a board is still without its key after two minutes."""
        server, several = self._server, len(self._houses) > 1
        gateways = f"{len(self._houses)} PN GWs" if several else "the PN GW"
        self._say(f"{len(self.boards)} boards run MicroPython and make their sessions with {gateways}")
        shown = fingerprint(server.credential())
        from_it = "them" if several else "it"
        self._say(f"the CPNS Server listens apart from {from_it}; each board was told its credential ({shown})")
        server.create_group(LIGHTS, open_to=self._pn_ids)
        server.create_group(ALARM, open_to=self._pn_ids, trust=END_TO_END)
        self._say(f"two Service Groups are created: {LIGHTS}, an ordinary one, and {ALARM}, which is end-to-end")
        await self._delivered(LIGHTS, "members join", self._join_all)
        await self._delivered(ALARM, "members join", partial(self._join_all, trust=END_TO_END))
        self._tell_confirmations()
        await self._talk(ALARM, self.members[0], "door open")
        self._say(f"{self.expelled} is thrown out of both; it keeps its keys and goes on listening")
        await self._delivered(LIGHTS, "one is expelled", self._expel)
        await self._delivered(ALARM, "one is expelled", self._expel)
        self._tell_confirmations()
        await self._try_to_read()
        await self._try_to_unwrap()
        self._search_gateway()

    def _tell_confirmations(self) -> None:
        """Note and tell how each member has proved to the CPNS Server that it has the newest key."""
        proofs = [
            Confirmation(each.pne_id, each.accepted_version, each.way, each.tries)
            for each in self._server.show_group(ALARM).pne_deliveries
            if each.accepted_version == each.wanted_version
        ]
        self.figures.confirmations += proofs
        told = ", ".join(f"{each.pne_id} ({each.way}, at try {each.tries})" for each in proofs)
        self._say(f"each has opened it and proved that to the Server: {told}")

    async def _try_to_unwrap(self) -> None:
        """Let the expelled board ask the CPNS Server, and a thief try its flash on all that the PN GW has carried."""
        refused = await self._pull_refused(ALARM)
        self.figures.pull_refused = bool(self.figures.pull_refused) and refused
        self._say(
            f"{self.expelled} asks the CPNS Server itself, through the tunnel: "
            + ("refused" if refused else "IT WAS GIVEN IT")
        )
        thief = Thief([self.boards[self.expelled].nvs])
        carried = [fields for _, fields in self._wrapped_keys()]
        opened = [
            fields[messages.VERSION]
            for fields in carried
            if thief.opens(*_names(fields), fields[messages.GROUP_KEY_INFO][1])
        ]
        self.figures.wrapped_count = len(carried)
        self.figures.excluded_opened = opened
        newest = self._newest(ALARM)
        could = newest in opened or self._held(ALARM, self.expelled) >= newest
        self.figures.excluded_could_read = bool(self.figures.excluded_could_read) or could
        self._say(
            f"with every octet of its flash against {counted(len(carried), 'wrapped key')} that were carried: "
            f"it opens {len(opened)}, " + ("THE NEW ONE AMONG THEM" if could else "its own of before, and no new one")
        )

    def _search_gateway(self) -> None:
        """Look for the newest keys of both groups in all that passed the PN GW, and in all that it stores."""
        lights, alarm = (newest_key(self.boards[self.members[0]], sg_id) for sg_id in self.sg_ids)
        self.figures.gateway_holds_ordinary = all(gateway.holds(lights) for gateway in self._gateways)
        self.figures.gateway_could_read = any(gateway.holds(alarm) for gateway in self._gateways)
        ordinary = "stands there" if self.figures.gateway_holds_ordinary else "WAS NOT FOUND"
        verdict = "STANDS THERE, TOO" if self.figures.gateway_could_read else "does not"
        who = (
            "the PN GWs have read, and of their files"
            if len(self._gateways) > 1
            else "the PN GW has read, and of its files"
        )
        self._say(
            f"of {counted(sum(len(each.passed) for each in self._gateways), 'message')} that {who}: the key of "
            f"{LIGHTS} {ordinary}, that of {ALARM} {verdict}"
        )

    def _wrapped_keys(self) -> list[tuple[bytes, dict[int, Any]]]:
        return [found for gateway in self._gateways for found in gateway.wrapped_keys(ALARM)]

    def _on_the_air(self, sg_id: str, version: int) -> tuple[list[bytes], str]:
        objects, method = super()._on_the_air(sg_id, version)
        if sg_id != ALARM:
            return objects, method
        wrapped = [message for message, fields in self._wrapped_keys() if fields[messages.VERSION] == version]
        return wrapped, END_TO_END

    def _confirmed(self, sg_id: str, version: int) -> int:
        if sg_id != ALARM:
            return super()._confirmed(sg_id, version)
        return sum(each.accepted_version == version for each in self._server.show_group(ALARM).pne_deliveries)


def _names(fields: dict[int, Any]) -> tuple[str, str, int]:
    return fields[messages.GROUP_KEY_INFO][0], fields[messages.SGID], fields[messages.VERSION]


def newest_key(board: VirtualBoard, sg_id: str) -> bytes:
    """Return the newest Group Key in the flash of a board."""
    record = KeyStore(board.nvs.snapshot()).load(membership.record_name("g", sg_id))
    assert record is not None  # the board is a member
    keys = KeyRing.load(cborlite.decode(record)[4], 0).receiving_keys(0)
    return bytes(keys[max(keys)])
