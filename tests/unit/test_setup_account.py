"""Root sets up the gateway of another account, such as that of the package: everything is that account's."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keycast.program import program
from keycast.services import units
from keycast.services.units import SYSTEM, USER, unit_of
from tests.privileges import needs_root

NOBODY = 65534


def open_to_all(folder: Path) -> None:
    """Let another account reach a test's folder, which pytest makes for one only."""
    for each in (folder, folder.parent, folder.parent.parent):
        os.chmod(each, 0o755)


@needs_root
def test_commands_for_the_gateway_of_another_account_are_given_as_its_setup_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all(tmp_path)
    (tmp_path / "keycast-state").mkdir()
    words = ["setup", str(tmp_path / "keycast.toml"), "--yes", "--interface", "lo", "--json"]
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    own = CliRunner().invoke(program(words), words)
    os.chown(tmp_path / "keycast-state", NOBODY, NOBODY)
    of_another = CliRunner().invoke(program(words), words)
    for run, begin in ((own, "keycast "), (of_another, "sudo keycast ")):
        assert all(each["command"].startswith(begin) for each in json.loads(run.stdout)["steps"]), run.stdout


@needs_root
def test_what_root_makes_for_another_account_is_that_account_s(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    state, config, secret = tmp_path / "state", tmp_path / "keycast.toml", tmp_path / "secret"
    state.mkdir(0o700)
    os.chown(state, NOBODY, NOBODY)
    secret.write_text("correct horse\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        plane = f'[message_plane]\nlisten = ["127.0.0.1"]\nport = {free.getsockname()[1]}\ndiscovery = false\n'
    config.write_text(
        f'[gateway]\nid = "gw"\npn = "home"\nstate_dir = "state"\n[broadcast]\ninterfaces = ["lo"]\n{plane}'
    )
    config.chmod(0o640)
    os.chown(config, 0, NOBODY)
    words = ["setup", str(config), "--yes", "--web", "this-machine", "--web-password-file", str(secret)]
    run = CliRunner().invoke(program(words), [*words, "--server-host", "10.0.0.3"])
    assert run.exit_code == 0, run.output
    assert os.geteuid() == 0 and "would not run" not in run.output
    made = list(state.rglob("*"))
    assert {"web.password", "identity.key"} <= {each.name for each in made}
    assert {each.stat().st_uid for each in made} == {NOBODY}
    status = config.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, NOBODY, 0o640)


@needs_root
def test_a_file_that_root_makes_in_a_person_s_folder_is_that_person_s(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    words = ["setup", str(tmp_path / "keycast.toml"), "--yes", "--interface", "lo"]
    assert CliRunner().invoke(program(words), words).exit_code == 0
    assert (tmp_path / "keycast.toml").stat().st_uid == NOBODY
    assert "User=nobody\n" in unit_of(SYSTEM, tmp_path / "keycast.toml").text


def test_the_unit_of_the_package_counts_for_the_file_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, config = tmp_path / units.NAME, tmp_path / "keycast.toml"
    monkeypatch.setattr(units, "_PACKAGED", packaged)
    monkeypatch.setattr(units, "_PACKAGED_CONFIG", config)
    assert unit_of(SYSTEM, config).text
    packaged.touch()
    assert unit_of(SYSTEM, config) == units.Unit(units.NAME, packaged, "", of_user=False)
    assert unit_of(USER, config).text and unit_of(SYSTEM, tmp_path / "other.toml").text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("scope", [USER, SYSTEM])
def test_systemd_accepts_the_units(tmp_path: Path, scope: str) -> None:
    config = tmp_path / "a file of 100% $HOME.toml"
    config.touch()
    path = tmp_path / units.NAME
    path.write_text(unit_of(scope, config).text)
    how = ["--user"] if scope == USER else []
    command = ["systemd-analyze", *how, "verify", "--man=no", str(path)]
    variables = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
    assert found.returncode == 0 and units.NAME not in found.stderr, found.stderr
