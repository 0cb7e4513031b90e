"""`keycast group show` and `group create --trust` as a person sees and types them, for an end-to-end group."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from keycast.commands import group
from keycast.program import program
from tests.unit.end_to_end_house import SG, EndToEndHouse


@pytest.fixture
async def view(tmp_path: Path) -> dict[str, Any]:
    """What the Server tells of a group with one board that has the key, and one without an Entity User Key."""
    house = await EndToEndHouse.with_group(tmp_path)
    home = house.gateway("home")
    await house.member(home, "lamp")
    await house.member(home, "door", known=False)
    await house.answer_all(home)
    shown = json.loads(json.dumps(asdict(house.server.show_group(SG))))
    await house.server.close()
    return dict(shown)


def test_it_says_for_each_board_which_way_which_version_and_after_how_many_tries(
    view: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "ask", lambda *_, **__: view)
    words = ["group", "show", SG]
    run = CliRunner().invoke(program(words), words)
    assert run.exit_code == 0, run.output
    lines = {line.split()[0]: line.split() for line in run.output.splitlines() if "end-to-end" in line}
    assert "trust end-to-end" in run.output and "proved" in run.output
    assert lines["lamp"][1:6] == ["pn.home", "end-to-end", "settled", "0.1", "0.1"] and lines["lamp"][-2:] == ["1", "1"]
    assert lines["door"][1:6] == ["pn.home", "end-to-end", "keyless", "0.1", "-"]


def test_trust_is_passed_on_as_it_is_typed(view: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def ask(_: Path, __: Path | None, do: str, **how: Any) -> Any:
        asked[do] = how
        return [] if do == "group.list" else view

    monkeypatch.setattr(group, "ask", ask)
    words = ["group", "create", SG, "--trust", "end-to-end"]
    run = CliRunner().invoke(program(words), words)
    assert run.exit_code == 0, run.output
    assert asked["group.create"]["trust"] == "end-to-end"
