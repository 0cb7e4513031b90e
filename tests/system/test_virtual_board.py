"""A virtual board is switched on, asked, robbed of its power and switched on again."""

import asyncio
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from device_agent import provisioning
from device_agent.key_store import KeyStore
from keycast.virtual_board import board, loopback
from keycast.virtual_board.board import BoardError, VirtualBoard
from keycast.virtual_board.fleet import Fleet
from message_plane.credentials import ccs_of
from tests.waiting import PATIENCE_S
from tools.bench.smallest_heap import smallest_heap

FIRST_NUMBER = 12_000  # 127.0.112.x: nobody else's in this project


def record(name):
    """A provisioning record for a gateway that is not there."""
    own, gateway, signing = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))

    def public(key):
        numbers = key.public_key().public_numbers()
        return numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")

    return provisioning.Provisioning(
        name,
        own.private_numbers().private_value.to_bytes(32, "big"),
        ccs_of(name, public(own)[0]),
        "gateway",
        ccs_of("gateway", public(gateway)[0]),
        b"".join(public(signing)),
        1,
        "home",
        "127.0.112.254",
    ).pack()


@pytest.fixture(scope="module", autouse=True)
def built():
    board.build()


@pytest.fixture
async def one(tmp_path):
    made = VirtualBoard.create(tmp_path / "board", FIRST_NUMBER, record("lamp"))
    yield made
    await made.kill()


async def test_a_board_comes_up_in_96_kib_and_answers(one):
    await one.start()
    status = await one.command("status")
    assert status["groups"] == {} and 0 < status["heap"] < 96 * 1024
    await one.stop()
    assert one.exit_code == 0


async def test_what_a_board_refuses_comes_back_with_its_reason(one):
    await one.start()
    with pytest.raises(BoardError, match="unknown command"):
        await one.command("dance")
    with pytest.raises(BoardError, match="KeyError"):
        await one.command("leave", group="never joined")
    assert (await one.command("status"))["groups"] == {}


async def test_the_identity_survives_the_power(one):
    await one.start()
    before = KeyStore(one.nvs.snapshot()).load(provisioning.RECORD)
    await one.restart()
    assert (await one.command("status"))["groups"] == {}
    assert KeyStore(one.nvs.snapshot()).load(provisioning.RECORD) == before


@pytest.mark.req("SEC-04")
async def test_a_board_without_identity_never_starts_as_a_new_one(one):
    """Its firmware has erased the whole NVS, as it does when it finds no free page."""
    one.nvs.erase()
    await one.start(up=False)
    await one.line("keycast: unprovisioned")
    assert one.exit_code is None and "up" not in [event["event"] for event in one.events]


@pytest.mark.req("SEC-17")
@pytest.mark.parametrize("how", ["before", "torn", "after"])
@pytest.mark.parametrize("write", [1, 2])
async def test_the_power_goes_while_the_seed_is_replaced(one, write, how):
    """Whichever write is the last: the next start replaces the seed again before it uses it."""
    await one.start()
    await one.kill()
    seed = KeyStore(one.nvs.snapshot()).load("seed")
    assert seed is not None
    await one.start(power_cut=f"{write}:{how}", up=False)
    assert await one.ended() == board.POWER_CUT_CODE
    await one.start()
    assert KeyStore(one.nvs.snapshot()).load("seed") not in (seed, None)


async def test_a_board_out_of_range_hears_and_sends_nothing(one):
    await one.start()
    await one.command("range", inside=False)
    await asyncio.sleep(1.5)
    before = (await one.command("status"))["air"]
    await asyncio.sleep(1)
    after = (await one.command("status"))["air"]
    assert after["sent"] - before["sent"] == after["lost"] - before["lost"] and after["received"] == before["received"]


async def test_a_board_that_is_there_before_its_access_point_sends_nothing_and_waits(one):
    await one.start(in_range=False)
    joining = asyncio.create_task(one.command("join", group="kitchen"))
    await asyncio.sleep(1.5)
    assert (await one.command("status"))["air"] == {"sent": 0, "received": 0, "lost": 0}
    await one.command("range", inside=True)
    async with asyncio.timeout(180):
        while not (await one.command("status"))["air"]["sent"]:
            await asyncio.sleep(0.1)
    assert not joining.done()  # nor does it give up for want of a gateway
    joining.cancel()


@pytest.mark.req("SEC-09")
@pytest.mark.parametrize("empty", [b"\x80", b"\xa0"], ids=["arrays", "maps"])
async def test_a_datagram_of_a_thousand_empty_things_does_not_restart_a_board(one, empty):
    await one.start()
    payload = cborlite.encode(b"\x99\x04\xb0" + empty * 1200)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outsider:
        outsider.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(3):
            outsider.sendto(
                FRAME_HEAD + payload + SIGNATURE_HEAD + bytes(64), (loopback.EVERYBODY, loopback.broadcast_port())
            )
            await asyncio.sleep(0.2)
    async with asyncio.timeout(180):
        while (await one.command("status"))["air"]["received"] < 3:
            await asyncio.sleep(0.1)
    assert one.restarts == 0


@pytest.mark.req("SEC-09")
@pytest.mark.parametrize("broadcast", [True, False], ids=["broadcast", "unicast"])
async def test_an_empty_datagram_makes_no_board_deaf(one, broadcast):
    """A socket of MicroPython on the ESP32 reads nothing any more after it; nor does that of a virtual board."""
    await one.start()
    if broadcast:
        place = loopback.EVERYBODY, loopback.broadcast_port()
    else:
        place = one.network.address, loopback.board_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outsider:
        outsider.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for octets, count in ((b"", 1), (b"?", 2), (b"", 3), (b"?", 4)):
            outsider.sendto(octets, place)
            async with asyncio.timeout(PATIENCE_S):
                while (await one.command("status"))["air"]["received"] < count:
                    await asyncio.sleep(0.1)
    assert one.running and one.restarts == 0


async def test_a_hundred_boards_run_on_this_machine(tmp_path):
    shared = record("one of a hundred")
    async with Fleet(tmp_path, [shared] * 100, first=FIRST_NUMBER + 10) as fleet:
        answers = await asyncio.gather(*(one.command("status") for one in fleet.boards))
    assert len(answers) == 100
    assert all(one.exit_code == 0 for one in fleet.boards)


async def test_the_smallest_heap_is_found_by_halving():
    tried = []

    async def passes(kib):
        tried.append(kib)
        return kib >= 53

    assert await smallest_heap(passes, 32, 96) == 53
    assert len(tried) <= 8
    with pytest.raises(ValueError, match="not enough"):
        await smallest_heap(passes, 16, 40)
