"""The control socket: private to its owner, one sentence for every refusal."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cpns.errors import Unknown
from gateway_agent.control import ControlSocket
from gateway_agent.control_client import ask
from gateway_agent.errors import ControlUnavailable, GatewayError
from keycast.commands import server
from message_plane.errors import RegistrationRefused


async def double(number: int) -> int:
    return 2 * number


async def refuse() -> None:
    raise Unknown("no Service Group 'attic'")


async def fail() -> None:
    raise OSError("the disk is full")


async def clash() -> None:
    raise RegistrationRefused("this key belongs to another board")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Path]:
    control = ControlSocket(
        tmp_path / "control.sock", {"double": double, "refuse": refuse, "fail": fail, "clash": clash}
    )
    await control.open()
    yield tmp_path
    await control.close()


async def test_a_command_answers_with_its_value(served: Path) -> None:
    assert await asyncio.to_thread(ask, served, "double", number=21) == 42


async def test_only_the_owner_may_open_the_socket(served: Path) -> None:
    assert stat.S_IMODE((served / "control.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("refuse", {}, "no Service Group 'attic'"),
        ("triple", {}, "Unknown command. Known: clash, double, fail, refuse."),
        ("double", {"digit": 1}, "digit"),
        ("fail", {}, "fail: the disk is full"),
        ("clash", {}, "this key belongs to another board"),
    ],
)
async def test_a_refusal_is_a_sentence(served: Path, command: str, arguments: dict[str, int], sentence: str) -> None:
    with pytest.raises(GatewayError, match=sentence):
        await asyncio.to_thread(ask, served, command, **arguments)


async def test_garbage_and_oversized_requests_do_not_stop_the_gateway(served: Path) -> None:
    for junk in (b"[" * 60_000 + b"\n", b'{"do": []}\n', b"\xff\xfe\n", b"[]\n", b"{}\n", b"x" * 200_000 + b"\n"):
        _, writer = await asyncio.open_unix_connection(str(served / "control.sock"))
        writer.write(junk)
        writer.write_eof()
        writer.close()
    assert await asyncio.to_thread(ask, served, "double", number=1) == 2


async def test_the_end_of_the_gateway_waits_neither_for_a_command_nor_for_an_idle_person(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def pair() -> None:
        begun.set()
        await asyncio.sleep(300)

    control = ControlSocket(tmp_path / "control.sock", {"pair": pair})
    await control.open()
    _, idle = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
    asked = asyncio.create_task(asyncio.to_thread(ask, tmp_path, "pair"))
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(control.close(), 5)
    with pytest.raises(GatewayError, match="stopped while answering"):
        await asyncio.wait_for(asked, 5)
    idle.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_no_gateway_is_one_sentence_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable, match=r"Nothing answers.*keycast gateway run"):
        ask(tmp_path, "double", number=1)
    with pytest.raises(ControlUnavailable, match=r"Start it: keycast server run"):
        ask(tmp_path, "double", "keycast server run", number=1)


async def test_a_path_too_long_for_a_socket_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with pytest.raises(ControlUnavailable, match=r"107 octets.*shorter path"):
        await ControlSocket(folder / "control.sock", {}).open()
    with pytest.raises(ControlUnavailable, match="Nothing answers"):
        ask(folder, "double", number=1)


def test_a_server_whose_socket_would_have_too_long_a_path_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    said = CliRunner().invoke(server.app, ["run", "--state", str(folder)])
    assert said.exit_code == 78 and "shorter path" in said.output and not folder.exists()


async def test_a_second_gateway_on_the_same_state_is_refused(served: Path) -> None:
    with pytest.raises(ControlUnavailable, match="Another gateway is running"):
        await ControlSocket(served / "control.sock", {}).open()


async def test_a_socket_left_by_a_killed_gateway_is_replaced(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    control = ControlSocket(tmp_path / "control.sock", {"double": double})
    await control.open()
    assert await asyncio.to_thread(ask, tmp_path, "double", number=3) == 6
    await control.close()
