"""Tab completion completes commands, and names that the running gateway knows; a failure completes nothing,
silently."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway_agent.control import ControlSocket

CONFIG = '[gateway]\nid = "gw"\npn = "home"\nstate_dir = "state"\n'


def completed(line: str, shell: str = "bash") -> list[str]:
    """What the shell is told for this line, the cursor being at its end."""
    words = line.split(" ")
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    code = "import sys; sys.argv = ['keycast']; from keycast import main; main()"
    environment = {**os.environ, "_KEYCAST_COMPLETE": f"complete_{shell}"}
    environment |= {name: asked[name] for name in asked if (shell == "bash") != name.startswith("_")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.fixture
async def config(tmp_path: Path) -> AsyncIterator[Path]:
    """A gateway's configuration, with what answers as its gateway would."""
    path = tmp_path / "keycast.toml"
    path.write_text(CONFIG)
    (tmp_path / "state").mkdir(mode=0o700)
    names = {
        "group.list": lambda: [{"sg_id": "home/lights"}, {"sg_id": "home/doors"}, {"sg_id": "attic"}],
        "board.list": lambda: [{"pne_id": "lamp.porch"}, {"pne_id": "lamp.hall"}],
    }
    control = ControlSocket(tmp_path / "state" / "control.sock", names)
    await control.open()
    yield path
    await control.close()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
async def test_commands_are_completed(shell: str) -> None:
    assert any("status" in each for each in await asyncio.to_thread(completed, "keycast st", shell))
    assert any("expel" in each for each in await asyncio.to_thread(completed, "keycast group ex", shell))


async def test_names_of_the_running_gateway_are_completed(config: Path) -> None:
    assert await asyncio.to_thread(completed, f"keycast group show -c {config} home/") == ["home/doors", "home/lights"]
    assert await asyncio.to_thread(completed, f"keycast board retire -c {config} lamp.h") == ["lamp.hall"]
    assert await asyncio.to_thread(completed, f"keycast group expel -c {config} home/lights lamp.p") == ["lamp.porch"]


def test_without_a_gateway_there_is_no_name_and_no_complaint(tmp_path: Path) -> None:
    assert completed(f"keycast group show -c {tmp_path / 'none.toml'} ho") == []
    (tmp_path / "keycast.toml").write_text(CONFIG)
    assert completed(f"keycast group show -c {tmp_path / 'keycast.toml'} ho") == []
    (tmp_path / "keycast.toml").write_text("no TOML [")
    assert completed(f"keycast group show -c {tmp_path / 'keycast.toml'} ho") == []


def test_the_script_for_a_shell_is_shown_and_installed_on_demand_only() -> None:
    code = "import sys; sys.argv = ['keycast', '--help']; from keycast import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--install-completion" in result.stdout and "--show-completion" in result.stdout
