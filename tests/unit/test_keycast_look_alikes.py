"""A person who types a name is told what it could be mistaken for (SEC-31); the name is not refused."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from keycast.commands import group
from keycast.commands.board import pair
from keycast.program import program

CYRILLIC = "l\u0430mp"
KNOWN: dict[str, Any] = {
    "board.list": [{"pne_id": "lamp", "credential": "aa"}],
    "board.pair": "lamp",
    "group.list": [{"sg_id": "lamp"}],
    "group.show": {"members": [{"pne_id": "lamp"}]},
    "group.create": {
        "sg_id": CYRILLIC,
        "version_text": "0.1",
        "policy": "open",
        "open_to": ["home"],
        "trust": "gateway",
    },
    "group.expel": "permitted",
    "trust": {"pn": "home"},
}


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize(
    "words",
    [
        ("board", "pair", CYRILLIC, "ABCD-EFGH-IJKL-MNOP"),
        ("group", "create", CYRILLIC),
        ("group", "permit", "light", CYRILLIC),
        ("group", "expel", "light", CYRILLIC),
    ],
)
def test_a_look_alike_is_pointed_out_where_a_person_types_it(words: tuple[str, ...], monkeypatch: Any) -> None:
    asked: list[str] = []

    def ask(config: Path, state: Path | None, do: str, **arguments: Any) -> Any:
        asked.append(do)
        return KNOWN.get(do)

    for module in (pair, group):
        monkeypatch.setattr(module, "ask", ask)
    done = CliRunner().invoke(program([words[0]]), list(words), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert f"Look twice: {CYRILLIC} looks like lamp, which is another name." in done.output
    assert ".".join(words[:2]) in asked
