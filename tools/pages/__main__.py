"""`python -m tools.pages` makes the pictures of docs/operate.md anew, from a house of virtual boards."""

import asyncio
import tempfile
from pathlib import Path
from unittest.mock import patch

from gateway_agent import clock
from keycast.demo.house import PN_ID, build_house
from tools import PROJECT
from tools.pages.chromium import browser, logged_in
from tools.pages.stage import served, sight_of

PICTURES = PROJECT / "docs" / "pictures"
SG_ID = "home/lights"
BOARDS = 6
_AGE_S = 12.0  # of the key on the picture
_WIDE = {"width": 1000, "height": 640}
_PHONE = {"width": 390, "height": 520}


async def make(folder: Path) -> None:
    """Make the pictures. The house lives in `folder`."""
    PICTURES.mkdir(exist_ok=True)
    async with build_house(folder, boards=BOARDS) as house, browser() as chromium:
        house.server.create_group(SG_ID, open_to=[PN_ID])
        await asyncio.gather(*(board.command("join", group=SG_ID, timeout_s=180) for board in house.boards.values()))
        sight = sight_of(house.app, house.server)
        async with served(sight) as (url, link):
            async with logged_in(chromium, link(), viewport=_WIDE) as page:
                await page.get_by_text(f"{BOARDS} of {BOARDS} boards").first.wait_for()
                await asyncio.sleep(_AGE_S)
                await page.screenshot(path=PICTURES / "page-home.png")
                await page.goto(f"{url}/group?sg={SG_ID}&ask=expel&pne=lamp.porch")
                await page.screenshot(
                    path=PICTURES / "page-expel.png", clip={"x": 0, "y": 0, "width": 1000, "height": 300}
                )
            async with logged_in(chromium, link(), viewport=_PHONE, color_scheme="dark") as page:
                await page.goto(f"{url}/let-in")
                await page.get_by_label("Name for the board").fill("lamp.new")
                await page.get_by_label("Its secret").first.fill("ABCD-EFGH-IJKL-MNOP")
                await page.get_by_role("button", name="Wait for the board").click()
                await page.get_by_text("Waiting for lamp.new").wait_for()
                await page.screenshot(path=PICTURES / "page-let-in.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, patch.object(clock, "synchronised", lambda: True):
        asyncio.run(make(Path(temporary)))
