"""A key has the same meaning in every JSON answer, and docs/commands.md names each.

Answers of real parts, in-process.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_agent.core.end_to_end.carried_keys import CarriedStatus
from gateway_agent.radios.adapters import Adapter
from gateway_agent.radios.medium import Health, Radio
from gateway_agent.updates.status import BoardStatus, OfferStatus
from key_servers.cpns_server.operators.access import OperatorToken, Scope
from key_servers.cpns_server.values import BrokerStatus, PneDelivery, ServerAlarm
from keycast.board.agent_files import Running
from keycast.board.asking import AskedBoard
from keycast.board.faults import NoPort
from keycast.board.flashing import Flashed
from keycast.board.ports import Port
from keycast.board.survey import Seen
from keycast.commands import group, radios, server, server_access, status
from keycast.commands.board import flash, list_boards, pair, release, retire
from keycast.commands.update import offer as update_offer
from keycast.commands.update import status as update_status
from keycast.commands.update import withdraw as update_withdraw
from keycast.free_ports import free_port
from keycast.program import program
from keycast.services.radio_survey import AdapterHere, Survey
from tests.unit.test_keycast_steering import SG, Home, home

__all__ = ["home"]  # a fixture

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
NAMED = set(re.findall(r"`([a-z_0-9]+)`", PAGE))
SUFFIXES = ("_at", "_s", "_count", "_ids", "_ms")
FREE = (
    "arguments",
    "default",
    "counters",
    "key_parameters",
    "fault",
)  # what stands there and below has names of its own
USER, CREW = "sip:alice@example.org", "sip:crew@gms.example.org"
ALARM = asdict(ServerAlarm("silent", "gw", "", 1, "Nobody is there."))


def typed(*words: str) -> Any:
    run = CliRunner().invoke(program(list(words)), [*words, "--json"])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return json.loads(run.stdout)


def kinds(value: Any, found: dict[str, set[str]]) -> None:
    """Add to `found` what kind of value each key of `value` has; null says nothing of it."""
    if isinstance(value, list):
        for each in value:
            kinds(each, found)
    if isinstance(value, dict):
        for key, of in value.items():
            if of is not None and key not in FREE:
                found.setdefault(key, set()).add(kind(of))
                kinds(of, found)
            elif key in FREE:
                found.setdefault(key, set())


def kind(value: Any) -> str:
    if isinstance(value, list):
        return "list of " + "".join(sorted({kind(each) for each in value})) if value else ""
    return {int: "number", float: "number", bool: "yes or no", str: "text", dict: "object"}[type(value)]


async def asked(home: Home, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Any]:
    """What the commands of groups, boards and servers answer about a home with a member, an alarm and a hold."""
    await home.join("lamp.hall")
    store = home.app._store
    assert store is not None
    with store.transaction():
        store.inventory.ensure_group(SG)
        store.inventory.add_member(SG, "lamp.hall", 0, 1)
        store.inventory.set_end_to_end(SG)
    carried = (CarriedStatus("lamp.hall", 8, "answered", 2, "1", 1),)
    monkeypatch.setattr(home.app.gateway.administration, "carried", lambda sg_id: carried)
    monkeypatch.setattr(home.app, "broadcasts", lambda: [Health("lo", "127.255.255.255")])
    answers: dict[str, Any] = {}
    for do, arguments in (
        ("status", {}),
        ("board.list", {}),
        ("trust", {}),
        ("group.list", {}),
        ("group.show", {"sg_id": SG}),
        ("group.create", {"sg_id": "home/doors"}),
        ("group.update", {"sg_id": SG}),
        ("group.policy", {"sg_id": SG, "period_s": 3600, "batching_s": 1}),
        ("group.expel", {"sg_id": SG, "pne_id": "lamp.hall"}),
        ("server.audit", {}),
        ("board.retire", {"pne_id": "lamp.hall"}),
    ):
        answers[do] = json.loads(json.dumps(await home.ask(do, **arguments), default=asdict))
    answers["status"]["groups"][0]["states"] = [{"state": "confirmed", "member_count": 3}]
    answers["status"]["alarms"] = answers["alarms"] = [ALARM]
    answers["trust"]["server_credential"] = answers["server.credential"] = "00"
    delivery = PneDelivery("lamp.hall", "home", "end-to-end", "settled", 8, 8, 1, 2, "1", 0)
    answers["group.show"]["pne_deliveries"] = [asdict(delivery)]
    broker = BrokerStatus("mqtts://mqtt.example.org:8883", False, 1, "It is not there.")
    answers["server.status"] = asdict(home.server.status()) | {"brokers": [asdict(broker)]}
    answers["status"]["brokers"] = [asdict(broker)]
    answers["server.restore"], answers["server.confirm-members"] = [SG], 9
    answers["board.pair"] = "lamp.hall"
    answers["server.add-token"] = "0.0"
    offered = OfferStatus("0b" * 8, "agent", 5, 9000, True, ("lamp.hall",), (SG,), True, SG, "it waits", 1, 7, 3, 1)
    board = BoardStatus("lamp.hall", 4, 1, 5, 5, "fell-back", "went back from update 5", "it is wrong", 3, 1, True)
    answers["update.status"] = {"offers": [asdict(offered)], "boards": [asdict(board)]}
    answers["update.offer"] = answers["update.withdraw"] = asdict(offered)
    (folder / "agent.suit").write_bytes(b"")
    answers["server.tokens"] = [asdict(OperatorToken("0", "alice", Scope.READ, 1))]

    def ask(_: Path, __: Path | None, do: str, **___: Any) -> Any:
        return answers.get(do)

    for module in (update_status, update_withdraw, status, pair, release, retire, group, server, server_access):
        monkeypatch.setattr(module, "ask", ask)
    for module in (list_boards, update_offer):
        monkeypatch.setattr(module, "asked", ask)
    port = Port("/dev/ttyUSB0", "10c4:ea60", None, "/dev/ttyUSB0")
    agent = AskedBoard("agent", "1.25.0", "esp32", "0.1.0", "running", "lamp.hall", "gw.home", 2, 12000, True)
    seen = Seen(port, ("esp32-devkitc",), "bridge", ((77, "minicom"),), agent, None)
    monkeypatch.setattr(list_boards, "_here", lambda _: [(seen, "")])
    flashed = Flashed(port, "esp32-devkitc", Running("1.25.0", "esp32", False, 0, 9, False))
    monkeypatch.setattr("keycast.micropython_vm.compile.board_tree", lambda _: folder)
    monkeypatch.setattr(flash, "_ports", lambda *_: [port, port])
    monkeypatch.setattr(flash, "_flash_each", lambda *_: [flashed, NoPort.at_all()])
    words = [
        *(
            "status",
            "board list",
            "board flash --files-only",
            "group list",
            f"group show {SG}",
            "group create home/doors",
            f"group update {SG}",
        ),
        *(f"group expel {SG} lamp.hall", f"group open {SG} home", f"group permit {SG} lamp.hall", f"group delete {SG}"),
        *(
            "board retire lamp.hall",
            "board release lamp.hall",
            "board pair lamp.hall ABCD-EFGH-IJKL-MNOP",
            "server alarms",
            "server restore",
        ),
        *(f"server confirm-members {SG}", "server dismiss-alarm silent", "server admit-board lamp.hall home"),
        *(
            "server credential",
            "server status",
            "server retire-board lamp.hall",
            "server audit",
            f"server rest-files {folder / 'rest'}",
        ),
        *(
            "server token add alice",
            "server token list",
            "server token revoke alice",
            f"group policy {SG} --period 3600",
        ),
        *(f"update offer {folder / 'agent.suit'}", "update status", "update withdraw"),
        *("server add-gateway gw home aa", "server block-gateway gw", "server replace-gateway gw gw2 aa"),
    ]
    return [typed(*each.split()) for each in words]


def of_key_material(folder: Path) -> list[Any]:
    """What the commands of KMS, GMS, CMS and MIKEY answer."""
    kms, gms, cms = (f"--state {folder / name}" for name in ("kms", "gms", "cms"))
    keys = folder / "keys.json"
    found = [
        typed(*each.split())
        for each in (
            f"kms init kms.example.org --no-tls {kms}",
            f"kms user add {USER} {kms}",
            f"kms user token {USER} {kms}",
            f"kms user revoke {USER} {kms}",
            f"kms show {kms}",
            f"kms certificate export {kms}",
            f"gms user add {USER} {gms}",
            f"gms group create {CREW} {gms}",
            f"gms group add {CREW} {USER} {gms}",
            f"gms key make {CREW} {gms}",
            f"gms group show {gms}",
            f"cms user {USER} {cms}",
            f"cms put {USER} {CREW} --gms sip:gms.example.org {cms}",
            f"cms show {cms}",
            f"mikey keys {keys}",
            f"mikey encode --keys {keys} --sender GMS --user Alice --group {CREW}",
        )
    ]
    key_id = next(each["key_id"] for each in found if isinstance(each, dict) and "groups" in each)
    more = (f"gms key show {key_id} {gms}", f"gms key retry {key_id} {gms}", f"gms group remove {CREW} {USER} {gms}")
    decode = ("mikey", "decode", found[-1]["message"], "--keys", str(keys), "--user", "Alice")
    return [*found, *(typed(*each.split()) for each in more), typed(*decode), typed(*decode[:2], "AAAA", *decode[3:])]


def of_the_machine(folder: Path) -> list[Any]:
    """What the commands of a gateway that does not run answer."""
    port = free_port()
    config = folder / "keycast.toml"
    found = [typed("gateway", "init", str(config)), typed("gateway", "settings"), typed("radios", "-c", str(config))]
    found.append(typed("setup", str(folder / "other.toml"), "--yes", "--interface", "lo", "--service", "show"))
    adapter = Adapter("hci0", "B8:27:EB:00:00:01", "5.0", True, True, True, True, False, "", True, 4, (1,))
    radio = Radio("bluez", "hci0", 20.0, 1, 0.2, "It is gone.", "", {"mgmt": "Not permitted."})
    survey = Survey("auto", adapters=[AdapterHere(adapter, "btusb", "usb")], radio=radio, is_in_use=True)
    found.append(radios.as_json(survey))
    listen = f'\n[message_plane]\nlisten = ["127.0.0.1"]\nport = {port}\ndiscovery = false\n'
    config.write_text(config.read_text().replace('["auto"]', '["lo"]') + listen)
    words = ("check", "credential", "backup", f"backup {folder / 'x'}", f"restore {folder / 'x'}", "lost signing.key")
    found.append(typed("server", "broker-files", str(folder / "broker-files"), "--ca", "--gateway", "gw"))
    return found + [typed("gateway", *each.split(), "-c", str(config)) for each in words]


@pytest.fixture
async def asked_of_home(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[list[Any]]:
    yield await asked(home, monkeypatch, tmp_path)


def test_one_key_means_one_thing(asked_of_home: list[Any], tmp_path: Path) -> None:
    found: dict[str, set[str]] = {}
    kinds([asked_of_home, of_key_material(tmp_path), of_the_machine(tmp_path)], found)
    several = {key: sorted(of - {""}) for key, of in found.items() if len(of - {""}) > 1}
    assert not several, "more than one kind of value under one key"
    unnamed = {key for key in found if key not in NAMED and not key.endswith(SUFFIXES)}
    assert not unnamed, "missing in docs/commands.md"
    assert len(found) > 80
