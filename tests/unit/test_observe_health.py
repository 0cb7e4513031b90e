"""The health of a gateway: what live and ready mean, and that a lag is measured by a task and not by who asks."""

import asyncio
import os
import threading

from gateway_agent.core.alarms import CONFIGURATION
from gateway_agent.observe.config_watch import ConfigWatch
from gateway_agent.observe.health import LAG_MAX_S, HealthWatch


async def test_it_is_ready_when_it_has_started_its_store_writes_and_a_medium_is_up():
    trouble, network = [""], [""]
    health = HealthWatch(lambda: trouble[0], lambda: network[0])
    assert health.view().live and health.view().not_ready == ("the gateway is starting",)
    health.start()
    assert health.view().ready
    trouble[0], network[0] = "/home/anna: no space left", "wlan0 is gone"
    told = health.view()
    assert told.live and not told.ready and len(told.not_ready) == 2
    assert not any(name in " ".join(told.not_ready) for name in ("anna", "wlan0"))  # an answer has no names
    await health.close()


async def test_a_blocked_event_loop_is_seen_afterwards_for_a_while():
    """The task that measures is late itself; whoever asks later still learns of it."""
    health = HealthWatch(str, str)
    health.start()
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    real, shift = loop.time, 0.0
    loop.time = lambda: real() + shift  # type: ignore[method-assign]
    shift = LAG_MAX_S + 1.0  # three seconds go by in which nothing ran
    told = health.view()
    assert not told.live and not told.ready and told.lag_s > LAG_MAX_S and "late" in told.not_live[0]
    await asyncio.sleep(0.01)  # the beat is overdue, and comes
    assert not health.view().live
    await health.close()


def test_a_changed_configuration_is_an_alarm_until_it_is_as_it_was(tmp_path):
    path, alarms = tmp_path / "keycast.toml", {}
    path.write_text('[gateway]\nid = "gw"\n')
    watch = ConfigWatch(path, alarms.__setitem__)
    for text in ('[gateway]\nid = "gw"\n', '# a comment\n[gateway]\nid="gw"\n'):
        path.write_text(text)
        watch.look()
        assert alarms == {CONFIGURATION: ""}
    for text in ('[gateway]\nid = "other"\n', "[gateway\n", '[gateway]\nid = "gw"\n[web]\n'):
        path.write_text(text)
        watch.look()
        assert str(path) in alarms[CONFIGURATION] and "keycast gateway check" in alarms[CONFIGURATION]
    path.unlink()
    watch.look()
    assert alarms[CONFIGURATION]
    path.write_text('[gateway]\nid = "gw"\n')
    watch.look()
    assert alarms == {CONFIGURATION: ""}


def test_what_is_no_file_in_the_place_of_the_configuration_holds_up_nothing(tmp_path):
    path, alarms = tmp_path / "keycast.toml", {}
    path.write_text('[gateway]\nid = "gw"\n')
    watch = ConfigWatch(path, alarms.__setitem__)
    path.unlink()
    os.mkfifo(path)
    look = threading.Thread(target=watch.look, daemon=True)
    look.start()
    look.join(30)
    assert not look.is_alive() and alarms[CONFIGURATION]
