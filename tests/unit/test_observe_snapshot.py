"""The snapshot of a real home: evidence for each board, and the same door for page, MQTT and control socket."""

import dataclasses
import json
import subprocess
import sys

import pytest

from cpns import messages, numbers
from cpns.errors import Unknown
from gateway_agent.control import asked_by
from gateway_agent.core.groups.membership import Cause
from gateway_agent.observe import onlookers, stored_state
from gateway_agent.observe.observer import ServerFacts
from tests.unit.home_world import BOARDS, SG, Home, ask
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def in_step(monkeypatch):
    """The clock of this machine is synchronised."""
    monkeypatch.setattr("gateway_agent.clock.SystemClock.unix", lambda self: 1_800_000_000)


async def test_a_home_shows_groups_boards_and_what_proves_it(home):
    async with home.running() as service:
        await home.live(service)
        observer = service.app.observer(lambda: ServerFacts(held=frozenset({SG})))
        await until(lambda: observer.snapshot().group(SG) and len(observer.snapshot().group(SG).members) == 3)
        service.server.update_key(SG)
        await until(lambda: observer.snapshot().group(SG).deliveries)
        seen = observer.snapshot()
        assert (seen.gateway_id, seen.pn_id, seen.uplink.kind, seen.uplink.up) == ("gw.home", "home", "embedded", True)
        assert [each.pne_id for each in seen.boards] == sorted(BOARDS) and seen.board("nobody") is None
        (group,) = seen.groups
        assert group.held and seen.held == (SG,) and group.trust == "gateway" and group.version
        assert [each.pne_id for each in group.members] == sorted(BOARDS)
        for board in seen.boards:  # the evidence of a board is that of its groups
            assert board.memberships == tuple(each for each in group.members if each.pne_id == board.pne_id)
            assert not board.heard_at and board.age_s is None and board.heard_link == ""
        assert group.key_made_at == 1_800_000_000 and group.deliveries[0].version == group.version
        assert seen.event_number == service.app.stream.number and seen.commits > 0
        assert json.loads(json.dumps(dataclasses.asdict(seen)))["groups"][0]["sg_id"] == SG


async def test_a_confirmation_is_evidence_until_a_newer_one_takes_its_place(home):
    async with home.running() as service:
        await home.live(service)
        app = service.app
        observer = app.observer()
        await until(lambda: observer.snapshot().group(SG) and len(observer.snapshot().group(SG).members) == 3)
        service.server.update_key(SG)
        await until(lambda: app.gateway.administration.recipients(SG).keys() == set(BOARDS))
        first = observer.snapshot().group(SG).version
        await app.gateway._deliveries.confirmed(SG, first, "lamp")
        lamp = observer.snapshot().board("lamp").memberships[0]
        assert (lamp.state, lamp.version, lamp.link, lamp.version_text) == ("confirmed", first, "unicast", "0.2")
        assert lamp.confirmed_at and observer.snapshot().group(SG).confirmed == 1
        service.server.update_key(SG)
        await until(lambda: observer.snapshot().group(SG).version > first)
        lamp = observer.snapshot().board("lamp").memberships[0]
        assert lamp.state != "confirmed" and lamp.version == first  # it is known to have the one before
        assert observer.snapshot().group(SG).confirmed == 0
        figures = observer.figures()
        assert sum(figures.groups[0].states.values()) == 3 and figures.groups[0].version > first


async def test_readers_at_the_same_event_share_a_snapshot_and_none_sees_an_older_one(home):
    async with home.running() as service:
        observer = service.app.observer()
        assert observer.recent() is observer.recent()
        before = observer.recent()
        service.app.gateway.administration.set_alarm("page", "It is not open.")
        assert observer.recent() is not before and observer.recent().alarms
        before = observer.recent()
        await home.live(service)  # stores
        assert observer.recent() is not before and len(observer.recent().boards) == len(BOARDS)


async def test_only_what_was_written_about_is_read_anew(home, monkeypatch):
    """A thousand boards and groups that have done nothing are not read for each page, nor because one has."""
    reads = []
    monkeypatch.setattr(
        stored_state, "read", lambda store, of=None, read=stored_state.read: reads.append(of) or read(store, of)
    )
    async with home.running() as service:
        await home.live(service)
        store, observer = service.app._store, service.app.observer()
        await until(lambda: observer.snapshot().group(SG) and len(observer.snapshot().group(SG).members) == 3)
        with store.transaction():
            store.inventory.ensure_group("home/attic")
        first = observer.snapshot()
        del reads[:]
        assert observer.snapshot() is not first and not reads
        with store.transaction():
            store.pn.set_heard("lamp", 7, "192.0.2.7:5683", "wifi")
            store.inventory.set_version(SG, 7)
        seen = observer.snapshot()
        assert reads == [{SG}] and seen.board("lamp").heard_at == 7 and seen.group(SG).version == 7
        assert seen.group("home/attic") is first.group("home/attic")
        service.app.gateway.administration.retire_pne("lamp", Cause.LOST)
        assert "lamp" not in [each.pne_id for each in observer.snapshot().group(SG).members]


@pytest.mark.req("SEC-02", "SEC-06")
@pytest.mark.parametrize("how", ["retired", "expelled", "left"])
async def test_no_remark_is_left_of_a_group_that_its_last_board_leaves(home, how):
    """The CPNS Server sends no key to a PN without members, so a remark about the one before would never end."""

    async def ends(name):
        if how == "retired":
            service.app.registrar.retire(name)
        elif how == "expelled":
            service.server.expel(SG, name)
        else:
            await ask(service, name, numbers.LEAVE_REQUEST, {messages.SG_ID: SG})

    async with home.running() as service:
        await home.live(service)
        store, observer = service.app._store, service.app.observer()
        await until(lambda: observer.snapshot().group(SG) and observer.snapshot().group(SG).version)
        for name in BOARDS[1:]:
            await ends(name)
        await until(lambda: len(observer.snapshot().group(SG).members) == 1)
        with store.transaction():
            store.inventory.mark_exposed(SG)
        assert observer.snapshot().group(SG).exposed  # the one that is left still uses that key
        await ends(BOARDS[0])
        await until(lambda: service.server.show_group(SG).version > store.inventory.group(SG).version)
        await until(lambda: not observer.snapshot().group(SG).members)
        assert store.inventory.group(SG).exposed and not observer.snapshot().group(SG).exposed
        with store.transaction():
            store.inventory.mark_all_waiting()  # as a restore does
        assert observer.snapshot().group(SG).waiting  # boards may be in it
        with store.transaction():
            store.inventory.reach_revision(SG, 9)
        assert not observer.snapshot().group(SG).waiting


class Watcher:
    """An onlooker that sees all and fails at what it is told to."""

    def __init__(self, sight):
        self.commands = {"watcher.ask": lambda: "it watches"}
        self.sight, self.steps = sight, []

    async def start(self):
        self.steps.append("start")

    async def close(self):
        self.steps.append("close" if self.sight.snapshot().gateway_id else "too late")


async def test_an_onlooker_starts_after_the_gateway_closes_before_it_and_uses_its_commands(home, monkeypatch):
    made = []

    def open_onlookers(config, sight):
        made.append(Watcher(sight))
        return made

    monkeypatch.setattr("keycast.services.home.open_onlookers", open_onlookers)
    async with home.running() as service:
        (watcher,) = made
        assert watcher.steps == ["start"] and watcher.sight.health().ready
        await home.live(service)
        assert (await watcher.sight.command("status"))["gateway_id"] == "gw.home"
        assert await watcher.sight.command("watcher.ask") == "it watches"
        by = watcher.sight.commands | {"who": asked_by.get}
        sight = dataclasses.replace(watcher.sight, commands=by)
        assert await sight.command("who", by="anna") == "anna" and asked_by.get() == ""
        with pytest.raises(Unknown):
            await watcher.sight.command("no-such")
        watcher.sight.set_alarm("page", "It is not open.")
        assert [each.kind for each in watcher.sight.snapshot().alarms] == ["page"]
        assert (await watcher.sight.command("status"))["alarms"][0]["text"] == "It is not open."
        watcher.sight.set_alarm("page", "")
        assert not watcher.sight.snapshot().alarms
    assert watcher.steps == ["start", "close"]


async def test_an_onlooker_that_fails_stops_no_gateway(home, monkeypatch, caplog):
    class Broken(Watcher):
        async def start(self):
            raise RuntimeError("it is broken")

    monkeypatch.setattr("keycast.services.home.open_onlookers", lambda config, sight: [Broken(sight)])
    async with home.running() as service:
        await home.live(service)
    assert "KC1701" in caplog.text


def test_without_their_sections_no_package_of_an_onlooker_is_loaded(tmp_path):
    """Off costs nothing."""
    home = Home(tmp_path)
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom gateway_agent.config.load import load\n"
        "from keycast.services.home import open_home\n"
        "async def live():\n"
        f"    async with open_home(load(Path({str(home.path)!r}))) as home:\n"
        "        await home.start()\n"
        "asyncio.run(live())\n"
        "print(*(name.partition('.')[0] for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not loaded & {"aiohttp", "jinja2", "prometheus_client", "aiomqtt", "segno"} and "aiocoap" in loaded


@pytest.mark.parametrize("name", onlookers.ONLOOKERS)
def test_reading_the_configuration_loads_no_package_of_an_extra(name):
    """`keycast status` reads it each time."""
    code = (
        "import sys\nfrom gateway_agent.observe import onlookers\n"
        f"kind = onlookers.kind({name!r})\nkind.SECTION\n"
        "print(*(each for each in kind.EXTRA if each in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0 and not done.stdout.split(), done.stderr + done.stdout
