"""The pages for users are true: each command in them is typed as it stands, in a fresh folder, and ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from device_agent.key_store import KeyStore
from device_agent.val_client import records
from keycast.demo.end_to_end_story import newest_key
from keycast.demo.val_home import powered
from keycast.micropython_vm import compile
from keycast.program import program
from keycast.virtual_board import named_board
from keycast.virtual_board.board import BoardEnded, BoardError, VirtualBoard
from tests.system.manual import NOT_FOR_READERS, Desk, Reading, blocks
from tests.system.pages import (
    BOARDS,
    COMMANDS,
    CONTRIBUTING,
    FIRMWARE,
    GATEWAY,
    GMS,
    HOME_ASSISTANT,
    KMS,
    MIKEY,
    OPERATE,
    PAGES,
    READ,
    README,
    UPDATE,
    credential_in,
    home_network,
    keyed,
    name_the_card,
    reads,
    switched_on,
    until,
)
from tests.system.slowness import Slowness
from tools import PROJECT

# What nobody types here, and why.
NOT_TYPED = {
    (README, "See it without hardware"): "`make test` would begin this test anew; the demo has tests of its own",
    (FIRMWARE, "Newer agents without new firmware"): "it wants a firmware of one's own, which is not built here",
    (CONTRIBUTING, "Set up"): "it makes what this test runs in, and begins this test anew",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_says_what_it_is_and_is_typed(page: Path) -> None:
    """A block without a language, or under a heading that no test reads, would be typed by nobody."""
    import_module("tests.system.test_page_for_operators")  # adds to READ what its tests read
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


COMMANDS_MAX = 5
MACHINE_S = 60


@pytest.mark.long
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
        desk.replaced["keycast setup"] = "keycast setup --yes --virtual-boards"
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
            with Slowness() as here:
                printed = await desk.follow(to_the_key)
                assert "lamp.porch is let in and runs" in printed
                await until(desk, "keycast group show home/lights", keyed("lamp.porch"))
            assert time.monotonic() - begun < here.times(MACHINE_S)
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


@pytest.mark.long
@reads((OPERATE, "Set up"), (OPERATE, "The first key"), (OPERATE, "Backups"))
async def test_a_newcomer_to_the_first_key(tmp_path: Path, reading: Reading) -> None:
    """The questions themselves are answered in tests/system/test_setup_terminal.py."""
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["keycast setup"] = "keycast setup --yes --virtual-boards"
        with reading:
            assert "keycast board run porch --join home/lights" in await desk.follow(reading.next())
            await desk.follow(reading.next())
            await until(desk, "keycast group show home/lights", keyed("porch"))
            await desk.follow(reading.next())
            await desk.end_services()
            await desk.follow(reading.next())


@pytest.mark.long
@reads(
    *((UPDATE, "The key"), (UPDATE, "Signing"), (UPDATE, "Looking at an update"), (UPDATE, "Offering an update")),
    *((UPDATE, "One board, one group, all"), (UPDATE, "How to come back")),
)
async def test_who_signs_updates(tmp_path: Path, reading: Reading) -> None:
    """The gateway starts with the section of the page; what boards do with an update is tried elsewhere."""
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        await desk.done("keycast setup --yes")
        (tmp_path / "passphrase").touch(0o600)
        (tmp_path / "passphrase").write_text("correct horse battery\n")
        for command in ("update key update.key", "-o agent.suit --key update.key", "-o before.suit --key update.key"):
            desk.replaced[command] = f"{command} --passphrase-file passphrase"
        with reading:
            await desk.follow(reading.next())
            desk.configure(reading.next("toml"))
            assert "is right" in await desk.done("keycast gateway check")
            assert "for agent esp32 mpy6" in await desk.follow(reading.next())
            assert "signature: good, by update.key.pub" in await desk.follow(reading.next())
            await desk.done("keycast gateway run")
            assert "is offered to all boards" in await desk.follow(reading.next())
            assert "is withdrawn" in await desk.done("keycast update withdraw")
            await desk.done("keycast group create home/lights --open-to home")
            await desk.done("keycast board provision lamp.porch -o porch.py")
            assert "is offered to lamp.porch" in await desk.follow(reading.next())
            assert "is offered to all boards by broadcast" in await desk.follow(reading.next())
            assert "is withdrawn" in await desk.follow(reading.next())


@reads((HOME_ASSISTANT, "Start"), (HOME_ASSISTANT, "What can be done over MQTT"))
async def test_the_sections_of_the_page_about_home_assistant(tmp_path: Path, reading: Reading) -> None:
    """A gateway starts with them; tests/home_assistant tries what they do."""
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        await desk.done("keycast setup --yes")
        (tmp_path / "mqtt.password").write_text("secret\n")
        (tmp_path / "mqtt.password").chmod(0o600)
        with reading:
            for _ in range(2):
                desk.configure(reading.next("toml"))
                assert "is right" in await desk.done("keycast gateway check")


@pytest.mark.long
@pytest.mark.req("SEC-02", "SEC-18", "SEC-33", "SEC-37")
@reads((GATEWAY, "Start"), (GATEWAY, "As a service"), (GATEWAY, "Backup and loss"), (GATEWAY, "A new signing key"))
async def test_a_gateway_at_home(tmp_path: Path, reading: Reading) -> None:
    """The gateway is killed and its state folder lost between backup and restore; its board comes back."""
    (tmp_path / "keycast").symlink_to(PROJECT)
    async with home_network(2) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.replaced["keycast setup"] = "keycast setup --yes"  # which takes the cable of a container, if that is all
        with reading:
            await desk.follow(reading.next())
            await desk.end_services()
            # As if systemd had started this machine; other processes keep their /run.
            await desk.done("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system")
            await desk.done("export KEYCAST_CONFIG=~/keycast.toml")
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


@reads((GATEWAY, "Bluetooth"))
async def test_a_gateway_with_bluetooth(tmp_path: Path, reading: Reading) -> None:
    """On a machine without any: the gateway runs all the same, and says what is missing."""
    (tmp_path / "keycast").symlink_to(PROJECT)
    async with home_network(1) as network, Desk(tmp_path, network.words(1)) as desk:
        desk.then["keycast gateway init"] = name_the_card(desk)
        desk.replaced["/home/pi"] = str(tmp_path)
        await desk.done("keycast gateway init")
        with reading:
            desk.configure(reading.next("toml"))
        await desk.done("keycast gateway run")
        async with asyncio.timeout(180):
            while (answer := await desk.type("keycast status --json"))[0] != 2:  # it starts, or has not noticed yet
                await asyncio.sleep(1)
        status = json.loads(answer[1])
        assert any("Bluetooth" in alarm["text"] for alarm in status["alarms"])
        assert any(each["interface"] == "eth0" and not each["problem"] for each in status["networks"])
        code, told = await desk.type("keycast radios --json")
        assert code == 2 and json.loads(told)["in_use"] is True and json.loads(told)["problems"]


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
