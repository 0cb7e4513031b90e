"""Removed boards keep all their keys and hear all frames, and none of them reads a later key, alone or together."""

import asyncio

import pytest

from device_agent import provisioning
from device_agent.key_store import KeyStore
from gateway_agent.core.groups.membership import Cause
from keycast.virtual_board.thief import Thief
from tests.system.conftest import house_of
from tests.system.watching import events, held, join, keyed, newest, objects

SG = "home/lights"


class Recorder:
    """Everything that was on the air, with the flash of boards as it was at some moment."""

    def __init__(self, house):
        self._house = house
        self.frames = []

    def listen(self):
        self.frames += self._house.sniffer.frames()
        return self.frames

    def readable(self, names, since=0):
        """Versions from `since` that the boards `names` together, with all they keep, read out of the frames."""
        thief = Thief([self._house.boards[name].nvs for name in names])
        frames = [frame for frame in self.listen() if any(seen.version >= since for seen in objects([frame]))]
        thief.hear(frames)
        return thief.readable()


@pytest.mark.req("CPNS-GKM-75", "CPNS-GKM-60", "SEC-01", "SEC-06")
async def test_every_removed_board_alone_and_all_of_them_together_read_nothing_new(tmp_path):
    async with house_of(tmp_path, 7) as house:
        names = list(house.boards)
        members, outsider = names[:6], names[6]
        await join(house, "another/group", [outsider])  # has a GKDK of the same tree
        air = Recorder(house)
        last_read = {}  # removed board -> the last version that was for it
        version = await join(house, SG, members)
        removed = []
        for leaver in (members[1], members[4], members[2]):
            version = house.server.update_key(SG)
            staying = [name for name in members if name not in removed]
            await keyed(house, SG, staying, above=version - 1)
            last_read[leaver] = version
            house.server.expel(SG, leaver)
            removed.append(leaver)
            version = await keyed(house, SG, [name for name in staying if name != leaver], above=version)
        house.server.update_key(SG)
        version = await keyed(house, SG, [name for name in members if name not in removed], above=version)

        on_air = {received.version for received in objects(air.listen())}
        assert version in on_air and set(last_read.values()) <= on_air
        for name in removed:
            assert max(air.readable([name], last_read[name])) == last_read[name] == held(house, name, SG)
        coalition = air.readable([*removed, outsider], max(last_read.values()))
        assert max(coalition) == max(last_read.values()) < version
        after_the_last_left = {seen for seen in on_air if seen > max(last_read.values())}
        assert after_the_last_left and not after_the_last_left & set(coalition)
        # the thief's tools do work: in a member's hands they read everything
        assert version in air.readable([members[0]], version)


@pytest.mark.req("SEC-04")
@pytest.mark.parametrize("flash", ["kept", "erased but for the identity"])
async def test_an_old_key_played_again_after_leave_and_join_is_refused(tmp_path, flash):
    async with house_of(tmp_path, 4) as house:
        names = list(house.boards)
        board = house.boards[names[0]]
        await join(house, SG, names)
        house.sniffer.frames()
        old = house.server.update_key(SG)
        await keyed(house, SG, names, above=old - 1)
        recorded = [frame for frame in house.sniffer.frames() if objects([frame], old)]
        assert recorded and events(house, names[0], "key", version=old)[0]["broadcast"]

        await board.command("leave", group=SG)
        await keyed(house, SG, names[1:], above=old)
        if flash != "kept":
            await board.kill()
            store = KeyStore(board.nvs)
            identity, wifi = store.load(provisioning.RECORD), store.load("wifi")
            board.nvs.erase()
            store.save(provisioning.RECORD, identity)
            store.save("wifi", wifi)
            await board.start()
        seen = len(board.events)
        replaying = asyncio.create_task(_replay(house, recorded))
        try:
            await board.command("join", group=SG, timeout_s=180)
            await keyed(house, SG, names, above=old + 1)
            await asyncio.sleep(1)
        finally:
            replaying.cancel()
        versions = [event["version"] for event in board.events[seen:] if event["event"] == "key"]
        assert versions and min(versions) > old
        assert (await board.command("status"))["groups"] == {SG: newest(house, SG)}


async def _replay(house, frames):
    while True:
        for frame in frames:
            house.sniffer.send(frame)
        await asyncio.sleep(0.02)


@pytest.mark.req("SEC-06", "CPNS-GKM-27", "CPNS-GKM-60")
async def test_a_board_that_is_reported_lost_loses_its_session_and_its_place_in_every_cover(tmp_path):
    async with house_of(tmp_path, 4) as house:  # three stay: they are keyed by broadcast
        lost, *others = house.boards
        air = Recorder(house)
        before = await join(house, SG, [lost, *others])
        assert house.app.gateway.administration.retire_pne(lost, Cause.LOST) == [SG]
        house.app.credentials.unregister(lost)
        assert not house.app.endpoint.has_session(lost)
        version = await keyed(house, SG, others, above=before)
        version = house.server.update_key(SG)
        await keyed(house, SG, others, above=version - 1)
        later = {seen.version for seen in objects(air.listen()) if seen.version > before}
        assert later == {before + 1, version}
        assert not later & set(air.readable([lost]))
        assert later <= set(air.readable([others[0]]))
        assert not house.app.endpoint.has_session(lost)  # its handshakes are refused, too
        assert held(house, lost, SG) == before
