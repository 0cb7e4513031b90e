"""How commands answer: one JSON value with --json, dates instead of seconds, and tables in which nothing is cut."""

import functools
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import cpns.errors
import gateway_agent.errors
import gateway_agent.store.errors
import key_servers.errors
import message_plane.errors
from gateway_agent.errors import Refused, code_of
from keycast.board import faults
from keycast.commands import group, server, status
from keycast.copies.making import Made
from keycast.program import WORDS, program
from keycast.provisioning import val_client
from keycast.services import service_ids
from keycast.terminal.backup_options import made_lines
from keycast.terminal.dates import ago, begun, dated, moment
from keycast.terminal.tables import show_table
from tests.typed_command import keycast
from tests.unit.home_world import configured

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "commands.md").read_text()


@functools.cache
def every_command() -> dict[str, object]:
    found: dict[str, object] = {}
    for word in WORDS:
        pending = {word: typer.main.get_command(program([word])).commands[word]}  # type: ignore[attr-defined]
        while pending:
            name, command = pending.popitem()
            if hasattr(command, "commands"):
                pending.update({f"{name} {sub}": each for sub, each in command.commands.items()})
            else:
                found[name] = command
    return found


@pytest.mark.parametrize("command", every_command().items(), ids=lambda item: item[0])
def test_every_command_takes_json(command: tuple[str, object]) -> None:
    name, what = command
    options = [option for parameter in what.params for option in parameter.opts]  # type: ignore[attr-defined]
    assert options.count("--json") == 1, name


@pytest.mark.parametrize("command", every_command().items(), ids=lambda item: item[0])
def test_help_shows_what_stands_in_brackets(command: tuple[str, object]) -> None:
    """rich takes what looks like its markup out of a text."""
    name, what = command
    texts = [what.help or "", *(getattr(each, "help", None) or "" for each in what.params)]  # type: ignore[attr-defined]
    bracketed = [found for text in texts for found in re.findall(r"\[[^\]]*\]+", text.replace("\\[", "["))]
    if bracketed:
        words = name.split()
        shown = CliRunner().invoke(program([words[0]]), [*words, "--help"], env={"COLUMNS": "300"}).output
        assert not [each for each in bracketed if each not in shown]


def test_a_command_that_a_person_interrupts_says_so_in_json() -> None:
    code = """
import sys
from keycast import main
from keycast.commands import status
def interrupted(*words):
    raise KeyboardInterrupt
status.ask = interrupted
sys.argv[0] = "keycast"
main()
"""
    run = [sys.executable, "-c", code, "status", "--json"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, json.loads(done.stdout)["code"], done.stderr) == (130, "cancelled", "")


@pytest.mark.parametrize(("package", "extra"), [("lxml", "seal"), ("zeroconf", "gateway"), ("aiohttp", "seal")])
def test_a_package_that_is_missing_is_named_with_what_adds_it_to_any_installation(package: str, extra: str) -> None:
    words = {"lxml": ["kms", "show"], "aiohttp": ["cms", "run"], "zeroconf": ["gateway", "run"]}[package]
    code = f"import sys; sys.argv[0] = 'keycast'; sys.modules[{package!r}] = None; from keycast import main; main()"
    for wanted in ([], ["--json"]):
        run = [sys.executable, "-c", code, *words, *wanted]
        done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=False)
        said = json.loads(done.stdout)["error"] if wanted else done.stderr
        assert (
            done.returncode == (78 if "run" in words else 1)
            and f"{sys.executable} -m pip install 'keycast[{extra}]'" in said
        )
        assert "Traceback" not in done.stderr


def test_a_refusal_in_json_has_a_code_and_the_sentence(tmp_path: Path) -> None:
    said = keycast("group", "list", "-c", str(tmp_path / "none.toml"))
    result = keycast("group", "list", "--json", "-c", str(tmp_path / "none.toml"))
    refusal = json.loads(result.stdout)
    assert (result.returncode, result.stderr, refusal["code"]) == (1, "", "config-error")
    assert said.returncode == 1 and said.stdout == "" and said.stderr == f"keycast: {refusal['error']}\n"


def test_what_is_no_command_is_a_refusal_in_json_too() -> None:
    for words in (("group", "show"), ("group", "frobnicate"), ("status", "--nothing"), ("frobnicate",)):
        result = keycast(*words, "--json")
        assert result.returncode == keycast(*words).returncode == 2
        assert json.loads(result.stdout)["code"] == "usage"


@pytest.mark.parametrize(
    "errors",
    [
        cpns.errors,
        gateway_agent.errors,
        gateway_agent.store.errors,
        key_servers.errors,
        faults,
        val_client,
        service_ids,
        message_plane.errors,
    ],
)
def test_the_codes_of_refusals_are_written_down(errors: ModuleType) -> None:
    own = [each for each in vars(errors).values() if isinstance(each, type) and each.__module__ == errors.__name__]
    kinds = [each for each in own if issubclass(each, Exception)]
    codes = {code_of(kind.__new__(kind)) for kind in kinds if kind is not Refused}
    assert codes
    assert not {code for code in codes if f"`{code}`" not in COMMANDS}, "missing in docs/commands.md"


def test_dates_in_json_are_iso_8601_with_their_zone() -> None:
    value = {"since": 1_750_000_000, "members": [{"key_made_at": 0, "version": 8, "open_at": True}], "until": "x"}
    assert dated(value) == {
        "since": "2025-06-15T15:06:40+00:00",
        "members": [{"key_made_at": None, "version": 8, "open_at": True}],
        "until": "x",
    }


def test_dates_that_a_person_types() -> None:
    assert moment("2025-06-15T15:06:40+00:00") == moment("2025-06-15T17:06:40+02:00") == 1_750_000_000
    assert (moment("0"), moment("1750000000")) == (0, 1_750_000_000)
    assert moment("2027-01-31") < moment("2027-01-31T18:00")
    for wrong in ("tomorrow", "-1", "", "2027-13-01", "9" * 30, "99999-01-01"):
        with pytest.raises(typer.BadParameter):
            moment(wrong)


QUIET: dict[str, Any] = {
    "gateway_id": "gw", "pn_id": "home", "uplink": "embedded", "addresses": [], "networks": [],
    "server_age_s": None, "server_problem": "", "is_withholding": False, "brokers": [],
    "backed_up_at": 0,
    "stopped": None, "held": [], "groups": [], "empty_sg_ids": [], "devices": [], "counters": {}, "alarms": [],
}  # fmt: skip
GROUP = {"sg_id": "home/lights", "version_text": "0.8", "member_count": 3, "states": [], "exposed": False}
GROUP |= {"trust": "gateway", "carried": []}
ALARM = {"kind": "silent", "gateway_id": "gw", "sg_id": "", "since": 0, "text": "Nobody is there."}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({}, 0),
        ({"groups": [GROUP | {"waiting": False}]}, 0),
        ({"groups": [GROUP | {"waiting": True}]}, 2),
        ({"held": ["home/lights"]}, 2),
        ({"stopped": "this is an old copy"}, 2),
        ({"alarms": [ALARM]}, 2),
    ],
)
def test_the_status_ends_with_2_while_something_is_wrong(
    found: dict[str, Any], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "ask", lambda *_: QUIET | found)
    app = typer.Typer()
    app.command()(status.command)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == code, result.output


def test_the_status_shows_each_board_of_an_end_to_end_group(monkeypatch: pytest.MonkeyPatch) -> None:
    lamp = {"pne_id": "lamp", "version_text": "1.2", "state": "answered", "try_count": 3, "returned": "2"}
    plug = {"pne_id": "plug", "version_text": "1.2", "state": "unreachable", "try_count": 6, "returned": ""}
    carried = [lamp | {"changed_at": 1_800_000_000}, plug | {"changed_at": 0}]
    shown = GROUP | {"trust": "end-to-end", "carried": carried, "waiting": False}
    monkeypatch.setattr(status, "ask", lambda *_: QUIET | {"groups": [shown]})
    app = typer.Typer()
    app.command()(status.command)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    words = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "home/lights 0.8 3 1 answered, 1 unreachable end-to-end" in words
    assert any(line.startswith("home/lights lamp 1.2 answered 3 2 2027-01-1") for line in words)
    assert "home/lights plug 1.2 unreachable 6 - -" in words


@pytest.mark.req("SEC-36")
@pytest.mark.parametrize(("age_s", "told"), [(7200, "2 h ago"), (-730 * 86_400, "which is yet to come")])
def test_the_status_does_not_call_a_backup_new_that_a_clock_ahead_has_dated(
    age_s: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "ask", lambda *_: QUIET | {"backed_up_at": int(time.time()) - age_s})
    app = typer.Typer()
    app.command()(status.command)
    line = next(line for line in CliRunner().invoke(app, []).output.splitlines() if line.startswith("last backup"))
    assert told in line and ("ago" in line) is (age_s > 0)


@pytest.mark.req("SEC-28")
def test_the_status_says_when_a_server_elsewhere_was_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(**found: Any) -> str:
        monkeypatch.setattr(status, "ask", lambda *_: QUIET | found)
        app = typer.Typer()
        app.command()(status.command)
        return " ".join(CliRunner().invoke(app, []).output.split())

    assert "gw serves home, the CPNS Server is in it" in shown(server_age_s=7)
    assert "gw serves home, the CPNS Server (uplink udp) answered 12 min ago" in shown(uplink="udp", server_age_s=777.7)
    assert "gw serves home, the CPNS Server (uplink udp) has not answered yet" in shown(uplink="udp")
    assert "(uplink mqtt) has not answered yet (it is asleep)" in shown(uplink="mqtt", server_problem="it is asleep")
    assert "no key is given out until the CPNS Server answers" in shown(uplink="udp", is_withholding=True)


def test_an_answer_of_another_release_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ask", lambda *_: {name: QUIET[name] for name in QUIET if name != "brokers"})
    app = typer.Typer()
    app.command()(status.command)
    run = CliRunner().invoke(app, [])
    assert run.exit_code == 1 and "of another release. Restart it." in run.stderr


def test_what_a_broker_refuses_is_shown_although_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "mqtts://a:8883"
    broker = {"url": url, "connected": True, "since": 0, "problem": f"the broker {url} does not let x write y."}
    monkeypatch.setattr(status, "ask", lambda *_: QUIET | {"brokers": [broker]})
    app = typer.Typer()
    app.command()(status.command)
    assert ": it does not let x write y." in CliRunner().invoke(app, []).output


@pytest.mark.req("SEC-28")
def test_a_group_shows_how_its_key_came_to_each_board_and_which_have_not_confirmed_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def member(name: str, state: str, confirmed: int, report: str, link: str = "", tries: int = 0) -> dict[str, Any]:
        told = {"confirmed": confirmed, "report": report, "link": link, "tries": tries, "confirmed_at": 0}
        return {"pne_id": name, "pn_id": "home", "state": state, "since": 0, **told}

    members = [
        member("door", "member", 7, "confirmed", "ble", 2),
        member("fan", "left", 7, "confirmed"),
        member("lamp", "member", 8, "confirmed", "wifi", 1),
        member("plug", "member", 0, "unreachable", "", 3),
        member("shade", "member", 0, ""),
    ]
    view = {"sg_id": "lights", "version": 8, "version_text": "0.8", "state": "active", "policy": "open"}
    view |= {"trust": "gateway", "key_made_at": 0, "members": members, "deliveries": []}
    monkeypatch.setattr(group, "ask", lambda *_, **__: view)
    result = CliRunner().invoke(group.app, ["show", "lights"])
    rows = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "board PN state since confirmed by at last report tries" in rows, result.output
    assert "door home member - 0.7 ble - not confirmed 2" in rows
    assert "fan home left - 0.7 - - confirmed -" in rows
    assert "lamp home member - 0.8 wifi - confirmed 1" in rows
    assert "plug home member - - - - unreachable 3" in rows
    assert "shade home member - - - - not confirmed -" in rows


@pytest.mark.parametrize(("standing", "code"), [([], 0), ([ALARM], 2)])
def test_alarms_of_a_server_of_its_own_are_listed(
    standing: list[dict[str, Any]], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ask", lambda *_: standing)
    result = CliRunner().invoke(server.app, ["alarms", "--state", "x"])
    assert result.exit_code == code and ("Nobody is there." in result.output) == bool(standing)


def test_ages_for_people() -> None:
    assert [ago(age) for age in (None, 0.4, 119, 120, 3 * 3600, 9 * 86400)] == [
        "never", "0 s ago", "119 s ago", "2 min ago", "3 h ago", "9 days ago",
    ]  # fmt: skip


def test_where_there_is_no_group_the_list_says_what_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keycast.commands.group.ask", lambda *_: [])
    result = CliRunner().invoke(program(["group"]), ["group", "list"])
    assert result.output == "There is no Service Group. Make one: keycast group create SG_ID\n"


def test_without_a_terminal_the_password_of_the_page_is_not_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(program(["web"]), ["web", "password", "-c", str(configured(tmp_path))])
    assert result.exit_code == 1 and "add --stdin" in result.stderr and "Password of the page" not in result.output


NAMES = [f"lamp.of.the.porch.behind.the.house.number.{number}" for number in range(3)]
ROWS = [(name, "0.8", "", "confirmed") for name in NAMES]
HEADERS = ("Service Group", "version", "members", "newest delivery")


def shown(width: int, is_terminal: bool) -> str:
    out = io.StringIO()
    how = {"color_system": None, "highlight": False, "soft_wrap": True, "markup": False}
    console = Console(file=out, width=width, force_terminal=is_terminal, **how)  # type: ignore[arg-type]
    show_table(console, HEADERS, ROWS)
    return out.getvalue()


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_name_is_cut_or_broken(width: int, is_terminal: bool) -> None:
    text = shown(width, is_terminal)
    assert all(len(re.findall(re.escape(name) + r"\b", text)) == 1 for name in NAMES)
    assert "\u2026" not in text


def test_off_a_terminal_there_are_plain_lines() -> None:
    lines = shown(40, is_terminal=False).splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert lines[1].split() == [NAMES[0], "0.8", "-", "confirmed"]
    assert all(line.isascii() for line in lines)


def test_an_alarm_of_an_unknown_moment_is_told_without_one() -> None:
    assert begun(0) == ""
    assert begun(1_700_000_000).startswith("since 2023-11-1") and begun(1_700_000_000).endswith(": ")


def test_the_line_of_a_backup_for_a_recipient_names_its_key() -> None:
    for_passphrase, for_recipient = (Made(Path("b"), {}, is_for_recipient=each) for each in (False, True))
    assert made_lines(for_passphrase, "keycast gateway restore")[0].endswith("keycast gateway restore b")
    assert made_lines(for_recipient, "keycast gateway restore")[0].endswith("keycast gateway restore b --key FILE")
