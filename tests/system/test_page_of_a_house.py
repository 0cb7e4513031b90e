"""The page of a real gateway with virtual boards, used by a person in a real Chromium."""

import asyncio
import re

import pytest

from cpns.in_words import version_text
from device_agent import discovery
from device_agent.key_store import KeyStore
from gateway_agent import clock
from keycast.demo.house import PN_ID
from tests.system.conftest import house_of
from tests.system.test_system_pairing import address_of, new_board, secret_of
from tests.system.watching import keyed, newest
from tools.pages.chromium import PROGRAM, browser, logged_in
from tools.pages.stage import served, sight_of

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt install chromium")

SG = "home/lights"


@pytest.mark.req("SEC-20")
async def test_a_person_re_keys_expels_and_lets_in_and_the_page_tells_the_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "synchronised", lambda: True)
    async with (
        house_of(tmp_path, 3) as house,
        new_board(tmp_path / "new") as board,
        served(sight_of(house.app, house.server)) as (url, link),
        browser() as chromium,
        logged_in(chromium, link()) as page,
    ):
        house.server.create_group(SG, open_to=[PN_ID])
        await asyncio.gather(*(each.command("join", group=SG, timeout_s=180) for each in house.boards.values()))
        version = await keyed(house, SG, list(house.boards))
        await page.get_by_text("3 of 3 boards").wait_for()  # live: nobody has loaded the page again
        await page.get_by_role("heading", name="Every board has confirmed its newest keys").wait_for()
        row = re.sub(r"\s+", " ", await page.locator("table.boards tbody tr").first.inner_text())
        assert re.search(
            rf"confirmed {re.escape(version_text(version))} by (Wi-Fi|its session) \d+ s ago, \d+ (try|tries)", row
        )
        assert re.search(r"heard \d+ s ago", row)

        await page.get_by_role("link", name=SG).first.click()
        await page.get_by_role("button", name="Update the key").click()
        await page.get_by_text("A new key is on its way to all members.").wait_for()
        version = await keyed(house, SG, list(house.boards), above=version)
        await page.get_by_text(f"version {version_text(version)}").wait_for()
        await page.get_by_text("3 of 3 boards").first.wait_for()

        gone, *staying = house.boards
        await page.get_by_role("link", name=f"Expel {gone}").click()
        await page.get_by_role("button", name=f"Expel {gone}").click()
        await page.get_by_text(f"{gone} is out; a new key is on its way to the others.").wait_for()
        await keyed(house, SG, staying, above=version)
        await page.get_by_text("2 of 2 boards").first.wait_for()
        await page.get_by_text(f"version {version_text(newest(house, SG))}").wait_for()

        shown = await secret_of(board)
        await board.kill()
        KeyStore(board.nvs).save(discovery.RECORD, address_of(house.app).encode())  # no discovery here
        await board.start()
        await page.goto(url + "/let-in")
        await page.get_by_label("Name for the board").fill("lamp.new")
        await page.get_by_label("Its secret").first.fill(shown)
        await page.get_by_role("button", name="Wait for the board").click()
        await page.get_by_text("lamp.new is in.").wait_for(timeout=180_000)
        await page.get_by_role("link", name="lamp.new").click()
        await page.get_by_text("lamp.new is paired and let in").wait_for()
        assert shown not in await page.content()

        await page.goto(f"{url}/group?sg={SG}&ask=delete")
        await page.get_by_role("button", name="Delete the group").click()
        await page.get_by_text("No board of this home has joined a group yet").wait_for()
