"""The updates of a gateway without its network: what boards ask comes as octets."""

import asyncio
import base64
from collections import Counter
from pathlib import Path
from typing import Any

from cpns.cborlite import decode
from gateway_agent.core import events
from gateway_agent.core.alarms import UPDATE
from gateway_agent.core.ports import NoAnswer
from gateway_agent.radios.air import AllMedia
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.tree_masters import fingerprint
from gateway_agent.updates.service import BoardUpdates
from gateway_agent.updates.status import BoardStatus
from gateway_agent.updates.update_key import UpdateKey
from suit import numbers as n
from tests.unit.gateway_world import Clock
from tests.unit.scripted_medium import ScriptedHome, ScriptedMedium
from tests.unit.update_world import KEY, Board, id_of, signed

FRAME_KEY = bytes(range(16))
FIVE = signed(5)


class World:
    """A gateway's updates with boards lamp, door and desk, of which lamp and door are members of a group."""

    def __init__(self, folder: Path, key: UpdateKey | None = KEY.public) -> None:
        self.folder = folder
        self.key = key
        self.told: list[events.Event] = []
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.on_bluetooth: set[str] = set()
        self.medium = ScriptedMedium(name="wifi", airtime=0.009, gap=0.31)
        self.counters: Counter[str] = Counter()
        self.alarms: dict[str, str] = {}
        self.open()

    def open(self) -> None:
        self.store = GatewayStore(self.folder / "store")
        if self.store.pn.get() is None:
            self.store.tree_masters.create(1, bytes(32))
            with self.store.transaction():
                self.store.pn.create("home", "gw", 1)
                self.store.slots.add_generation(1, 10, 1, fingerprint(bytes(32)), 0)
                for name in ("lamp", "door", "desk"):
                    self.store.pn.register(name, 1)
                self.store.inventory.ensure_group("home/lights")
                for name in ("lamp", "door"):
                    self.store.inventory.add_member("home/lights", name, 0, 1)
        self.air = AllMedia([self.medium])
        self.air.open(lambda frame: None, ScriptedHome())
        self.updates = BoardUpdates(
            store=self.store,
            folder=self.folder / "updates",
            key=self.key,
            air=self.air,
            frame_keys=lambda generation: [FRAME_KEY],
            unicast=self,
            boards=self.store.pn.pnes,
            is_on_bluetooth=self.on_bluetooth.__contains__,
            clock=Clock(),
            tell=self.tell,
            counters=self.counters,
            set_alarm=self.set_alarm,
        )
        self.updates.open()
        self.updates.start()

    def tell(self, event: events.Event) -> None:
        self.told.append(event)
        self.updates.follow(event)

    def set_alarm(self, kind: str, text: str, about: str) -> None:
        assert kind == UPDATE
        self.alarms = {id: text for id, text in (self.alarms | {about: text}).items() if text}

    async def close(self) -> None:
        await self.updates.close()
        await self.air.close()
        self.store.close()

    def board(self, name: str, **how: Any) -> Board:
        async def ask(octets: bytes) -> bytes:
            return self.updates.handle(name, octets)

        return Board(ask, **how)

    def of(self, pne_id: str) -> BoardStatus:
        (found,) = [each for each in self.updates.status()["boards"] if each.pne_id == pne_id]
        assert isinstance(found, BoardStatus)
        return found

    async def offer(self, file: bytes = FIVE, *boards: str, group: str = "", broadcast: bool = False) -> bytes:
        text = base64.b64encode(file).decode()
        await self.updates.offer(text, boards, [group] if group else [], broadcast=broadcast)
        return id_of(file)

    # as the sessions with boards

    async def request(self, pne_id: str, message: bytes) -> bytes | None:
        assert decode(message) == [n.ASK]
        self.asked.append(pne_id)
        if pne_id in self.silent:
            await asyncio.sleep(10)
            raise NoAnswer("no answer")
        return None

    def has_session(self, pne_id: str) -> bool:
        return pne_id != "desk"

    def drop(self, pne_id: str) -> None:
        raise AssertionError
