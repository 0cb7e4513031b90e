"""`keycast board list`: no live board looks dead, even before its application has joined a group."""

import tomllib
from pathlib import Path

from gateway_agent.store.store import GatewayStore
from keycast.services.steering import commands
from tests.system.conftest import house_of
from tests.system.watching import join, until

VERSION = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]


async def test_a_living_board_has_a_session_was_heard_and_says_what_it_runs(tmp_path):
    async with house_of(tmp_path, 2) as house:
        asked = commands(house.app, house.server, house.app.observer().snapshot)

        def listed():
            return {board["pne_id"]: board for board in asked["board.list"]()}

        await until(lambda: all(board["session"] for board in listed().values()), what="two sessions")
        hall = listed()["lamp.hall"]
        assert hall["age_s"] < 60 and hall["heard_at"] and hall["address"].startswith("127.") and not hall["sg_ids"]
        await join(house, "home/lights", house.boards)
        assert {board["software"] for board in listed().values()} == {VERSION}
        await house.boards["lamp.hall"].stop()
        assert listed()["lamp.hall"]["session"] and listed()["lamp.hall"]["heard_at"] >= hall["heard_at"]
    store = GatewayStore(tmp_path / "gateway" / "store")
    known = store.pn.pne("lamp.hall")
    store.close()
    assert known.heard_at >= hall["heard_at"] and known.heard_from and known.software == VERSION
