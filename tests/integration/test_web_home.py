"""The page of a real home: composed by its configuration, opened by the command `keycast web`."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway_agent.config.load import load
from keycast.free_ports import free_port
from keycast.services.home import open_home
from tests.unit.home_world import configured
from tests.waiting import PATIENCE_S

KEYCAST = (str(Path(sys.executable).with_name("keycast")),)


def with_page(folder: Path) -> tuple[Path, str]:
    """The configuration of a home with a page on a free port, and the page's URL."""
    path = configured(folder)
    port = free_port()
    path.write_text(f"{path.read_text()}[web]\nport = {port}\n")
    return path, f"http://127.0.0.1:{port}"


async def typed(*words: str, reads: str = "") -> tuple[int, str]:
    """The exit code of a command and what it prints."""
    environment = {**os.environ, "COLUMNS": "200"}
    found = await asyncio.to_thread(
        subprocess.run,
        (*KEYCAST, *words),
        input=reads,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment,
    )
    return found.returncode, found.stdout + found.stderr


@pytest.mark.real_time
async def test_a_home_has_the_page_that_its_configuration_names(tmp_path: Path) -> None:
    path, url = with_page(tmp_path)
    code, said = await typed("web", "link", "-c", str(path))
    assert code == 1 and "keycast gateway run" in said
    async with open_home(load(path), config_path=path) as home:
        await home.start()
        code, said = await typed("web", "password", "--stdin", "-c", str(path), reads="short\n")
        assert code == 1 and "less than 8 characters" in said
        code, said = await typed("web", "password", "--stdin", "-c", str(path), reads="long enough\n")
        assert code == 0 and "long enough" not in said
        code, said = await typed("web", "link", "--json", "-c", str(path))
        link = json.loads(said)
        assert code == 0 and link["urls"][0].startswith(f"{url}/log-in?token=")
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(url, cookie_jar=jar) as browser:
            async with browser.get("/health/live") as answer:
                assert answer.status == 200
            async with browser.get(link["urls"][0].removeprefix(url)) as answer:
                token = (await answer.text()).partition('name="form_token" value="')[2].partition('"')[0]
            fields = {"form_token": token, "token": link["urls"][0].partition("token=")[2]}
            async with browser.post("/log-in", data=fields, headers={"Origin": url}) as answer:
                assert answer.status == 200 and str(answer.url) == f"{url}/"
            async with browser.get("/api/snapshot") as answer:
                assert (await answer.json())["gateway_id"] == "gw.home"
    code, said = await typed("web", "link", "-c", str(configured(tmp_path)))
    assert code == 1 and "Write [web] into it" in said


@pytest.mark.real_time
async def test_a_port_that_is_taken_stops_no_gateway(tmp_path: Path) -> None:
    path, url = with_page(tmp_path)
    with socket.create_server(("127.0.0.1", int(url.rsplit(":", 1)[1]))):
        async with open_home(load(path), config_path=path) as home:
            await home.start()
            (alarm,) = [each for each in home.app.gateway.administration.alarms() if each.kind == "page"]
            assert f"(process {os.getpid()})" in alarm.text and str(path) in alarm.text
            code, said = await typed("web", "link", "-c", str(path))
            assert code == 1 and "keycast status" in said


def test_a_gateway_without_a_page_loads_nothing_of_it(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from gateway_agent.config.load import load
from keycast.services.home import open_home

async def run():
    path = Path({str(configured(tmp_path))!r})
    async with open_home(load(path), config_path=path) as home:
        await home.start()

asyncio.run(run())
loaded = [name for name in ("aiohttp", "jinja2", "segno", "prometheus_client") if name in sys.modules]
loaded += [name for name in sys.modules if name.startswith("gateway_agent.web")]
print(loaded)
"""
    found = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=PATIENCE_S)
    assert found.stdout.strip().endswith("[]"), found.stdout + found.stderr
