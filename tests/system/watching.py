"""A house of virtual boards as the tests see it: the version that each board holds, and the frames on the air."""

import asyncio
import time
from collections.abc import Callable, Iterable

from cpns import broadcast_object, numbers
from cpns.errors import MalformedMessage
from keycast.demo.house import PN_ID, House
from tests.waiting import PATIENCE_S


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S, what: str = "") -> float:
    """Wait until `condition()` holds; the seconds it took. Fails the test with `what` if it does not in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, what or "waited in vain"
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


def events(house: House, name: str, kind: str, **values: object) -> list[dict]:
    """What board `name` has told: its events `kind` with these values."""
    wanted = {"event": kind, **values}
    return [event for event in house.boards[name].events if wanted.items() <= event.items()]


def held(house: House, name: str, sg_id: str) -> int:
    """The newest version that board `name` has stored, 0 for none."""
    return max((event["version"] for event in events(house, name, "key", group=sg_id)), default=0)


def newest(house: House, sg_id: str) -> int:
    """The version that the CPNS Server has made last."""
    return house.server.show_group(sg_id).version


def confirmed(house: House, sg_id: str) -> dict[str, int]:
    """PNE ID -> the version that the Server was told it has confirmed."""
    return {member.pne_id: member.confirmed for member in house.server.show_group(sg_id).members}


async def keyed(
    house: House, sg_id: str, names: Iterable[str], *, above: int = 0, timeout_s: float = PATIENCE_S
) -> int:
    """Wait until these boards hold the newest key, which is above version `above`, and no other is on its way."""
    names = list(names)

    def settled() -> bool:
        version = newest(house, sg_id)
        pending = house.server.show_group(sg_id).update_pending
        return not pending and version > above and all(held(house, name, sg_id) == version for name in names)

    def missing() -> str:
        return f"{sg_id}: newest {newest(house, sg_id)}, held {[held(house, name, sg_id) for name in names]}"

    try:
        async with asyncio.timeout(timeout_s):
            while not settled():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(missing()) from None
    return newest(house, sg_id)


async def join(house: House, sg_id: str, names: Iterable[str], trust: str | None = None) -> int:
    """Let these boards join `sg_id`, which is made if need be, and wait until all of them hold its newest key."""
    if sg_id not in [group.sg_id for group in house.server.list_groups()]:
        house.server.create_group(sg_id, open_to=[PN_ID], trust=trust)
    names = list(names)
    how = {"group": sg_id, "trust": trust, "timeout_s": 180}
    await asyncio.gather(*(house.boards[name].command("join", **how) for name in names))
    return await keyed(house, sg_id, names)


def objects(frames: Iterable[bytes], version: int | None = None) -> list[broadcast_object.Received]:
    """The broadcast objects among `frames`, all or those of one version."""
    found = []
    for frame in frames:
        if frame[:1] != bytes([numbers.FRAME_COSE_SIGN1]):
            continue
        try:
            received = broadcast_object.parse(frame)
        except MalformedMessage:
            continue
        if isinstance(received, broadcast_object.Received) and version in (None, received.version):
            found.append(received)
    return found


def group_messages(frames: Iterable[bytes]) -> list[bytes]:
    """The group messages among `frames`."""
    return [frame for frame in frames if frame[:1] == bytes([numbers.FRAME_GROUP_MESSAGE])]
