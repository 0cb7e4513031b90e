"""The page of a board says how far it is with its updates."""

from dataclasses import replace
from pathlib import Path

from gateway_agent.observe.snapshot import BoardView
from gateway_agent.updates.status import BoardStatus
from tests.integration.web_world import Seen, opened, snapshot, with_password

UPDATE = BoardStatus(
    "lamp", 5, 0, 7, 6, "fell-back", "went back from update 6", "it reached no gateway <b>", 0, 86400, True
)
LAMP = BoardView("lamp", True, 0, None, "", "", "", False, (), UPDATE)


async def test_the_page_of_a_board_says_how_far_its_update_is(tmp_path: Path) -> None:
    with_password(tmp_path)
    collects = replace(
        UPDATE, state="collecting", text="collects update 7", reason="", missing_count=12, firmware_number=3
    )
    boards = (LAMP, replace(LAMP, pne_id="door", update=None), replace(LAMP, pne_id="desk", update=collects))
    async with opened(tmp_path, Seen(snapshot(boards=boards))) as page, page.browser() as browser:
        await browser.logs_in()
        text = (await browser.get("/board?pne=lamp")).text
        for words in (
            "number 5",
            "number 7",
            "went back from update 6, because it reached no gateway &lt;b&gt;",
            "1970-01-0",
        ):
            assert words in text
        assert "Firmware" not in text
        text = (await browser.get("/board?pne=desk")).text
        assert "It collects update 7: 12 pieces missing" in text and "number 3" in text and "because" not in text
        assert "is-warn" not in text
        assert "Updates" not in (await browser.get("/board?pne=door")).text
        lamp = (await browser.get("/board?pne=lamp")).text
        assert "<b>It went back from update 6, because it reached no gateway &lt;b&gt;.</b>" in lamp


async def test_the_first_page_says_what_each_board_runs_and_which_went_back(tmp_path: Path) -> None:
    with_password(tmp_path)
    lamp = replace(LAMP, software="1.2")
    desk = replace(
        lamp,
        pne_id="desk",
        update=replace(UPDATE, state="collecting", text="collects update 7", reason="", missing_count=12),
    )
    door = replace(lamp, pne_id="door", update=None)
    calm = {"state": "idle", "text": "wants no update", "reason": ""}
    idle = replace(lamp, pne_id="hall", update=replace(UPDATE, **calm, offered_number=0))
    offered = replace(lamp, pne_id="porch", update=replace(UPDATE, **calm | {"text": "is offered an update"}))
    async with (
        opened(tmp_path, Seen(snapshot(boards=(desk, door, idle, lamp, offered)))) as page,
        page.browser() as browser,
    ):
        await browser.logs_in()
        text = (await browser.get("/")).text
        for words in (
            "version 1.2, update 5</div>",
            "version 1.2, update 5, collects update 7: 12 pieces missing</div>",
            "version 1.2</div>",
            "version 1.2, update 5, an update is offered</div>",
            '<div class="warn small">went back from update 6, because it reached no gateway &lt;b&gt;</div>',
        ):
            assert words in text
        assert text.count("went back") == 1 and "wants no update" not in text
        text = (await browser.get("/?look=behind")).text
        assert "pne=lamp" in text and "pne=door" not in text and "pne=desk" not in text
