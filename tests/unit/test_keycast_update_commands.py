"""`keycast update offer`, `status` and `withdraw`, over the control socket of a gateway that runs."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_agent.control import ControlSocket
from keycast.program import program
from keycast.services.steering import commands
from tests.unit.home_world import BOARDS, SG, Home
from tests.unit.update_world import FIRMWARE_ID, Board, image, signed

# the command blocks this thread while the gateway answers in the loop of another one
pytestmark = pytest.mark.real_time


class Desk:
    """A person beside a gateway with the boards lamp, door and desk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder)

    async def type(self, *words: str) -> tuple[int, str]:
        typed = ["update", *words, "--config", str(self.home.path)]
        run = await asyncio.to_thread(CliRunner().invoke, program(typed), typed, env={"COLUMNS": "200"})
        return run.exit_code, run.output

    async def told(self, *words: str) -> Any:
        return json.loads((await self.type(*words, "--json"))[1])

    def file(self, name: str, octets: bytes) -> str:
        (self.folder / name).write_bytes(octets)
        return str(self.folder / name)


async def test_an_update_goes_from_one_board_to_all_and_is_withdrawn(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    five = desk.file("five.suit", signed(5, image(100_000)))  # more than a line over the socket used to have
    async with desk.home.running() as service:
        await desk.home.live(service)
        assert "No update is offered" in (await desk.type("status"))[1]
        code, text = await desk.type("offer", five, "--board", "lamp")
        assert code == 0 and "agent update 5" in text and "is offered to lamp: 1 board that may run it" in text
        assert "Nobody has verified its signature: the gateway has no update key" in text
        code, text = await desk.type("offer", five, "--board", "door", "--group", SG)
        assert code == 0 and f"to door, lamp and the members of {SG}: {len(BOARDS)} boards" in text
        assert (await desk.told("offer", five))["pne_ids"] == []
        seen = await desk.told("status")
        assert [each["number"] for each in seen["offers"]] == [5]
        assert [(each["pne_id"], each["state"], each["since"]) for each in seen["boards"]] == [
            (name, "", None) for name in sorted(BOARDS)
        ]
        code, text = await desk.type("status")
        assert code == 0 and "all boards" in text and text.count("has not reported") == len(BOARDS)
        code, text = await desk.type("withdraw", "5")
        assert code == 0 and "agent update 5" in text and "is withdrawn." in text
        assert (await desk.told("status"))["offers"] == []


async def test_a_number_that_boards_have_passed_is_told_to_who_offers_it(tmp_path: Path) -> None:
    """Such as one that was chosen by hand: no board takes it, and nobody else would say why."""
    desk = Desk(tmp_path)
    five = desk.file("five.suit", signed(5))
    async with desk.home.running() as service:
        await desk.home.live(service)
        assert "this number or a higher one" not in (await desk.type("offer", five))[1]
        for count, name in enumerate(("lamp", "door"), 1):
            report = Board(None, key=b"")
            report.agent_number = 4 + count
            service.app.updates.handle(name, report.report_octets())
            have = ("1 of them has", "2 of them have")[count - 1]
            code, text = await desk.type("offer", five)
            assert code == 0 and f"{have} this number or a higher one: no board takes a lower one" in text


async def test_an_update_that_no_board_takes_says_so_to_who_offers_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    five = desk.file("five.suit", signed(5))
    async with desk.home.running() as service:
        await desk.home.live(service)
        assert "No board" not in (await desk.type("offer", five))[1]
        await desk.type("withdraw")
        for name in BOARDS:
            report = Board(None, key=b"", classes=(FIRMWARE_ID,))
            service.app.updates.handle(name, report.report_octets())
        code, text = await desk.type("offer", five)
        assert (
            code == 0
            and f"No board that is let in takes it. For which boards it is: keycast update show {five}" in text
        )


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (("offer", "JUNK"), "the image of the agent is no ROMFS image", "malformed-message"),
        (("offer", "FILE", "--board", "lmap"), "there is no board 'lmap'. Did you mean 'lamp'?", "unknown"),
        (("offer", "FILE", "--group", "home/lihgts"), "Did you mean 'home/lights'?", "unknown"),
        (("offer", "FILE", "--board", "lamp", "--broadcast"), "a broadcast is for all boards", "usage"),
        (("offer", "FILE", "--sealed", SG), "only a broadcast is sealed", "usage"),
        (("offer", "FILE", "--sealed", ""), "only a broadcast is sealed", "usage"),
        (("offer", "FILE", "--broadcast", "--sealed", ""), "is empty, which does not stand for all", "usage"),
        (("offer", "FILE", "--board", ""), "is empty, which does not stand for all", "usage"),
        (("offer", "FILE", "--group", SG, "--group", ""), "is empty, which does not stand for all", "usage"),
        (("offer", "FILE", "--broadcast", "--sealed", "home/no"), "there is no Service Group 'home/no'.", "unknown"),
        (("offer", "FILE", "--broadcast"), "no network for broadcasts is up", "not-allowed"),
        (("offer", "OLDER"), "update 5 is offered there, which is newer than 4", "not-allowed"),
        (("offer", "CUT"), "CUT: the envelope cannot be read: CBOR: truncated. Take a whole copy", "malformed-message"),
        (("offer", "OTHER"), "OTHER is no update. Make one: keycast update sign", "store-unusable"),
        (("offer", "NONE"), "Make one: keycast update sign", "store-unusable"),
        (("withdraw", ""), "the number or ID of the update is empty", "usage"),
        (("withdraw", "6"), "no update 6 is offered; those are: 5", "unknown"),
    ],
)
async def test_what_is_wrong_is_said(tmp_path: Path, words: tuple[str, ...], sentence: str, code: str) -> None:
    desk = Desk(tmp_path)
    files = {
        "FILE": signed(5),
        "OLDER": signed(4),
        "CUT": signed(6)[:-1],
        "OTHER": b"[gateway]\n",
    }
    files["JUNK"] = signed(6, bytes(5000))
    names = {name: desk.file(name, octets) for name, octets in files.items()} | {"NONE": str(tmp_path / "NONE")}
    async with desk.home.running() as service:
        await desk.home.live(service)
        await desk.type("offer", names["FILE"])
        refused = await desk.told(*(names.get(word, word) for word in words))
        assert sentence in refused["error"] and refused["code"] == code
        assert [each["number"] for each in (await desk.told("status"))["offers"]] == [5]


@pytest.mark.parametrize(
    ("how", "sentence", "code"),
    [
        ({"file": None}, "base64", "malformed-message"),
        ({"file": 5}, "base64", "malformed-message"),
        ({"file": "ä"}, "base64", "malformed-message"),
        ({"boards": "lamp"}, "lists of names", "malformed-message"),
        ({"boards": ["lamp", 5]}, "lists of names", "malformed-message"),
        ({"boards": [["lamp"]]}, "lists of names", "malformed-message"),
        ({"groups": None}, "lists of names", "malformed-message"),
        ({"groups": {"home/lights": 1}}, "lists of names", "malformed-message"),
        ({"sealed": [SG], "broadcast": True}, "lists of names", "malformed-message"),
        ({"broadcast": "yes"}, "true or false", "malformed-message"),
        ({"groups": [""]}, "there is no Service Group ''", "unknown"),
        ({"boards": [""]}, "there is no board ''", "unknown"),
    ],
)
async def test_the_control_socket_takes_no_other_types(
    tmp_path: Path, how: dict[str, Any], sentence: str, code: str
) -> None:
    desk = Desk(tmp_path)
    request = {"do": "update.offer", "with": {"file": base64.b64encode(signed(5)).decode()} | how}
    async with desk.home.running() as service:
        await desk.home.live(service)
        socket = ControlSocket(desk.folder / "unused", commands(service.app, service.server, lambda: None))  # type: ignore[arg-type,return-value]
        answer = await socket.answer(json.dumps(request).encode())
        assert sentence in answer["error"] and answer["code"] == code
        assert service.app.updates.status()["offers"] == []


async def test_without_a_gateway_nothing_answers(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.home.state.mkdir(mode=0o700)
    for words in (("status",), ("withdraw",), ("offer", desk.file("five.suit", signed(5)))):
        assert (await desk.told(*words))["code"] == "control-unavailable"
