"""/metrics and /health as programs see them: bounded labels, both formats, and promtool has nothing to say."""

import shutil
import socket
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from gateway_agent.config.load import load, parse
from gateway_agent.core import events
from gateway_agent.errors import ConfigError
from gateway_agent.observe import http
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.figures import Figures, GroupFigures
from gateway_agent.observe.health import HealthView
from gateway_agent.observe.metrics import NAMES_MAX, OTHER, Metrics
from gateway_agent.store.errors import StoreFailed
from gateway_agent.web.listener import Listener
from keycast.services.home import open_home
from tests.unit.home_world import configured
from tests.waiting import PATIENCE_S

PROMTOOL = shutil.which("promtool")
OPEN = "application/openmetrics-text; version=1.0.0"


def figures(groups=2, **other):
    states = {"confirmed": 3, "pending": 1}
    values = {
        "release": "0.1.0",
        "groups": tuple(GroupFigures(f"home/{number:04}", 65537 + number, states) for number in range(groups)),
        "broadcasts": {"wlan0": 7},
        "uplink_is_up": True,
        "alarms": {"store": 1},
        "commits": 12,
        "counters": {"confirmations": 3, "beacons": 1},
    }
    return Figures(**values | other)


def samples(metrics, accept=""):
    parser = open_metrics if accept else plain_text
    found = {}
    for family in parser(metrics.text(accept)[0].decode()):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return found


@pytest.mark.parametrize("accept", ["", OPEN])
def test_all_figures_are_there_in_both_formats(accept):
    stream = EventStream()
    metrics = Metrics(stream, figures)
    stream(events.KeyConfirmed("lamp", "home/0000", 65537, "wifi", 1))
    stream(events.KeyDelivered("home/0000", 65537, 3, 4, 3, 2.5, ("door",)))
    found = samples(metrics, accept)
    assert found["keycast_build_info", ("version", "0.1.0")] == 1
    assert found["keycast_group_key_version", ("sg", "home/0001")] == 65538
    assert found["keycast_group_members", ("sg", "home/0000"), ("state", "confirmed")] == 3
    assert found["keycast_delivery_seconds_bucket", ("le", "2.0")] == 0
    assert found["keycast_delivery_seconds_bucket", ("le", "3.0")] == 1
    assert found["keycast_delivery_seconds_count",] == 1 and found["keycast_delivery_seconds_sum",] == 2.5
    assert found["keycast_confirmations_total", ("link", "wifi")] == 1
    assert found["keycast_broadcasts_total", ("interface", "wlan0")] == 7
    assert found["keycast_uplink_up",] == 1 and found["keycast_alarms", ("kind", "store")] == 1
    assert found["keycast_commits_total",] == 12
    assert found["keycast_incidents_total", ("name", "beacons")] == 1
    assert "lamp" not in str(found) and "door" not in str(found)  # no board has a name in here


def test_the_groups_after_the_first_are_told_together_and_the_first_stay_it():
    now = [figures(groups=NAMES_MAX + 40)]
    metrics = Metrics(EventStream(), lambda: now[0])
    found = samples(metrics)
    named = {key[1][1] for key in found if key[0] == "keycast_group_members"}
    assert len(named) == NAMES_MAX + 1 and OTHER in named
    assert found["keycast_group_members", ("sg", OTHER), ("state", "confirmed")] == 3 * 40
    assert sum(value for key, value in found.items() if key[0] == "keycast_group_members") == 4 * (NAMES_MAX + 40)
    newcomer = GroupFigures("a-first-name", 1, {"pending": 5})
    now[0] = replace(now[0], groups=(newcomer, *now[0].groups))
    assert ("keycast_group_key_version", ("sg", newcomer.sg_id)) not in samples(metrics)  # nobody loses a name to it
    now[0] = replace(now[0], groups=now[0].groups[:3])
    found = samples(metrics)
    assert ("keycast_group_key_version", ("sg", "a-first-name")) in found  # groups that are gone make room


@pytest.mark.parametrize("name", ['quote" and \\ slash', "two\nlines", "\u202egnp.exe", "tür/licht"])
def test_no_name_breaks_a_line(name):
    metrics = Metrics(EventStream(), lambda: replace(figures(), groups=(GroupFigures(name, 1, {}),)))
    for accept in ("", OPEN):
        text = metrics.text(accept)[0].decode()
        assert "\u202e" not in text
        shown = {key[1][1] for key in samples(metrics, accept) if key[0] == "keycast_group_key_version"}
        assert len(shown) == 1 and (shown == {name} or not name.isprintable())


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: sudo apt install prometheus)")
def test_promtool_has_nothing_to_say():
    stream = EventStream()
    metrics = Metrics(stream, lambda: figures(groups=100))
    stream(events.KeyConfirmed("lamp", "home/0000", 65537, "wifi", 1))
    stream(events.KeyDelivered("home/0000", 65537, 3, 3, 3, 2.5, ()))
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=metrics.text()[0], capture_output=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0 and not done.stdout + done.stderr


class Seen:
    """A sight of a gateway with `section` as `[metrics]`."""

    def __init__(self, section=None):
        self.config = SimpleNamespace(metrics=section)
        self.stream = EventStream()
        self.told = HealthView((), (), 0.0)
        self.broken = False

    def health(self):
        return self.told

    def figures(self):
        if self.broken:
            raise StoreFailed("The store cannot be read.", "")
        return figures()


async def client_of(seen):
    application = web.Application()
    application.add_routes(http.routes(seen))
    client = TestClient(TestServer(application))
    await client.start_server()
    return client


async def test_health_answers_200_or_503_with_reasons_and_without_names():
    seen = Seen()
    client = await client_of(seen)
    for path, told, status in (
        ("/health/live", HealthView((), ("no medium is up",), 0.0), 200),
        ("/health/ready", HealthView((), ("no medium is up",), 0.0), 503),
        ("/health/live", HealthView(("late",), (), 3.0), 503),
        ("/health/ready", HealthView(("late",), (), 3.0), 503),
        ("/health/ready", HealthView((), (), 0.0), 200),
    ):
        seen.told = told
        answer = await client.get(path)
        reasons = [] if status == 200 else [*told.not_live, *told.not_ready]
        assert answer.status == status
        assert await answer.json() == {"ok": status == 200, "reasons": reasons}
    assert (await client.get("/metrics")).status == 404  # nobody asked for them
    await client.close()


@pytest.mark.parametrize(("peer", "is_open", "status"), [
    ("127.0.0.1", False, 200), ("::1", False, 200), ("::ffff:127.0.0.1", False, 200),
    ("192.168.1.5", False, 403), ("fe80::1%eth0", False, 403), ("", False, 403), ("192.168.1.5", True, 200),
])  # fmt: skip
async def test_metrics_are_for_this_machine_unless_they_are_open(peer, is_open, status):
    (_, _, route) = http.routes(Seen(SimpleNamespace(open=is_open)))
    answer = await route.handler(SimpleNamespace(remote=peer, headers={}))
    assert answer.status == status and ("keycast_" in answer.body.decode()) == (status == 200)


async def test_metrics_say_what_they_are_and_that_the_store_is_broken():
    seen = Seen(SimpleNamespace(open=False))
    client = await client_of(seen)
    for accept in ("", OPEN):
        answer = await client.get("/metrics", headers={"Accept": accept} if accept else {})
        assert answer.status == 200 and ("openmetrics" in answer.headers["Content-Type"]) == bool(accept)
        assert (await answer.text()).rstrip().endswith("# EOF") == bool(accept)
    seen.broken = True
    assert (await client.get("/metrics")).status == 503
    await client.close()


def test_with_a_page_the_metrics_have_no_address_of_their_own():
    begin = '[gateway]\nid = "gw"\npn = "home"\nstate_dir = "s"\n'
    assert parse(f"{begin}[web]\n[metrics]\nopen = true\n".encode()).metrics.open
    for line in ("port = 9000", 'listen = ["127.0.0.1"]'):
        assert parse(f"{begin}[metrics]\n{line}\n".encode()).metrics
        with pytest.raises(ConfigError, match=r"delete listen and port under \[metrics\]"):
            parse(f"{begin}[web]\n[metrics]\n{line}\n".encode())


async def test_metrics_without_a_page_have_a_listener_of_their_own(tmp_path):
    """A real gateway, whose port is taken at first: keys go on, an alarm names the line, and then it is there."""
    path = configured(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path.write_text(f"{path.read_text()}[metrics]\nport = {port}\n")
        async with open_home(load(path), config_path=path) as home:
            await home.start()
            (alarm,) = home.app.gateway.administration.alarms()
            assert alarm.kind == "page" and "port under [metrics]" in alarm.text and str(path) in alarm.text
            assert home.app.health.view().ready
            taken.close()
            (listener,) = [each for each in home.onlookers if isinstance(each, Listener)]
            assert await listener._opened()
            assert not home.app.gateway.administration.alarms()
            async with ClientSession(f"http://127.0.0.1:{port}") as session:
                answer = await session.get("/metrics", headers={"Accept": OPEN})
                assert answer.status == 200 and "keycast_build_info{" in await answer.text()
                assert (await session.get("/metrics", headers={"Host": "evil.example"})).status == 421
                assert (await session.get("/health/ready")).status == 200
                assert (await session.get("/")).status == 404


def test_a_group_that_is_called_other_is_told_once():
    groups = (GroupFigures("other", 65537, {"confirmed": 5}), *figures(NAMES_MAX + 1).groups)
    text = Metrics(EventStream(), lambda: replace(figures(), groups=groups)).text()
    lines = [line for line in text[0].decode().splitlines() if 'sg="other",state="confirmed"' in line]
    assert lines == ['keycast_group_members{sg="other",state="confirmed"} 8.0']
