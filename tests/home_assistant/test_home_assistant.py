"""What Home Assistant itself makes of what a gateway says over MQTT: `make home-assistant`, at night."""

import asyncio
import json
import time

import aiomqtt
import pytest

from tests.home_assistant.home_assistant import home_assistant, python
from tests.unit.mosquitto_broker import mosquitto

pytestmark = [pytest.mark.real_time, pytest.mark.timeout(900)]
SOON_S = 30.0


async def until(look, wanted, within_s=SOON_S):
    """Wait until `look()` returns what `wanted` accepts; return it."""
    ends = time.monotonic() + within_s
    while not wanted(found := await look()):
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.2)
    return found


async def say(port, topic, value):
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.publish(topic, value if isinstance(value, str) else json.dumps(value), qos=1, retain=True)


async def test_it_takes_a_device_that_is_discovered_over_mqtt_and_keeps_it_over_a_restart(tmp_path):
    python()
    with mosquitto(tmp_path / "broker") as broker:
        port = int(broker.url.rpartition(":")[2])
        component = {"p": "sensor", "uniq_id": "x1_version", "name": "Key version", "stat_t": "x/version"}
        device = {"dev": {"ids": ["x1"], "name": "Gate"}, "o": {"name": "keycast"}, "cmps": {"version": component}}
        async with home_assistant(tmp_path / "config", port) as running:
            await say(port, "homeassistant/device/x1/config", device)
            await say(port, "x/version", "7")
            await until(running.states, lambda states: states.get("sensor.gate_key_version") == "7")
            assert "Gate" in [each["name"] for each in await running.registry("device_registry")]
            await running.stop()
            await running.start()
            await until(running.states, lambda states: states.get("sensor.gate_key_version") == "7")
