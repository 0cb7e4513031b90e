"""Root sets up the gateway of another account, such as that of the package: everything is that account's."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keycast import places
from keycast.free_ports import free_port
from keycast.program import program
from keycast.services import units
from keycast.services.units import SYSTEM, USER, unit_of
from tests.privileges import needs_root
from tests.waiting import PATIENCE_S

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
    plane = f'[message_plane]\nlisten = ["127.0.0.1"]\nport = {free_port()}\ndiscovery = false\n'
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
    for name in ("keycast.toml", "next.toml"):  # the second will be that person's
        assert "User=nobody\n" in unit_of(SYSTEM, tmp_path / name, tmp_path / "state").text


def test_the_unit_of_the_package_counts_for_the_file_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, config = tmp_path / units.NAME, tmp_path / "keycast.toml"
    monkeypatch.setattr(units, "_PACKAGED", packaged)
    monkeypatch.setattr(units, "PACKAGED_CONFIG", config)
    assert unit_of(SYSTEM, config, tmp_path).text
    packaged.touch()
    assert unit_of(SYSTEM, config, tmp_path) == units.Unit(units.NAME, packaged, "", of_user=False)
    assert unit_of(USER, config, tmp_path).text and unit_of(SYSTEM, tmp_path / "other.toml", tmp_path).text
    assert "CAP_NET_ADMIN" in unit_of(SYSTEM, config, tmp_path, bluetooth=True).bluetooth
    assert not unit_of(USER, config, tmp_path, bluetooth=True).bluetooth


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("scope", [USER, SYSTEM])
def test_systemd_accepts_the_units(tmp_path: Path, scope: str) -> None:
    config = tmp_path / "a file of 100% $HOME.toml"
    config.touch()
    path = tmp_path / units.NAME
    path.write_text(unit_of(scope, config, tmp_path / "a 'state' of 100% $HOME").text)
    how = ["--user"] if scope == USER else []
    command = ["systemd-analyze", *how, "verify", "--man=no", str(path)]
    variables = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=variables)
    assert found.returncode == 0 and units.NAME not in found.stderr, found.stderr


def settings(text: str) -> list[tuple[str, str]]:
    """The assignments of a unit, in their order."""
    lines = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    return [(name, value) for name, is_setting, value in lines if is_setting]


OURS = {"ExecStart", "WorkingDirectory", "User", "ProtectHome", "PrivateTmp", "ReadWritePaths", "WantedBy"}


@pytest.mark.parametrize("scope", [USER, SYSTEM])
def test_a_unit_has_the_settings_of_the_package_and_no_others(scope: str) -> None:
    packaged = settings((places.UNITS / units.NAME).read_text())
    made = settings(unit_of(scope, Path("/keycast.toml"), Path("/keycast-state")).text)
    names = {name for name, _ in made}
    assert [each for each in made if each[0] not in OURS] == [
        each for each in packaged if each[0] in names and each[0] not in OURS
    ]
    left_out = {name for name, _ in packaged} - names
    if scope == SYSTEM:
        assert left_out == {"Documentation", "Group", "StateDirectory", "StateDirectoryMode"}
        assert dict(made)["ReadWritePaths"] == "/keycast-state"
    else:  # what takes mounts, namespaces, control groups or capabilities
        assert not {name for name in names if re.match("Private|Protect|Capab|Ambient|Device|Group|User|State", name)}
        assert {"SystemCallFilter", "RestrictAddressFamilies", "MemoryDenyWriteExecute", "NoNewPrivileges"} <= names
        assert not left_out & {"WatchdogSec", "Type", "RestartPreventExitStatus", "UMask", "StartLimitBurst"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize(("scope", "most"), [(USER, 6.5), (SYSTEM, 2.2)])  # what is in home folders can be read
def test_the_sandbox_leaves_little_exposed(tmp_path: Path, scope: str, most: float) -> None:
    path = tmp_path / units.NAME
    path.write_text(unit_of(scope, Path("/keycast.toml"), Path("/keycast-state")).text)
    command = ["systemd-analyze", "security", "--offline=true", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    assert float(re.findall(r"exposure level for \S+: ([\d.]+)", found)[0]) <= most
