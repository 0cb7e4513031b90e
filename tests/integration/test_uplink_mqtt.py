"""A gateway and a CPNS Server over MQTT, through a real Mosquitto: keys arrive, whoever of the three is restarted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cpns import messages, numbers, uplink_form
from gateway_agent.core.pn_gateway import PnGateway
from keycast.services import trusted_server
from message_plane import credentials
from tests.integration.mqtt_uplink_world import RULES, SG, MqttHome, Operator
from tests.integration.test_server_udp import UdpPnGw
from tests.unit.mosquitto_broker import Mosquitto, mosquitto
from tests.waiting import until

pytestmark = pytest.mark.real_time


@pytest.fixture(params=["plain", "tls"])
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker", tls=request.param == "tls", access=RULES) as broker:
        yield broker


@contextlib.asynccontextmanager
async def a_home_with_a_key(folder: Path, broker: Mosquitto) -> AsyncIterator[tuple[Operator, MqttHome]]:
    """Both run, and two boards of the home are members of SG."""
    operator, home = Operator(folder / "server", [broker]), MqttHome(folder / "home", "home", [broker])
    async with operator.running() as server:
        home.meet(server)
        server.create_group(SG, open_to=[home.pn_id])
        async with home.running():
            for lamp in ("lamp.1", "lamp.2"):
                assert await home.join(lamp) == numbers.RESULT_SUCCESS
            await until(lambda: home.version() == server.show_group(SG).version > 1)
            yield operator, home


@pytest.mark.req("CPNS-GKM-50", "CPNS-GKM-62", "SEC-27")
async def test_a_group_is_keyed_over_mqtt_and_keyed_anew_when_a_board_leaves(tmp_path: Path, broker: Mosquitto) -> None:
    async with a_home_with_a_key(tmp_path, broker) as (operator, home):
        before = home.version()
        assert await home.leave("lamp.2") == numbers.RESULT_SUCCESS
        await until(lambda: home.version() == operator.server.show_group(SG).version > before)
        assert operator.server.counters().get("mqtt_foreign", 0) == 0


async def test_a_gateway_that_makes_no_session_names_the_command_that_is_missing(
    tmp_path: Path, broker: Mosquitto
) -> None:
    operator, home = Operator(tmp_path / "server", [broker]), MqttHome(tmp_path / "home", "home", [broker])

    def problem() -> str:
        home.home.app.gateway._housekeeping.soon()
        return home.home.app.gateway.administration.server_problem

    async with operator.running() as server, home.running():
        await until(lambda: "keycast gateway trust-server CREDENTIAL" in problem())
        trusted_server.trust_server(home.config, credentials.parse(server.credential(), "server"))
        await until(lambda: "keycast server add-gateway" in problem())
        home.meet(server)
        await until(lambda: problem() == "")


async def test_after_a_restart_of_the_server_keys_flow_without_a_word_of_the_gateway(
    tmp_path: Path, broker: Mosquitto
) -> None:
    operator, home = Operator(tmp_path / "server", [broker]), MqttHome(tmp_path / "home", "home", [broker])
    async with contextlib.AsyncExitStack() as gateway:
        async with operator.running() as server:
            home.meet(server)
            server.create_group(SG, open_to=[home.pn_id])
            await gateway.enter_async_context(home.running())
            await home.join("lamp.1")
            await until(lambda: home.version() == server.show_group(SG).version > 1)
        async with operator.running() as server:
            version = server.update_key(SG)
            await until(lambda: home.version() == version)
            assert server.counters().get("handshakes_done", 0) == 0


async def test_a_gateway_that_comes_back_is_sent_the_newest_key_only(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    operator, home = Operator(tmp_path / "server", [broker]), MqttHome(tmp_path / "home", "home", [broker])
    async with operator.running() as server:
        home.meet(server)
        server.create_group(SG, open_to=[home.pn_id])
        async with home.running():
            await home.join("lamp.1")
            await until(lambda: home.version() == server.show_group(SG).version > 1)
        await until(lambda: operator.sees(home) is False)
        sent = server.counters()["requests_sent"]
        for _ in range(50):
            server.update_key(SG)
            await asyncio.sleep(0)
        assert server.counters()["requests_sent"] == sent  # nothing waits at the broker
        take = PnGateway.handle_server

        async def noted(gateway: PnGateway, message: bytes, left: asyncio.Event | None = None) -> bytes:
            code, fields = uplink_form.decode(message)
            if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
                taken.append(fields[messages.VERSION])
            return await take(gateway, message, left)

        monkeypatch.setattr(PnGateway, "handle_server", noted)
        async with home.running():
            await until(lambda: home.version() == server.show_group(SG).version)
        assert taken == [server.show_group(SG).version]


@pytest.mark.req("SEC-27")
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_broker_that_was_gone_has_lost_nothing_that_is_missed(
    tmp_path: Path, broker: Mosquitto, how: str
) -> None:
    async with a_home_with_a_key(tmp_path, broker) as (operator, home):
        broker.kill() if how == "killed" else broker.stop()
        version = operator.server.update_key(SG)
        await until(lambda: not operator.server.status().brokers[0].connected)
        broker.start()
        await until(lambda: home.version() == version)
        assert operator.server.status().brokers[0].connected


async def test_a_home_goes_on_by_another_broker(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "one", access=RULES) as one, mosquitto(tmp_path / "two", access=RULES) as two:
        operator = Operator(tmp_path / "server", [one, two])
        home = MqttHome(tmp_path / "home", "home", [one, two])
        async with operator.running() as server:
            home.meet(server)
            server.create_group(SG, open_to=[home.pn_id])
            async with home.running() as opened:
                await home.join("lamp.1")
                await until(lambda: home.version() == server.show_group(SG).version > 1)
                assert [each.connected for each in opened.app.brokers()] == [True, False]
                one.kill()
                version = server.update_key(SG)
                await until(lambda: home.version() == version)
                assert [each.connected for each in opened.app.brokers()] == [False, True]
                assert "is not there" in opened.app.brokers()[0].problem or "ended" in opened.app.brokers()[0].problem


async def test_a_server_may_be_reached_by_udp_and_by_mqtt_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    operator = Operator(tmp_path / "server", [broker], listen=["127.0.0.1"], port=0)
    home, other = MqttHome(tmp_path / "home", "home", [broker]), UdpPnGw(tmp_path, "other")
    async with operator.running() as server:
        home.meet(server, form="xml")
        server.register_gateway("gw.other", "pn.other", other.identity.credential.ccs, is_open=True)
        server.create_group(SG, open_to=[home.pn_id, "pn.other"])
        await other.start(server)
        async with home.running():
            await home.join("lamp.1")
            await other.ask(numbers.JOIN_REQUEST, {messages.PNE_ID: "door", messages.SG_ID: SG})
            version = server.update_key(SG)
            await until(lambda: home.version() == other.newest(SG) == version)
        await other.stop()


@pytest.mark.req("SEC-27")
async def test_a_server_that_has_lost_the_session_is_told_so_as_soon_as_it_is_back(
    tmp_path: Path, broker: Mosquitto
) -> None:
    operator, home = Operator(tmp_path / "server", [broker]), MqttHome(tmp_path / "home", "home", [broker])
    async with contextlib.AsyncExitStack() as gateway:
        async with operator.running() as server:
            home.meet(server)
            server.create_group(SG, open_to=[home.pn_id])
            await gateway.enter_async_context(home.running())
            await home.join("lamp.1")
            await until(lambda: home.version() == server.show_group(SG).version > 1)
            assert server._sessions is not None
            await server._sessions.end_sessions()  # only the gateway has it now
        async with operator.running() as server:
            version = server.update_key(SG)
            await until(lambda: home.version() == version)
            assert server.counters()["handshakes_done"] == 1
