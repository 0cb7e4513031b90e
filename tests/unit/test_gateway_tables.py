"""A kind of uplink, a medium or a link is one file, one line in a table and one section of the configuration."""

import inspect
from pathlib import Path

import pytest

from gateway_agent.app import GatewayApp
from gateway_agent.config.load import parse
from gateway_agent.errors import ConfigError, GatewayError
from gateway_agent.radios import by_kind as media
from gateway_agent.uplinks import by_kind as uplinks
from key_servers.cpns_server.config import ServerConfig
from keycast.commands import server as server_command
from keycast.free_ports import free_port
from message_plane.links import by_scheme
from tests.unit import toy_uplink

CONFIG = """
[gateway]
id = "gw.home"
pn = "home"
state_dir = "{folder}/state"

[message_plane]
listen = ["127.0.0.1"]
port = {port}
discovery = false

[broadcast]
interfaces = []
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    return CONFIG.format(folder=tmp_path, port=free_port())


def passed_over(text: str) -> str:
    told: list[str] = []
    parse(text.encode(), tell=told.append)
    return "\n".join(told)


async def test_a_kind_of_uplink_is_one_file_and_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text += '[uplink]\nkind = "toy"\nstrings = 2\n'
    with pytest.raises(ConfigError, match=r"uplink\.kind: found 'toy', expected 'embedded', 'mqtt' or 'udp'"):
        parse(text.encode())
    monkeypatch.setitem(uplinks.KINDS, "toy", "tests.unit.toy_uplink")
    config = parse(text.encode())
    app = await GatewayApp.open(config)
    uplink = toy_uplink.made.pop()
    assert uplink.section.strings == 2 and uplink.life == []
    await app.start()
    await app.gateway.tick()
    await app.close()
    assert uplink.life[-1] == "closed" and {"started", "asked"} == set(uplink.life[:-1])
    with pytest.raises(ConfigError, match=r"uplink\.strings: found 0, expected greater than or equal to 1"):
        parse(text.replace("strings = 2", "strings = 0").encode())
    assert "uplink.strngs: unknown key; did you mean 'strings'" in passed_over(text.replace("strings", "strngs"))


async def test_a_medium_is_one_file_and_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text += "[drum]\nbeat_s = 0.5\n"
    assert "drum: unknown key" in passed_over(text)
    monkeypatch.setitem(media.KINDS, "drum", "tests.unit.toy_medium")
    monkeypatch.setitem(uplinks.KINDS, "toy", "tests.unit.toy_uplink")
    app = await GatewayApp.open(parse(f'{text}[uplink]\nkind = "toy"\n'.encode()))
    assert app.networks() == ["drum"]
    await app.close()
    with pytest.raises(ConfigError, match=r"drum\.beat_s: found 0, expected greater than 0"):
        parse(text.replace("0.5", "0").encode())


async def test_a_link_has_a_section_of_its_own_and_the_endpoint_holds_it_beside_udp(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(uplinks.KINDS, "toy", "tests.unit.toy_uplink")
    text += '[memory]\nlisten = ["yard:7"]\nether = "tables"\n[uplink]\nkind = "toy"\n'
    app = await GatewayApp.open(parse(text.encode()))
    assert [place.partition(":")[0] for place in app.endpoint.places] == ["udp", "memory", "toy"]
    assert app.endpoint.places[1] == "memory:yard:7"
    await app.close()
    assert "udp: unknown key" in passed_over(f"{text}[udp]\n")  # its section is [message_plane]
    monkeypatch.delitem(by_scheme.LINKS, "memory")
    assert "memory: unknown key" in passed_over(text)


async def test_an_embedded_server_that_nobody_made_is_told(text: str) -> None:
    with pytest.raises(GatewayError, match=r"server\.local is not in this process"):
        await GatewayApp.open(parse(text.encode()))


def test_what_a_home_and_a_server_of_its_own_have_in_common_is_the_same_by_default() -> None:
    config, server = parse(CONFIG.format(folder="", port=1).encode()), ServerConfig()
    assert config.uplink.server_id == server.id
    assert uplinks.kind("udp").SECTION.model_fields["port"].default == server.port
    assert (config.groups.rekey_on_join, config.groups.period_s) == (server.rekey_on_join, server.period_s)
    typed = inspect.signature(server_command.run).parameters
    assert (typed["server"].default, typed["port"].default) == (server.id, server.port)
