"""The pages for users are true: each command in them is typed as it stands, in a fresh folder, and ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from device_agent.key_store import KeyStore
from device_agent.val_client import records
from keycast.broker import own_broker
from keycast.demo.end_to_end_story import newest_key
from keycast.demo.val_home import powered
from keycast.micropython_vm import compile
from keycast.program import program
from keycast.virtual_board import named_board
from keycast.virtual_board.board import BoardEnded, BoardError, VirtualBoard
from tests.system import namespaces
from tests.system.manual import NOT_FOR_READERS, Desk, Reading, blocks
from tests.system.namespaces import HomeNetwork
from tools import PROJECT

README, CONTRIBUTING, SECURITY = (PROJECT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY"))
BOARDS, COMMANDS, FIRMWARE, GATEWAY, GMS, KMS, MIKEY, OPERATORS = (
    PROJECT / "docs" / f"{name}.md"
    for name in ("boards", "commands", "firmware", "gateway", "gms", "kms", "mikey", "operators")
)
PAGES = [README, CONTRIBUTING, SECURITY, *sorted((PROJECT / "docs").glob("*.md"))]

# What nobody types here, and why.
NOT_TYPED = {
    (README, "See it without hardware"): "`make test` would begin this test anew; the demo has tests of its own",
    (FIRMWARE, "Newer agents without new firmware"): "it wants a firmware of one's own, which is not built here",
    (CONTRIBUTING, "Set up"): "it makes what this test runs in, and begins this test anew",
}
READ: list[tuple[Path, str]] = []


def reads(*sections: tuple[Path, str]) -> pytest.MarkDecorator:
    """The test gets, as `reading`, what somebody types and writes who reads these sections."""
    READ.extend(sections)
    return pytest.mark.parametrize("reading", [Reading(*sections)], ids=[sections[0][0].stem])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_says_what_it_is_and_is_typed(page: Path) -> None:
    """A block without a language, or under a heading that no test reads, would be typed by nobody."""
    fenced = {line for block in blocks(page) for line in range(block.line - 1, block.line + block.text.count("\n") + 1)}
    for number, line in enumerate(page.read_text().splitlines(), 1):
        assert number in fenced or not line.startswith("    "), f"{page.name}, line {number}: a block without a fence"
    for block in blocks(page):
        section = (page, block.heading)
        assert block.language in NOT_FOR_READERS or section in READ or section in NOT_TYPED, (
            f"{page.name}, line {block.line}: no test types what stands under {block.heading!r}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_that_a_sentence_names_is_one(page: Path) -> None:
    """Its words, and its options; what stands for a name or a file is not looked at."""
    sentences = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for words in re.findall(r"`keycast\s+([a-z][^`|\\]*)`", sentences):
        command: Any = typer.main.get_command(program(words.split()))
        for word in words.split():
            if word.startswith("--"):
                options = {option for each in command.params for option in each.opts}
                assert word in options, f"{page.name}: keycast {words}"
            elif commands := getattr(command, "commands", None):
                assert word in commands, f"{page.name}: keycast {words}"
                command = commands[word]


@asynccontextmanager
async def home_network(machines: int, first: str = "10.77.0.1") -> AsyncIterator[HomeNetwork]:
    if why := namespaces.missing():
        pytest.skip(why)
    with HomeNetwork(machines, first=first) as network:
        yield network


@asynccontextmanager
async def switched_on(board: VirtualBoard, **how: Any) -> AsyncIterator[VirtualBoard]:
    await board.start(**how)
    try:
        yield board
    finally:
        await board.kill()


def name_the_card(desk: Desk) -> Callable[[], None]:
    """What a person does whose machine has nothing but the virtual cable of a container, as `gateway run` says."""

    def do() -> None:
        configuration = desk.folder / "keycast.toml"
        text = configuration.read_text()
        assert 'interfaces = ["auto"]' in text
        configuration.write_text(text.replace('interfaces = ["auto"]', 'interfaces = ["eth0"]'))

    return do


async def until(desk: Desk, command: str, true: Callable[[Any], bool], timeout_s: float = 120) -> Any:
    """Type a command until what it answers is so."""
    end = time.monotonic() + timeout_s
    while True:
        code, words = await desk.type(f"{command} --json")
        if code == 0 and true(answer := json.loads(words)):
            return answer
        assert time.monotonic() < end, f"{command!r} still answers {code}:\n{words}"
        await asyncio.sleep(1)  # each question is a process that the servers and boards here have to wait for


def keyed(*names: str, above: int = 0) -> Callable[[Any], bool]:
    """Whether a Service Group as `group show` tells it has given all of them its newest key."""

    def found(group: Any) -> bool:
        confirmed = {member["pne_id"]: member["confirmed"] for member in group["members"]}
        return group["version"] > above and all(confirmed.get(name) == group["version"] for name in names)

    return found


def credential_in(text: str) -> str:
    """The credential, in hexadecimal, that a command has printed."""
    return str(re.findall(r"\b[0-9a-f]{64,}\b", text)[-1])


COMMANDS_MAX = 5
MACHINE_S = 60


def slowness() -> float:
    """By how much this machine is slower than it would be alone: elapsed time of a computation by its own time."""
    begun, own = time.monotonic(), time.process_time()
    while time.process_time() - own < 0.3:
        pass
    return max(1.0, (time.monotonic() - begun) / 0.3)


@pytest.mark.req("SEC-17")
@reads(
    (README, "A gateway of your own"),
    (README, "An application"),
    (README, "Without a board"),
    (README, "Onto the board"),
)
async def test_a_newcomer_with_a_board(tmp_path: Path, reading: Reading) -> None:
    """From an empty folder to a board that is let in, runs the application of the page, and is thrown out.

    The board is a virtual one on a pseudo-terminal, flashed and provisioned by the commands of the page. From when it
    is plugged in to its first Group Key these are five, which take a minute at most.
    """
    clone = tmp_path / "clone"
    clone.mkdir()
    for entry in PROJECT.iterdir():
        if entry.name == "keycast" or not entry.name.startswith("keycast"):
            (clone / entry.name).symlink_to(entry)
    async with home_network(1) as network, Desk(tmp_path, network.words(1), clone) as desk:
        desk.replaced["keycast gateway init"] = "keycast gateway init --virtual-boards"
        with reading:
            await desk.follow(reading.next())
            desk.write(reading.next("python"), "app.py")
            port = re.search(r"its port is (\S+);", await desk.follow(reading.next()))
            assert port is not None
            (clone / "password").write_text(f"{named_board.WIFI_PASSWORD}\n")
            desk.replaced["board flash ESP32_GENERIC-20250415-v1.25.0.bin --yes"] = "board flash --port porch"
            desk.replaced["mpremote cp"] = f"python -m mpremote connect {port[1]} cp"
            desk.replaced['--wifi "name of the network"'] = (
                f"--wifi {named_board.WIFI_NAME} --wifi-password-file password --port porch"
            )
            to_the_key = reading.next()
            begun, typed = time.monotonic(), len(desk.typed)
            printed = await desk.follow(to_the_key)
            assert "lamp.porch is let in and runs" in printed
            await until(desk, "keycast group show home/lights", keyed("lamp.porch"))
            assert time.monotonic() - begun < MACHINE_S * slowness()
            assert len(to_the_key.lines()) == COMMANDS_MAX <= len(desk.typed) - typed
            assert not list(tmp_path.rglob("*.record")) and not list(clone.glob("porch.*"))
            await desk.follow(reading.next())
            show = "keycast group show home/lights"
            await until(desk, show, lambda group: [each["state"] for each in group["members"]] == ["expelled"])


@reads((README, "An application"), (BOARDS, "Without hardware"))
async def test_a_newcomer_without_a_board(tmp_path: Path, reading: Reading) -> None:
    """A virtual board goes from its blank flash to its first Group Key by what the page says."""
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        with reading:
            desk.write(reading.next("python"), "app.py")
            told = await desk.follow(reading.next())
        assert "lamp.porch is let in and runs" in told
        await until(desk, "keycast group show home/lights", keyed("lamp.porch"))


@pytest.mark.req("SEC-02", "SEC-18", "SEC-33", "SEC-37")
@reads((GATEWAY, "Start"), (GATEWAY, "As a service"), (GATEWAY, "Backup and loss"), (GATEWAY, "A new signing key"))
async def test_a_gateway_at_home(tmp_path: Path, reading: Reading) -> None:
    """The gateway is killed and its state folder lost between backup and restore; its board comes back."""
    (tmp_path / "keycast").symlink_to(PROJECT)
    async with home_network(2) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.then["keycast gateway init"] = name_the_card(desk)
        with reading:
            await desk.follow(reading.next())
            await desk.end_services()
            await desk.done("export KEYCAST_CONFIG=~/keycast.toml")
            desk.write(reading.next("ini"), ".config/systemd/user/keycast-gateway.service")
            await desk.follow(reading.next())
            await until(desk, "keycast status", lambda status: not status["alarms"])
            await desk.done("keycast group create home/lights --open-to home")
            await desk.done("keycast board provision lamp.porch -o porch.py")
            board = VirtualBoard.create(tmp_path / "board", 2, b"", network.board(2))
            await desk.done("mpremote run porch.py")
            async with switched_on(board):
                await board.command("join", group="home/lights", timeout_s=180)
                await until(desk, "keycast group show home/lights", keyed("lamp.porch"))
                await desk.follow(reading.next())
                assert (tmp_path / "home.backup").stat().st_mode & 0o777 == 0o600
                await desk.done("kill -9 $(cat ~/.stand-in/keycast-gateway.pid); rm -rf ~/keycast-state")
                before = (await board.command("status"))["groups"]["home/lights"]
                await desk.follow(reading.next())
                await until(desk, "keycast group show home/lights", lambda group: group["members"])
                assert (await desk.type("keycast status"))[0] == 2
                await desk.follow(reading.next())
                async with asyncio.timeout(180):
                    while (await board.command("status"))["groups"].get("home/lights", 0) <= before:
                        with contextlib.suppress(BoardError):
                            await board.command("refresh", group="home/lights", timeout_s=180)
                await until(desk, "keycast status", lambda status: not status["alarms"])

                await desk.follow(reading.next())
                assert (tmp_path / "home-2.backup").exists()
                await board.event("rolled over")
                seen = len(board.events)
                await desk.done("keycast group update home/lights")
                await board.event("key", since=seen)
        await desk.done("systemctl --user stop keycast-gateway")


@reads((GATEWAY, "Bluetooth"), (GATEWAY, "Rights"))
async def test_a_gateway_with_bluetooth(tmp_path: Path, reading: Reading) -> None:
    """On a machine without any: the gateway runs all the same, and says what is missing."""
    (tmp_path / "keycast").symlink_to(PROJECT)
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.then["keycast gateway init"] = name_the_card(desk)
        desk.replaced["/home/pi"] = str(tmp_path)
        await desk.done("keycast gateway init")
        with reading:
            desk.configure(reading.next("toml"))
            desk.write(reading.next("ini"), "system/keycast-gateway.service")
            await desk.follow(reading.next())
        async with asyncio.timeout(180):
            while (answer := await desk.type("keycast status --json"))[0] != 2:  # it starts, or has not noticed yet
                await asyncio.sleep(1)
        status = json.loads(answer[1])
        assert any("Bluetooth" in alarm["text"] for alarm in status["alarms"])
        assert any(each["interface"] == "eth0" and not each["problem"] for each in status["networks"])
        code, told = await desk.type("keycast radios --json")
        assert code == 2 and json.loads(told)["in_use"] is True and json.loads(told)["problems"]
        await desk.done("systemctl stop keycast-gateway")


@pytest.mark.req("SEC-18")
@reads((GATEWAY, "A CPNS Server elsewhere"), (GATEWAY, "A stolen or broken gateway"))
async def test_a_server_elsewhere_and_a_stolen_gateway(tmp_path: Path, reading: Reading) -> None:
    """Its board is let in at the new gateway by the secret that it shows, and is keyed again; the thief is not."""
    show = "keycast group show home/lights --state keycast-server-state"

    async with (
        home_network(4, "192.168.1.10") as network,
        Desk(tmp_path / "home", network.words(1)) as home,
        Desk(tmp_path / "server", network.words(3)) as server,
        Desk(tmp_path / "new", network.words(4)) as new,
    ):
        for desk in (home, new):
            desk.then["keycast gateway init"] = name_the_card(desk)
            await desk.done("export KEYCAST_CONFIG=~/keycast.toml")
        with reading:
            home.replaced["SERVER-CREDENTIAL"] = new.replaced["SERVER-CREDENTIAL"] = credential_in(
                await server.follow(reading.next())
            )
            await home.done("keycast gateway init ~/keycast.toml")
            uplink = reading.next("toml")
            home.configure(uplink)
            server.replaced["GATEWAY-CREDENTIAL"] = credential_in(await home.follow(reading.next()))
            await server.follow(reading.next())
            await home.done("keycast gateway run")
            await server.follow(reading.next())
            await home.done("keycast board provision lamp.porch -o porch.py")
            board = VirtualBoard.create(tmp_path / "home" / "board", 2, b"", network.board(2))
            await home.done("mpremote run porch.py")
            async with switched_on(board):
                await board.command("join", group="home/lights", timeout_s=180)
                before = (await until(server, show, keyed("lamp.porch")))["version"]

                await server.follow(reading.next())
                await home.end_services()
                await new.follow(reading.next())
                new.configure(uplink)
                server.replaced["GATEWAY-CREDENTIAL"] = credential_in(await new.follow(reading.next()))
                await server.follow(reading.next())
                pairing = asyncio.create_task(board.command("pair", timeout_s=180))
                new.replaced["ABCD-EFGH-IJKL-MNOP"] = (await board.event("pairing"))["secret"]
                await new.follow(reading.next())
                await pairing
                await board.event("expelled")
                await board.restart()
                await board.command("join", group="home/lights", timeout_s=180)
                await until(server, show, keyed("lamp.porch", above=before))


@pytest.mark.req("SEC-28")
@reads(
    (GATEWAY, "A CPNS Server elsewhere"),
    (GATEWAY, "A second home"),
    (GATEWAY, "When the Server is silent"),
)
async def test_two_homes_with_one_server(tmp_path: Path, reading: Reading) -> None:
    """A board of each is in one group, and the Server shows how both got its key."""
    async with (
        home_network(5, "192.168.1.10") as network,
        Desk(tmp_path / "home", network.words(1)) as home,
        Desk(tmp_path / "server", network.words(3)) as server,
        Desk(tmp_path / "cabin", network.words(4)) as cabin,
        contextlib.AsyncExitStack() as powered_on,
    ):

        async def begin(desk: Desk, init: str) -> None:
            await desk.done(init)
            name_the_card(desk)()
            desk.configure(uplink)

        async def lamp(desk: Desk, machine: int) -> None:
            await desk.done("export KEYCAST_CONFIG=~/keycast.toml")
            await desk.done("keycast gateway run")
            await desk.done(f"keycast board provision lamp.{desk.folder.name} -o lamp.py")
            board = VirtualBoard.create(desk.folder / "board", machine, b"", network.board(machine))
            await desk.done("mpremote run lamp.py")
            await powered_on.enter_async_context(switched_on(board))
            await board.command("join", group="home/lights", timeout_s=180)

        with reading:
            home.replaced["SERVER-CREDENTIAL"] = cabin.replaced["SERVER-CREDENTIAL"] = credential_in(
                await server.follow(reading.next())
            )
            uplink = reading.next("toml")
            await begin(home, "keycast gateway init ~/keycast.toml")
            both = reading.next()
            server.replaced["GATEWAY-CREDENTIAL"] = credential_in(await home.follow(both))
            await server.follow(reading.next())
            await server.follow(reading.next())
            await lamp(home, 2)

            await begin(cabin, reading.next().text)
            server.replaced["GATEWAY-CREDENTIAL"] = credential_in(await cabin.follow(both))
            await server.follow(reading.next())
            opening = reading.next()
            await server.follow(opening)
            await lamp(cabin, 5)
            show = "keycast group show home/lights --state keycast-server-state"
            view = await until(server, show, keyed("lamp.home", "lamp.cabin"))
            assert {(each["pne_id"], each["pn_id"]) for each in view["members"]} == {
                ("lamp.home", "home"),
                ("lamp.cabin", "cabin"),
            }
            assert {each["link"] for each in view["members"]} <= {"unicast", "wifi"}
            assert all(each["tries"] for each in view["members"])
            status = json.loads(await cabin.done("keycast status --json"))
            assert status["server_age_s"] is not None and [each["pne_id"] for each in status["devices"]] == [
                "lamp.cabin"
            ]

            await home.end_services()
            home.configure(reading.next("toml"))
            await home.done("keycast gateway run")
            await home.done("keycast status")


@pytest.mark.req("SEC-25", "SEC-26")
@reads(
    (GATEWAY, "A CPNS Server elsewhere"),
    (GATEWAY, "A board with a cable"),
    (GATEWAY, "A board that is paired"),
    (GATEWAY, "A board that makes no session with the Server"),
)
async def test_keys_that_the_gateway_cannot_read(tmp_path: Path, reading: Reading) -> None:
    """Three boards, each told of the Server in its own way, have the key that the Server made; the gateway has none."""
    show = "keycast group show home/alarm --state keycast-server-state"

    def admission(words: str) -> str:
        """The line for the Server, which a person copies."""
        line = next(line for line in words.splitlines() if "keycast server admit-board" in line)
        return line.partition(": ")[2]

    async with (
        home_network(5, "192.168.1.10") as network,
        Desk(tmp_path / "home", network.words(1)) as home,
        Desk(tmp_path / "server", network.words(3)) as server,
        contextlib.AsyncExitStack() as powered_on,
    ):
        home.then["keycast gateway init"] = name_the_card(home)
        await home.done("export KEYCAST_CONFIG=~/keycast.toml")

        async def join(board: VirtualBoard) -> None:
            await board.command("join", group="home/alarm", trust="end-to-end", timeout_s=180)

        async def admit(words: str) -> None:
            """Copy the line to the Server, where the page has the same with an example."""
            line = admission(words)
            server.replaced["BOARD-CREDENTIAL"] = credential_in(line)
            example = reading.next()
            assert server._own(example.lines()[0][1]) in (line, re.sub(r" --credential \w+", "", line))
            await server.follow(example)

        with reading:
            home.replaced["SERVER-CREDENTIAL"] = credential_in(await server.follow(reading.next()))
            shown = json.loads(await server.done("keycast server credential --json"))["server_fingerprint"]
            await home.done("keycast gateway init ~/keycast.toml")
            home.configure(reading.next("toml"))
            server.replaced["GATEWAY-CREDENTIAL"] = credential_in(await home.follow(reading.next()))
            await server.follow(reading.next())
            await home.done("keycast gateway run")
            await server.follow(reading.next())

            home.replaced['--wifi "name of the network"'] = "-o board.py"
            told = await home.follow(reading.next())
            assert f"trusts the CPNS Server {shown}" in told
            porch = VirtualBoard.create(tmp_path / "home" / "board", 2, b"", network.board(2))
            await home.done("mpremote run board.py; rm board.py")
            await admit(told)
            home.write(reading.next("python"), "app.py")
            await powered_on.enter_async_context(switched_on(porch))
            await join(porch)
            await until(server, show, keyed("lamp.porch"))
            await server.follow(reading.next())

            hall = VirtualBoard.create(tmp_path / "hall", 4, b"", network.board(4))
            with contextlib.suppress(BoardEnded):  # a board that has made its identity resets itself once
                await hall.start()
            if not hall.running:
                await hall.start()
            powered_on.push_async_callback(hall.kill)
            home.replaced["ABCD-EFGH-IJKL-MNOP"] = (await hall.line("keycast: pairing-secret ")).split()[-1]
            told = await home.follow(reading.next())
            assert f"will trust the CPNS Server {shown}" in told
            assert await hall.line("paired: the CPNS Server of end-to-end groups is ") == shown
            own = await hall.line("paired: that Server must know this board as ")
            assert f"Its own credential is {own}" in told
            await admit(told)
            await join(hall)

            told = await home.follow(reading.next())
            (tmp_path / "home" / "lamp.attic.key").rename(tmp_path / "server" / "lamp.attic.key")
            attic = VirtualBoard.create(tmp_path / "attic", 5, b"", network.board(5))
            await attic.run_script(tmp_path / "home" / "board.py")
            await admit(told)
            await powered_on.enter_async_context(switched_on(attic))
            await join(attic)
            view = await until(server, show, keyed("lamp.attic", "lamp.hall", "lamp.porch"))
            assert {each["way"] for each in view["pne_deliveries"]} == {"end-to-end"}
            key, *others = {newest_key(board, "home/alarm") for board in (porch, hall, attic)}
            files = [path for path in (tmp_path / "home" / "keycast-state").rglob("*") if path.is_file()]
            assert not others and files and not [path for path in files if key in path.read_bytes()]


@reads((OPERATORS, "Operators elsewhere"), (OPERATORS, "What everybody did"))
async def test_operators_elsewhere(tmp_path: Path, reading: Reading) -> None:
    """An operator with a token makes a group over REST, and the log of the Server tells who did what."""
    async with home_network(2, "192.168.1.10") as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["server.example.org"] = "192.168.1.10"
        with reading:
            for _ in range(2):
                await desk.follow(reading.next())
            async with Desk(tmp_path, network.words(2)) as alice:
                alice.replaced["server.example.org"] = "192.168.1.10"
                assert "version 0.1" in await alice.follow(reading.next())
            told = await desk.follow(reading.next())
        assert re.search(r"alice +rest +group.policy .*rekey_on_join=False sg_id=town/lights +done", told)
        assert re.search(r"socket +server.add-token .*operator=alice", told)


@reads((OPERATORS, "A broker"), (OPERATORS, "Several brokers"))
async def test_a_broker(tmp_path: Path, reading: Reading) -> None:
    """A Mosquitto with these files passes the trial, with more gateways, and after one of them was revoked."""
    try:
        own_broker.mosquitto()
    except own_broker.NoBroker as error:
        pytest.skip(str(error))
    mosquitto = tmp_path / "mosquitto"
    mosquitto.mkdir()
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["/var/lib/mosquitto/keycast"] = str(mosquitto / "keycast")
        desk.replaced["/etc/mosquitto"] = str(mosquitto)
        desk.replaced["chown -R mosquitto:"] = "chown -R $USER"
        desk.replaced["mqtt.example.org"] = "localhost"
        unit = tmp_path / "system" / "mosquitto.service"
        unit.parent.mkdir()
        as_nobody = (
            "unshare --map-user=1000 --map-group=1000 " if os.geteuid() == 0 else ""
        )  # root's files stay its own
        # it ends by itself if this test is killed
        unit.write_text(f"[Service]\nExecStart=timeout 600 {as_nobody}mosquitto -c {mosquitto}/mosquitto.conf\n")
        await desk.done("export USER=$(id -un)")
        with reading:
            for _ in range(2):
                await desk.follow(reading.next())
            try:
                trial = reading.next()
                await desk.done("until (echo > /dev/tcp/localhost/8883) 2>/dev/null; do sleep 0.1; done")
                assert "This broker can serve keycast." in await desk.follow(trial)
                await desk.follow(reading.next())
                await desk.follow(reading.next())
                assert "revoked" in await desk.done("keycast server broker-files ~/broker-files")
                assert "This broker can serve keycast." in await desk.follow(trial)
                await desk.follow(reading.next())
            finally:
                await desk.done("systemctl stop mosquitto")
    assert (tmp_path / "broker-files" / "brokers" / "mqtt2.example.org" / "broker.key").exists()


@pytest.mark.req("CPNS-GKM-62")
@reads((OPERATORS, "A Server and gateways over MQTT"))
async def test_a_server_and_a_gateway_over_mqtt(tmp_path: Path, reading: Reading) -> None:
    """The gateway has the key of a group that the operator has made, through a Mosquitto with the files of the page."""
    try:
        own_broker.mosquitto()
    except own_broker.NoBroker as error:
        pytest.skip(str(error))
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["mqtt.example.org"] = "localhost"
        desk.replaced["/home/pi"] = str(tmp_path)
        desk.then["keycast gateway init"] = name_the_card(desk)
        await desk.done("keycast server broker-files ~/broker-files --ca --host localhost --gateway gw.home")
        as_nobody = "unshare --map-user=1000 --map-group=1000 " if os.geteuid() == 0 else ""
        configuration = tmp_path / "broker-files" / "brokers" / "localhost" / "mosquitto.conf"
        await desk.done(f"{as_nobody}mosquitto -c {configuration} >/dev/null 2>&1 &")
        await desk.done("until (echo > /dev/tcp/localhost/8883) 2>/dev/null; do sleep 0.1; done")
        with reading:
            await desk.follow(reading.next())
            assert "lets this gateway in, and the CPNS Server answers" in await desk.follow(reading.next())
            desk.configure(reading.next("toml"))
            for number, command in reading.next().lines():
                code, words = await desk.type(command)
                assert code == 0, f"line {number}: {command!r} ended with {code}:\n{words}"
                if "credential" in command and "trust" not in command and "add-gateway" not in command:
                    whose = "SERVER" if "server" in command else "GATEWAY"
                    desk.replaced[f"{whose}-CREDENTIAL"] = credential_in(words)
        at = "--state ~/server-state"
        await desk.done(f"keycast group create home/lights --open-to home {at}")
        assert "connected since" in await desk.done(f"keycast server status {at}")
        status = await until(desk, "keycast status", lambda state: state["brokers"][0]["connected"])
        assert status["uplink"] == "mqtt"
        await until(desk, f"keycast server status {at}", lambda state: state["gateway_count"] == 1)


@reads((KMS, "The key management server (KMS)"), (GMS, "Start"), (GMS, "Into the PN"), (GMS, "A board as VAL client"))
async def test_group_master_keys(tmp_path: Path, reading: Reading) -> None:
    """KMS, GMS, CMS and a gateway on one machine; both VAL users, the gateway and a board, acknowledge the GMK."""
    async with home_network(2, "192.168.1.10") as network, Desk(tmp_path, network.words(1)) as desk:
        desk.then["keycast gateway init"] = name_the_card(desk)

        def tokens(who: str, name: str) -> None:
            for server, file in (("CMS", f"{name}-cms.token"), ("GMS", f"{name}-gms.token")):
                desk.replaced[f"{who}-TOKEN-AT-{server}"] = (tmp_path / file).read_text().strip()

        with reading:
            for _ in range(2):  # the KMS, the two others
                await desk.follow(reading.next())
            gmk_id = (await desk.follow(reading.next())).split()[-1]
            await desk.done("keycast gateway init")
            tokens("GATEWAY", "gateway")
            desk.replaced["GATEWAY-TOKEN-AT-KMS"] = (tmp_path / "gateway.token").read_text().strip()
            desk.configure(reading.next("toml"))

            board = VirtualBoard.create(tmp_path / "board", 2, b"", network.board(2))
            val = board.folder / "files" / "val"
            desk.replaced['"/val/"'] = f'"{val}/"'
            app = desk.write(reading.next("python"), "app.py")
            boards = reading.next("toml")
            await desk.follow(reading.next())
            tokens("BOARD", "lamp")
            desk.configure(boards)
            told = await desk.follow(reading.next())
            await desk.done(f"mpremote cp {app.name} :")
            for command in told.splitlines():
                if command.startswith("  mpremote"):
                    await desk.done(command.strip())
            board.app, board.rom, board.val_client = val.parent, compile.VAL_CLIENT_IMAGE, f"{val}/"
            async with powered(board):
                found = await until(
                    desk,
                    f"keycast gms key show {gmk_id}",
                    lambda users: {each["state"] for each in users} == {"done"},
                )
                assert len(found) == 2
                assert [gmk.gmk_id.hex() for gmk in records.load_gmks(KeyStore(board.nvs.snapshot()))] == [gmk_id]


@reads((MIKEY, "MIKEY-SAKKE messages by hand"))
async def test_the_messages_of_the_mikey_page(tmp_path: Path, reading: Reading) -> None:
    async with Desk(tmp_path) as desk:
        with reading:
            assert "signature_valid" in await desk.follow(reading.next())


@reads((COMMANDS, "Tab completion"))
async def test_tab_completion(tmp_path: Path, reading: Reading) -> None:
    async with Desk(tmp_path) as desk:
        with reading:
            await desk.follow(reading.next())
        assert "keycast" in (tmp_path / ".bashrc").read_text()
        assert "provision" in await desk.done(
            "bash -ic '_KEYCAST_COMPLETE=complete_bash COMP_WORDS=\"keycast board pro\" COMP_CWORD=2 keycast'"
        )
