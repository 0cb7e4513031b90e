"""What a command imports before it does its work, counted in modules: each one delays whoever typed the command."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway_agent.config import load
from gateway_agent.uplinks import by_kind as uplinks
from keycast.program import WORDS
from tests.waiting import PATIENCE_S

OWN_EXTRA = {"seal", "mikey"}  # they are nothing without the packages of the extra `seal`
ROOMS = ("cpns", "suit", "gateway_agent", "key_servers", "message_plane", "http_door", "device_agent", "mikey_sakke")


def modules_after(code: str) -> list[str]:
    """The names of all modules that are there after `code` in a process of its own, in the order of their import."""
    program = f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def below(found: Iterable[str], *names: str) -> list[str]:
    """Those of the modules that are one of `names` or in one of them."""
    return [each for each in found if any(f"{each}.".startswith(f"{name}.") for name in names)]


def test_the_words_of_commands_need_no_configuration_store_and_server() -> None:
    """Help and completion import nothing of these. What the work of a command needs, the work imports."""
    words = [word for word in WORDS if word not in OWN_EXTRA]
    found = modules_after(f"from keycast.program import program\nfor word in {words}: program([word])")
    assert not below(found, "pydantic", "aiocoap", "aiohttp", "cryptography", "serial")
    assert not below(found, "rich.progress", "rich.live")
    assert not below(found, "key_servers", "message_plane", "device_agent", "keycast.virtual_board")
    assert below(found, "gateway_agent") == [
        "gateway_agent",
        "gateway_agent.observe",
        "gateway_agent.observe.log_lines",
        "gateway_agent.errors",
    ]


def test_the_words_of_commands_need_no_event_loop() -> None:
    """An event loop brings TLS and much else, and most commands do without."""
    words = [word for word in WORDS if word not in OWN_EXTRA]
    found = modules_after(f"from keycast.program import program\nfor word in {words}: program([word])")
    assert not below(found, "asyncio", "ssl", "concurrent", "importlib.metadata")


def test_a_configuration_with_every_section_imports_nothing_that_runs_them(tmp_path: Path) -> None:
    path = tmp_path / "keycast.toml"
    path.write_text(
        '[gateway]\nid = "gw"\npn = "home"\nstate_dir = "state"\n[broadcast]\n[message_plane]\n[delivery]\n[tree]\n'
        '[groups]\n[update]\n[web]\n[metrics]\n[mqtt]\n[ble]\n[uplink]\nkind = "udp"\nhost = "192.168.1.12"\n'
    )
    code = f"from pathlib import Path\nfrom gateway_agent.config.load import load\nconfig = load(Path({str(path)!r}))\n"
    found = modules_after(code + "assert config.web and config.metrics and config.mqtt and config.ble")
    assert not below(found, "asyncio", "ssl", "sqlite3", "subprocess", "cryptography", "aiocoap", "aiohttp", "aiomqtt")
    assert not below(found, "key_servers", "message_plane.links.udp", "http_door.listening", "gateway_agent.control")
    parts = ("observe.sight", "radios.medium", "radios.ble_medium", "radios.udp_broadcast", "store", "core.pn_gateway")
    assert not below(found, *(f"gateway_agent.{each}" for each in parts))


def test_a_question_to_a_gateway_needs_no_event_loop(tmp_path: Path) -> None:
    """The answer is waited for by a socket that blocks."""
    path = tmp_path / "keycast.toml"
    path.write_text('[gateway]\nid = "gw"\npn = "home"\nstate_dir = "state"\n')
    asked = f"from keycast.program import program\nsys.argv = ['keycast', 'status', '-c', {str(path)!r}]\n"
    found = modules_after(
        asked + "try:\n    program(sys.argv[1:])()\nexcept SystemExit as end:\n    assert end.code == 1"
    )
    assert below(found, "gateway_agent.control_client") and not below(found, "asyncio", "gateway_agent.control")


def test_reading_a_configuration_imports_no_part_of_a_gateway_that_runs() -> None:
    """Each command that speaks with a gateway reads its configuration first."""
    found = modules_after("import gateway_agent.config.load")
    assert not below(found, "sqlite3", "aiocoap", "aiohttp", "cryptography", "zeroconf")
    assert not below(found, "suit", "key_servers", "gateway_agent.store", "gateway_agent.control")
    assert below(found, "gateway_agent.observe") == ["gateway_agent.observe", "gateway_agent.observe.onlookers"]
    assert len(below(found, *ROOMS)) < 60


def test_a_schema_is_made_once_for_the_same_sections_and_anew_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tree: dict[str, dict[str, str]] = {"gateway": {}, "uplink": {"kind": "udp"}, "web": {}}
    schema = load.schema_of(tree)
    assert load.schema_of(dict(tree)) is schema
    assert load.schema_of(tree | {"uplink": {"kind": "mqtt"}}) is not schema
    assert load.schema_of(tree | {"metrics": {}}) is not schema
    monkeypatch.setitem(uplinks.KINDS, "toy", "tests.unit.toy_uplink")
    assert load.schema_of(tree) is not schema
