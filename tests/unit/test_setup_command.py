"""`keycast setup` as a command: what it writes, what it leaves alone, and its sentences for what it cannot use."""

import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_agent.web import password
from keycast.program import program
from keycast.services import units
from keycast.setup import at_terminal, becoming_a_service, configuration_file, consequences, this_machine
from keycast.setup.this_machine import ThisMachine
from tests.privileges import needs_root
from tests.system.keycast_process import KEYCAST
from tests.unit.test_setup_questions import CREDENTIAL, HERE_IS, Person

QUIET = ("--yes", "--virtual-boards")
BY_HAND = '# mine\n[gateway]\nid = "gw"  # me\npn = "home"\nstate_dir = "state"\n\n[broadcast]\ninterfaces = ["lo"]\n'


@pytest.fixture(autouse=True)
def no_trial(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What hinders a start, which is tried elsewhere (tests/unit/test_keycast_check.py)."""
    hindrances: list[str] = []

    async def trial_of(*_: Any) -> str:
        return "".join(hindrances)

    monkeypatch.setattr(consequences, "trial_of", trial_of)
    monkeypatch.setattr(this_machine, "look", lambda: ThisMachine(HERE_IS.networks, []))
    return hindrances


def setup(*words: str) -> tuple[int, str, str]:
    run = CliRunner().invoke(program(["setup"]), ["setup", *words], env={"COLUMNS": "300"})
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, run.stdout, " ".join(run.stderr.split())


def in_json(*words: str) -> Any:
    return json.loads(setup(*words, "--json")[1])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    os.chmod(tmp_path, 0o700)
    yield tmp_path / "keycast.toml"


def test_unattended_it_writes_a_file_for_one_private_eye_and_says_what_comes_next(file: Path) -> None:
    code, printed, complaint = setup(str(file), *QUIET, "--id", "gw.attic", "--pn", "attic")
    assert (code, complaint) == (0, "") and file.stat().st_mode & 0o777 == 0o600
    tree = tomllib.loads(file.read_text())
    assert (tree["gateway"]["id"], tree["broadcast"]["interfaces"]) == ("gw.attic", ["auto", "lo"])
    assert f"keycast gateway run -c {file}" in printed
    assert f"keycast board run porch --join attic/lights -c {file}" in printed
    assert "keycast board provision lamp.porch --wifi" in printed
    assert os.listdir(file.parent) == ["keycast.toml"]


def test_typed_again_it_changes_what_is_said_and_keeps_comments_mode_and_all_else(file: Path) -> None:
    file.write_text(BY_HAND)
    file.chmod(0o640)
    told = in_json(str(file), "--yes")
    assert not told["written"] and file.read_text() == BY_HAND
    told = in_json(str(file), "--yes", "--id", "gw.attic")
    assert told["written"] and file.read_text() == BY_HAND.replace('"gw"', '"gw.attic"')
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_and_leads_to_the_file_that_is_changed(file: Path) -> None:
    file.write_text(BY_HAND)
    link = file.with_name("link.toml")
    link.symlink_to(file)
    assert in_json(str(link), "--yes", "--pn", "attic")["written"]
    assert link.is_symlink() and 'pn = "attic"' in file.read_text()


def test_nobody_is_asked_without_a_terminal_or_in_json(file: Path) -> None:
    for words in ((), ("--json",)):
        code, printed, complaint = setup(str(file), *words)
        assert code == 1 and "--yes" in printed + complaint
    assert json.loads(printed)["code"] == "not-confirmed" and not file.exists()


class Leaving(Person):
    """A person who types Ctrl-C at the question of a number."""

    number = 0

    def _answer(self, question: str, default: Any) -> Any:
        if len(self.asked) == self.number:
            raise KeyboardInterrupt
        return super()._answer(question, default)


@pytest.mark.parametrize("is_there", [False, True])
def test_ctrl_c_at_any_question_leaves_everything_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(at_terminal, "AtTerminal", Leaving)
    monkeypatch.setattr("keycast.commands.setup._is_at_terminal", lambda: True)
    if is_there:
        file.write_text(BY_HAND)
    for number in range(40):
        monkeypatch.setattr(Leaving, "number", number)
        code, _, complaint = setup(str(file), "--server-host", "10.0.0.3", "--id", "gw.x")
        if code == 0:
            break
        assert code == 130 and "is as it was" in complaint
        assert os.listdir(file.parent) == (["keycast.toml"] if is_there else [])
        assert not is_there or file.read_text() == BY_HAND
    assert number > 5 and 'id = "gw.x"' in file.read_text()


def test_what_hinders_a_start_is_told_and_does_not_hinder_the_file(file: Path, no_trial: list[str]) -> None:
    no_trial.append("UDP port 5683 is in use by process 7. Stop it.")
    assert in_json(str(file), *QUIET)["problems"] == [
        "It would not run now: UDP port 5683 is in use by process 7. Stop it."
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gateway\n", "Correct the TOML there"),
        ("\x00\x01", "Correct the TOML there"),
        ('[gateway]\nid = "gw"\n', "gateway.pn: missing"),
        (b"\xff\xfe", "not UTF-8"),
        ("#" * 70_000, "more than"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_and_left_alone(file: Path, text: str | bytes, told: str) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = file.read_bytes()
    code, _, complaint = setup(str(file), *QUIET)
    assert code == 1 and told in complaint and str(file) in complaint
    assert file.read_bytes() == before and os.listdir(file.parent) == ["keycast.toml"]


def test_an_empty_file_is_a_new_one(file: Path) -> None:
    file.touch()
    assert in_json(str(file), *QUIET)["written"] and "gw.home" in file.read_text()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("none/keycast.toml", *QUIET), 1, "There is no folder none"),
        ((".", *QUIET), 1, "is a folder"),
        (("keycast.toml", *QUIET, "--web", "everybody"), 2, "--web is one of no, this-machine, home-network"),
        (("keycast.toml", *QUIET, "--service", "yes"), 2, "--service is one of"),
        (("keycast.toml", *QUIET, "--server-here", "--server-host", "a"), 2, "the CPNS Server is in one place"),
        (("keycast.toml", *QUIET, "--web", "this-machine", "--web-password-file", "none"), 1, "no file none"),
        (("keycast.toml", "--yes", "--interface", "eth7"), 1, "Interface 'eth7'"),
        (("keycast.toml", "--yes", "--mqtt", "10.0.0.2"), 1, "is not the address of a broker"),
    ],
)
def test_words_that_cannot_be_meant_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, complaint = setup(*words)
    assert found == code and told in complaint.replace("│ ", "").replace(" │", "")
    assert not os.listdir(tmp_path)


def test_a_file_that_changes_meanwhile_is_not_overwritten(file: Path) -> None:
    file.write_text(BY_HAND)
    found = configuration_file.read(file)
    file.write_text(BY_HAND + "\n# more\n")
    with pytest.raises(Exception, match="was changed meanwhile"):
        found.write(BY_HAND.replace("gw", "gx"))
    assert file.read_text().endswith("# more\n")


@needs_root
@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        ("mount -t tmpfs -o size=4k none full && head -c 4096 /dev/zero > full/stopgap", "No space left on device"),
        ("mount -t tmpfs -o ro none full", "its file system is read-only"),
    ],
)
def test_a_disk_that_takes_nothing_is_told_and_left_alone(tmp_path: Path, prepare: str, told: str) -> None:
    (tmp_path / "full").mkdir()
    words = " ".join((*QUIET, "--interface", "lo"))
    line = f"cd {tmp_path} && {prepare} && {KEYCAST} setup full/keycast.toml {words}; code=$?; "
    line += "find full -type f ! -name stopgap; exit $code"
    result = subprocess.run(["unshare", "--mount", "bash", "-c", line], capture_output=True, text=True, timeout=240)
    assert result.returncode == 1 and told in result.stderr and "Traceback" not in result.stderr
    assert "full/keycast.toml\n" not in result.stdout.splitlines(keepends=True)[-1:]


def test_a_file_of_another_user_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(BY_HAND)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    code, _, complaint = setup(str(file), "--yes")
    assert code == 1 and f"{file} belongs to {file.owner()}. Give the command as that user: sudo -u" in complaint


def test_a_server_elsewhere_is_trusted_and_told_how_to_let_this_gateway_in(file: Path) -> None:
    words = ("--yes", "--server-host", "10.0.0.3", "--server-credential", CREDENTIAL, "--interface", "wlan0")
    told = in_json(str(file), *words)
    commands = [each["command"] for each in told["steps"]]
    assert commands[0].startswith("keycast server add-gateway gw.home home ") and commands[0].endswith(" --open")
    assert not any("trust-server" in each for each in commands)
    run = CliRunner().invoke(program(["gateway"]), ["gateway", "credential", "-c", str(file)])
    assert run.stdout.strip() in commands[0]


def test_a_service_is_made_only_if_it_was_said(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(becoming_a_service, "become", lambda unit: done.append(unit.name))
    monkeypatch.setattr(becoming_a_service.shutil, "which", lambda _: "/bin/systemctl")
    told = in_json(str(file), *QUIET, "--service", "show")
    assert not done and not told["started"] and told["unit"].startswith(str(tmp_path))
    assert f"-c {file}" in setup(str(file), "--yes", "--service", "show")[1]
    told = in_json(str(file), *QUIET, "--service", "user")
    assert done == [units.NAME] and told["started"]
    monkeypatch.setattr(consequences, "who_answers", lambda _: 7)
    told = in_json(str(file), *QUIET, "--service", "user", "--id", "gw.x")
    assert not any("gateway run" in each["command"] for each in told["steps"])


def test_what_systemd_needs_besides_is_among_the_next_steps(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def commands(*words: str) -> set[str]:
        return {each["command"] for each in in_json(str(file), "--yes", "--interface", "lo", *words)["steps"]}

    linger, bluetooth = "sudo loginctl enable-linger $USER", f"sudo keycast setup {file} --service system"
    monkeypatch.setattr(becoming_a_service, "become", lambda unit: None)
    monkeypatch.setattr(becoming_a_service, "has_to_linger", lambda: True)
    monkeypatch.setattr(becoming_a_service, "BLUETOOTH_DROP_IN", drop_in := file.with_name("bluetooth.conf"))
    assert not {linger, bluetooth} & commands()
    assert commands("--service", "user") & {linger, bluetooth} == {linger}
    assert commands("--service", "show", "--ble") & {linger, bluetooth} == {linger, bluetooth}
    drop_in.touch()
    assert not {linger, bluetooth} & commands()


def test_a_user_whose_services_end_with_the_session_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(becoming_a_service, "_LINGERING", tmp_path)
    monkeypatch.setattr("getpass.getuser", lambda: "pi")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert becoming_a_service.has_to_linger()
    (tmp_path / "pi").touch()
    assert not becoming_a_service.has_to_linger()


def test_a_service_of_the_system_gets_the_drop_in_for_bluetooth_and_loses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(becoming_a_service, "_systemctl", lambda _, *words: said.append(words))
    monkeypatch.setattr(becoming_a_service, "BLUETOOTH_DROP_IN", drop_in := tmp_path / "unit.d" / "bluetooth.conf")
    unit = units.unit_of(units.SYSTEM, tmp_path / "keycast.toml", tmp_path / "state", bluetooth=True)
    unit = replace(unit, path=tmp_path / units.NAME)
    becoming_a_service.become(unit)
    assert drop_in.read_text() == unit.bluetooth and "AF_BLUETOOTH" in unit.bluetooth
    becoming_a_service.become(replace(unit, bluetooth=""))
    assert not drop_in.exists() and unit.path.read_text() == unit.text
    assert said == [("daemon-reload",), ("enable", unit.name), ("restart", unit.name)] * 2


def test_a_machine_without_systemd_is_told_before_anything_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(becoming_a_service.shutil, "which", lambda _: None)
    monkeypatch.setattr(
        this_machine, "look", lambda: ThisMachine(HERE_IS.networks, [], becoming_a_service.hindrances())
    )
    code, _, complaint = setup(str(file), *QUIET, "--service", "user")
    assert code == 1 and "does not run on this machine" in complaint and not file.exists()


def test_a_service_of_the_system_is_root_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(becoming_a_service.shutil, "which", lambda _: "/bin/systemctl")
    monkeypatch.setattr(units, "SYSTEMD_RUNS", runs := tmp_path / "systemd")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [*becoming_a_service.hindrances()] == [units.USER, units.SYSTEM]  # as in a container
    runs.mkdir()
    assert [*becoming_a_service.hindrances()] == [units.SYSTEM]


def test_a_service_that_does_not_start_leaves_the_file_and_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(unit: units.Unit) -> None:
        raise becoming_a_service.NoService("`systemctl enable` failed: no bus.", "Try it by hand.")

    monkeypatch.setattr(becoming_a_service, "become", fail)
    code, _, complaint = setup(str(file), *QUIET, "--service", "user")
    assert code == 1 and file.exists()
    told = f"{file} is written, and no service runs with it yet. `systemctl enable` failed: no bus. Try it by hand. "
    assert told + f"Until then: keycast gateway run -c {file}" in complaint


def test_a_page_without_a_password_has_one_more_step(file: Path) -> None:
    code, printed, _ = setup(str(file), *QUIET, "--web", "this-machine")
    assert code == 0 and printed.index("keycast web password") < printed.index("http://127.0.0.1:8686/")


def test_passwords_are_in_private_files_beside_the_configuration_and_in_no_answer(file: Path) -> None:
    secret = file.with_name("secret")
    secret.write_text("correct horse\n")
    words = (*QUIET, "--web", "this-machine", "--web-password-file", str(secret), "--mqtt", "mqtt://127.0.0.1")
    code, printed, complaint = setup(str(file), *words, "--mqtt-user", "ha", "--mqtt-password-file", str(secret))
    assert code == 0 and "correct horse" not in printed + complaint + file.read_text()
    assert "http://127.0.0.1:8686/" in printed and "keycast web password" not in printed
    stored = file.with_name("keycast-state") / "web.password"
    assert stored.stat().st_mode & 0o777 == 0o600 and password.fits(stored.parent, "correct horse")
    tree = tomllib.loads(file.read_text())
    assert tree["mqtt"] == {"broker": "mqtt://127.0.0.1", "user": "ha", "password_file": str(secret)}
    assert tree["web"] == {"listen": ["127.0.0.1"], "port": 8686}


def test_a_password_that_is_typed_gets_a_file_of_its_own(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"Home Assistant see": True, "Which user": "ha", "Password of ha": "correct horse"}
    monkeypatch.setattr(at_terminal, "AtTerminal", lambda: Person(answers | {"What now": "Keep"}))
    monkeypatch.setattr("keycast.commands.setup._is_at_terminal", lambda: True)
    code, printed, _ = setup(str(file))
    beside = file.with_name("keycast.mqtt")
    assert code == 0 and beside.read_text() == "correct horse\n" and beside.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(file.read_text())["mqtt"]["password_file"] == beside.name
    assert "correct horse" not in printed


def test_a_gateway_that_runs_is_started_anew_for_what_has_changed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup(str(file), *QUIET)[0] == 0
    monkeypatch.setattr(consequences, "who_answers", lambda _: 7)
    assert not [each for each in in_json(str(file), *QUIET)["steps"] if "gateway run" in each["command"]]
    step = in_json(str(file), *QUIET, "--id", "gw.x")["steps"][0]
    assert "anew" in step["what"] and step["command"] == f"keycast gateway run -c {file}"


@pytest.mark.parametrize("words", [["--id", "gw\n.home"], ["--pn", "ho\u202eme"]])
def test_without_questions_an_id_has_no_character_that_does_not_show_either(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "keycast.toml"
    done = CliRunner().invoke(program(["gateway"]), ["gateway", "init", str(path), *words])
    assert done.exit_code == 1 and "has a character in it that does not show" in done.output
    assert not path.exists()
