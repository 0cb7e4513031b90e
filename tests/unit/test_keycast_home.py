"""A home put together by `open_home`: its parts are silent until the start, and then start in their order."""

import sys

import pytest
from typer.testing import CliRunner

from cpns import messages, numbers
from gateway_agent.config.load import load
from gateway_agent.control_client import SOCKET_FILE
from gateway_agent.observe import onlookers
from gateway_agent.state_files import SIGNING_FILE
from gateway_agent.uplinks import by_kind
from key_servers.cpns_server.config import ServerConfig
from keycast import main
from keycast.program import program
from keycast.services.home import open_home
from keycast.services.supervisor import NOT_CONFIGURED
from tests.unit import toy_uplink
from tests.unit.home_world import SG, ask, configured
from tests.waiting import until


async def test_an_embedded_server_delivers_once_the_gateway_has_started(tmp_path):
    config, heard = load(configured(tmp_path)), []

    def listening(receiver):
        async def receive(message):
            heard.append((messages.decode(message)[0], (config.gateway.state_dir / SOCKET_FILE).exists()))
            return await receiver(message)

        return receive

    async with open_home(config, server_config=ServerConfig(batching_s=0), on_the_way=listening) as home:
        home.server.create_group(SG, open_to=["home"])
        home.app.gateway.administration.register_pne("lamp")
        await ask(home, "lamp", numbers.GKDK_ASSIGNMENT_REQUEST, {})
        await ask(home, "lamp", numbers.JOIN_REQUEST, {messages.SG_ID: SG})
        await until(lambda: home.server.show_group(SG).members)
        assert heard == []
        await home.start()
        await until(lambda: (numbers.GROUP_KEY_DELIVERY_REQUEST, True) in heard)
        assert all(has_started for _, has_started in heard)


def keycast(*words):
    run = CliRunner().invoke(program(list(words)), words)
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, run.output


@pytest.mark.req("SEC-18")
async def test_a_signing_key_that_was_lost_begins_its_epochs_anew(tmp_path):
    config = load(path := configured(tmp_path))
    async with open_home(config) as home:
        await home.start()
        home.app.gateway.administration.register_pne("lamp")
        assert home.app.roll_over() == 2
    (config.gateway.state_dir / SIGNING_FILE).unlink()
    code, told = keycast("gateway", "lost", SIGNING_FILE, "-c", str(path))
    assert (code, "The next start makes signing.key anew" in told) == (0, True)
    async with open_home(config) as home:
        await home.start()
        pn, lamp = home.app._store.pn.get(), home.app._store.pn.pne("lamp")
        assert pn.signing_epoch == home.app.signing_key.epoch == home.app.trust()["signing_epoch"] == 1
        assert lamp.signing_epoch == 1 and home.app._store.pn.roll_overs_after(0) == []
        assert home.app.roll_over() == 2 == home.app.signing_key.epoch


@pytest.mark.parametrize(("section", "packages"), [("web", ["aiohttp"]), ("metrics", ["prometheus_client"])])
def test_a_gateway_whose_section_lacks_a_package_is_not_started_again(tmp_path, monkeypatch, section, packages):
    path = configured(tmp_path)
    path.write_text(f"{path.read_text()}[{section}]\n")
    monkeypatch.setattr(onlookers, "find_spec", lambda name: None if name in packages else name)
    code, told = keycast("gateway", "run", "-c", str(path))
    assert code == NOT_CONFIGURED and f"pip install 'keycast[{section}]'" in told
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [("gateway run", NOT_CONFIGURED), ("kms run --state run", NOT_CONFIGURED), ("gateway check run", 1), ("setup", 1)],
)
def test_a_service_that_lacks_a_package_is_not_started_again(monkeypatch, capsys, words, code):
    def lacking(_):
        raise ModuleNotFoundError("No module named 'aiocoap'", name="aiocoap")

    monkeypatch.setattr("keycast.terminal.output.guard_output", lambda: None)  # it exchanges the streams of the process
    monkeypatch.setattr("keycast.services.garbage.leave_alone", lambda: None)  # it is for a whole process, too
    monkeypatch.setattr("keycast.program.program", lacking)
    monkeypatch.setattr(sys, "argv", ["keycast", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code and "pip install 'keycast[gateway]'" in capsys.readouterr().err


SEAL = """kind = "toy"
[seal]
kms = {url = "http://127.0.0.1:1", kms_uri = "kms.example.org", user_uri = "sip:gw@example.org", token = "t"}
cms = {url = "http://127.0.0.1:1", token = "t"}
gms = [{url = "http://127.0.0.1:1", token = "t", gms_uri = "gms.example.org"}]
groups = [{group = "sip:crew@example.org", sg_id = "home/crew"}]
"""


async def test_a_val_client_asks_the_server_of_the_uplink_about_groups_that_are_not_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(by_kind.KINDS, "toy", "tests.unit.toy_uplink")
    path = configured(tmp_path)
    path.write_text(path.read_text().replace('kind = "embedded"\n', SEAL))
    path.chmod(0o600)
    async with open_home(load(path)) as home:
        uplink = toy_uplink.made.pop()
        home.app.gateway.administration.register_pne("lamp")
        octets = messages.encode(numbers.JOIN_REQUEST, {messages.PNE_ID: "lamp", messages.SG_ID: SG})
        await home.app.gateway.handle_pne("lamp", octets)
        assert home.server is None and uplink.life == ["asked"]
        await home.start()
        assert "started" in uplink.life
    assert uplink.life[-1] == "closed"


async def test_the_server_is_set_up_by_the_configuration_where_nothing_else_is_said(tmp_path):
    path = configured(tmp_path)
    path.write_text(f"{path.read_text()}server_id = 'server.attic'\n[groups]\nrekey_on_join = false\nperiod_s = 3600\n")
    async with open_home(load(path)) as home:
        home.server.create_group(SG)
        group = home.server.show_group(SG)
        assert (group.rekey_on_join, group.period_s) == (False, 3600)
        assert [gateway.gateway_id for gateway in home.server.gateways()] == ["gw.home"]
    async with open_home(load(path)) as home:  # its PN GW is registered once
        assert [gateway.gateway_id for gateway in home.server.gateways()] == ["gw.home"]
