"""What `keycast board rescue` asks before it erases."""

import pytest
import typer
from typer.testing import CliRunner

from keycast.commands.board import rescue


@pytest.mark.parametrize(("typed", "erases"), [("y\n", True), ("n\n", False), ("", False)], ids=["yes", "no", "nobody"])
def test_only_a_yes_erases_and_without_a_person_there_is_none(typed: str, erases: bool) -> None:
    app = typer.Typer()

    @app.command()
    def asked() -> None:
        print(rescue._is_confirmed("Erase all that it knows?"))

    run = CliRunner().invoke(app, [], input=typed)
    assert run.exit_code == 0 and run.stdout.strip().endswith(str(erases))
