"""The group of a virtual board that joins one: it is made if there is none, by whoever comes first."""

from pathlib import Path
from typing import Any

import pytest

from gateway_agent.errors import Refused
from keycast.commands.board import newcomer
from keycast.commands.board.newcomer import Newcomer
from tests.unit.home_world import SG, configured

ALREADY = f"there is a Service Group {SG} already"


@pytest.mark.parametrize("made_meanwhile", [True, False])
def test_a_group_that_another_board_makes_at_this_moment_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_meanwhile: bool
) -> None:
    lists: list[list[dict[str, str]]] = [[], [{"sg_id": SG}] if made_meanwhile else []]

    def asked(config: Path, state: None, do: str, **arguments: Any) -> Any:
        if do == "group.list":
            return lists.pop(0)
        assert do == "group.create" and arguments["sg_id"] == SG
        raise Refused(ALREADY, "not-allowed")

    monkeypatch.setattr(newcomer, "asked", asked)
    config = configured(tmp_path)
    if made_meanwhile:
        Newcomer("porch", SG, config)
    else:
        with pytest.raises(Refused, match=ALREADY):
            Newcomer("porch", SG, config)
    assert lists == []
