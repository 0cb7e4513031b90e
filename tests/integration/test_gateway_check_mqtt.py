"""`keycast gateway check` with brokers: it names what a broker refuses and the line to add, and disturbs nobody."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from keycast.services.gateway_trial import BrokerHere, trial
from message_plane.errors import BrokerFilesRefused
from message_plane.links.mqtt_topics import down, tag_of, up
from tests.integration.mqtt_uplink_world import RULES, SERVER_ID, MqttHome, Operator
from tests.unit.mosquitto_broker import Authority, Mosquitto, mosquitto
from tests.waiting import until

pytestmark = pytest.mark.real_time

TAG = tag_of("gw.home")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker", tls=True, access=RULES) as broker:
        yield broker


async def found_by(home: MqttHome) -> BrokerHere:
    (broker,) = (await trial(home.config)).brokers
    return broker


async def test_the_server_answers_or_is_not_there(tmp_path: Path, broker: Mosquitto) -> None:
    home = MqttHome(tmp_path / "home", "home", [broker])
    assert await found_by(home) == BrokerHere(broker.url, connected=True, problem="", server_is_there=False)
    async with Operator(tmp_path / "server", [broker]).running() as server:
        assert await found_by(home) == BrokerHere(broker.url, connected=True, problem="", server_is_there=True)
        assert server.counters().get("datagrams_malformed", 0) == 0


async def test_a_server_whose_credential_is_missing_is_told_with_the_command(tmp_path: Path, broker: Mosquitto) -> None:
    home = MqttHome(tmp_path / "home", "home", [broker])
    assert "keycast gateway trust-server CREDENTIAL" in (await trial(home.config)).server_problem
    async with Operator(tmp_path / "server", [broker]).running() as server:
        home.meet(server)
        assert (await trial(home.config)).server_problem == ""
        home.path.write_text(home.path.read_text().replace(f'"{SERVER_ID}"', '"cpns.exmaple"'))
        told = (await trial(home.config)).server_problem
        assert f"{SERVER_ID} is trusted here: is that what uplink.server_id should name?" in told


async def test_it_takes_nothing_from_a_gateway_that_runs(tmp_path: Path, broker: Mosquitto) -> None:
    home, operator = MqttHome(tmp_path / "home", "home", [broker]), Operator(tmp_path / "server", [broker])
    async with operator.running() as server, home.running() as opened:
        home.meet(server) if not server.gateways() else None
        before = opened.app.brokers()
        await until(lambda: opened.app.brokers()[0].connected)
        assert await found_by(home) == BrokerHere(broker.url, connected=True, problem="")
        assert before[0].since_s <= opened.app.brokers()[0].since_s


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("removed", "line"),
    [
        ("pattern write keycast/1/up/+/%u\n", f"topic write {up(TAG)}"),
        ("pattern readwrite keycast/1/+/%u\n", f"topic read {down(TAG)}"),
    ],
)
async def test_a_line_that_the_access_list_lacks_is_told(
    tmp_path: Path, broker: Mosquitto, version: str, removed: str, line: str
) -> None:
    home = MqttHome(tmp_path / "home", "home", [broker])
    home.path.write_text(home.path.read_text().replace('kind = "mqtt"', f'kind = "mqtt"\nversion = "{version}"'))
    async with Operator(tmp_path / "server", [broker]).running():
        broker.allow(RULES.replace(removed, ""))
        found = await found_by(home)
        assert not found.connected and line in found.problem and f"user {TAG}" in found.problem


async def test_what_tls_refuses_is_told(tmp_path: Path, broker: Mosquitto) -> None:
    home = MqttHome(tmp_path / "home", "home", [broker])
    text = home.path.read_text()
    foreign = Authority(tmp_path / "foreign")
    assert broker.authority is not None
    home.path.write_text(text.replace(str(broker.authority.ca), str(foreign.ca)))
    assert "cannot prove its name" in (await found_by(home)).problem
    certificate, key = foreign.issue(TAG)
    ours = tmp_path / "broker" / "tls" / f"{TAG}"
    home.path.write_text(text.replace(f"{ours}.crt", str(certificate)).replace(f"{ours}.key", str(key)))
    assert "client certificate. Use a certificate that its own CA has issued" in (await found_by(home)).problem
    home.path.write_text("".join(line for line in text.splitlines(True) if not line.startswith(("cert", "key"))))
    assert "wants a client certificate" in (await found_by(home)).problem


async def test_a_certificate_that_no_broker_would_serve_is_told_without_one(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    home = MqttHome(tmp_path / "home", "home", [broker])
    text = home.path.read_text()
    assert broker.authority is not None
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    broker.authority.issue(TAG, ends=ended)
    with pytest.raises(BrokerFilesRefused, match="was valid until"):
        await trial(home.config)
    async with home.running():  # its boards need it all the same
        assert "was valid until" in caplog.text
        await until(lambda: "certificate" in home.home.app.no_broker())
    broker.authority.issue("gw.home")
    home.path.write_text(text.replace(f"{TAG}.crt", "gw.home.crt").replace(f"{TAG}.key", "gw.home.key"))
    with pytest.raises(BrokerFilesRefused, match=f"has the CN gw.home, and that of this ID must have {TAG}"):
        await trial(home.config)
    with pytest.raises(BrokerFilesRefused, match=r"has the CN gw\.home"):
        async with home.running():
            pass


async def test_a_broker_that_is_gone_is_told_beside_one_that_answers(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "one") as one, mosquitto(tmp_path / "two") as two:
        home = MqttHome(tmp_path / "home", "home", [one, two])
        one.kill()
        first, second = (await trial(home.config)).brokers
        assert "nothing listens at this port" in first.problem and not first.connected
        assert second.connected and SERVER_ID not in second.problem
