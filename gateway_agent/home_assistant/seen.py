"""What MQTT shows of a snapshot of the gateway. Everything that is not taken here stays here."""

from importlib.metadata import version

from gateway_agent.home_assistant.shown import ShownBoard, ShownGateway, ShownGroup, ShownHome, ShownUpdate
from gateway_agent.observe.snapshot import BoardView, ServiceGroupView, Snapshot
from gateway_agent.updates.status import BoardStatus

SILENT_S = 2 * 86_400
"""A board asks for its keys once a day at least, so one that was not heard for two days is not available."""
HEARD_EVERY_S = 60
AGE_EVERY_S = 300
"""Times that change all the time are told in such steps."""


def shown_of(snapshot: Snapshot, installed: str) -> ShownHome:
    """Return what is shown of a snapshot. `installed`: the version of keycast that the next start will run."""
    gateway = ShownGateway(
        version=snapshot.version,
        installed=installed,
        uplink=snapshot.uplink.up,
        alarms=tuple(each.text for each in snapshot.alarms),
    )
    groups = tuple(_group(each, snapshot.at) for each in snapshot.groups)
    return ShownHome(gateway, groups, tuple(_board(each, snapshot.at) for each in snapshot.boards))


def installed() -> str:
    """Return the version of keycast on the disk, which may be newer than the one that runs."""
    return version("keycast")


def _group(group: ServiceGroupView, now: int) -> ShownGroup:
    age = now - group.key_made_at if group.key_made_at else None
    return ShownGroup(
        sg_id=group.sg_id,
        version=group.version_text if group.version else "",
        members=len(group.members),
        confirmed=group.confirmed,
        key_age_s=None if age is None else _step(max(0, age), AGE_EVERY_S),
    )


def _board(board: BoardView, now: int) -> ShownBoard:
    newest = max(board.memberships, key=lambda each: (each.confirmed_at, each.version), default=None)
    times = board.heard_at, newest.confirmed_at if newest else 0  # the first is stored from time to time only
    heard_at = max((each for each in times if each <= now + HEARD_EVERY_S), default=0)  # not by a clock that was ahead
    return ShownBoard(
        pne_id=board.pne_id,
        software=board.software,
        available=now - heard_at < SILENT_S if heard_at else board.session,
        heard_at=_step(heard_at, HEARD_EVERY_S),
        confirmed_at=newest.confirmed_at if newest else 0,
        link=newest.link if newest else "",
        version=newest.version_text if newest and newest.version else "",
        groups=tuple((each.sg_id, each.version_text if each.version else "") for each in board.memberships),
        update=None if board.update is None else _update(board.update),
    )


def _update(of: BoardStatus) -> ShownUpdate:
    """Return what is shown of an update, without the missing pieces: that would be a message for each."""
    return ShownUpdate(of.state, of.agent_number, of.firmware_number, of.offered_number, of.reason)


def _step(value: int, step: int) -> int:
    return value - value % step
