"""What the process of a gateway has in its memory while it carries keys that it cannot read."""

import asyncio
import secrets
import subprocess
import sys

import pytest

from cpns import cborlite
from device_agent.key_store import KeyStore
from tests.integration.end_to_end_house import SG
from tests.system import memory_image
from tests.system.end_to_end_home import open_home

LIGHT = "home/light"
IN_BASE64 = [f"b64encode(bytes({before}) + secret + b'!')" for before in range(3)]


@pytest.mark.req("SEC-25", "SEC-26")
async def test_the_gateway_never_has_a_key_of_an_end_to_end_group_in_its_memory(tmp_path):
    """With the same images the keys of an ordinary group are found, so the search finds what is there."""
    images = []

    def image():
        images.append(tmp_path / f"image.{len(images)}")
        memory_image.take(home.gateway.process.pid, images[-1])

    async with open_home(tmp_path) as home:
        await home.group("create", SG, "--open-to", "home", "--trust", "end-to-end")
        await home.group("create", LIGHT, "--open-to", "home")
        image()
        boards = [await home.board(name) for name in ("lamp", "door", "desk")]
        for board in boards:
            await board.node.join(LIGHT)
            joining = asyncio.create_task(board.node.join(SG, trust="end-to-end"))
            await asyncio.sleep(0.05 * secrets.randbelow(20))
            image()  # in the middle of it, wherever that is
            await joining
        await home.all_hold_the_newest()
        image()
        for sg_id in (SG, LIGHT):
            await home.group("update", sg_id)
            image()
            await home.all_hold_the_newest(sg_id=sg_id)
            image()
        lamp, door, _ = boards
        heard = next(group for group in lamp.node.groups if group.id == SG).__aiter__()
        await next(group for group in door.node.groups if group.id == SG).send(b"the window is open")
        assert (await asyncio.wait_for(heard.__anext__(), 60)).data == b"the window is open"
        image()
        await home.group("expel", SG, "desk")
        image()
        await home.all_hold_the_newest("lamp", "door")
        image()

        end_to_end, ordinary = set(), set()
        for board in boards:
            end_to_end |= {*board.euks(), *_session_secrets(board)}
            for (sg_id, _), keys in board.accepted.items():
                (end_to_end if sg_id == SG else ordinary).update(keys)
        assert len(end_to_end) > 3 * 2 + 3 and ordinary
        found = set().union(*(memory_image.found(path, end_to_end | ordinary) for path in images))
        assert found & ordinary
        assert not found & end_to_end
        on_disk = [path.read_bytes() for path in home.gateway.state.rglob("*") if path.is_file()]
        assert not [key for key in end_to_end for octets in on_disk if key in octets]


def _session_secrets(board):
    """The OSCORE master secret of its session with the Server."""
    return [cborlite.decode(KeyStore(board.storage).load("ssess"))[0]]


@pytest.mark.parametrize("form", ["bytearray(secret)", "secret.hex()", "secret.hex().upper()", *IN_BASE64])
def test_the_search_finds_a_secret_in_each_form(tmp_path, form):
    secret = secrets.token_bytes(16)
    program = (
        "import sys; from base64 import b64encode; secret = bytes(255 - int(each) for each in input().split());"
        f"held = {form}; del secret; print(flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        it.stdin.write(" ".join(str(255 - each) for each in secret) + "\n")
        it.stdin.flush()
        it.stdout.readline()
        memory_image.take(it.pid, tmp_path / "image")
        it.communicate("\n")
    assert memory_image.found(tmp_path / "image", [secret, secrets.token_bytes(16)]) == {secret}


@pytest.mark.parametrize("place", range(8))
def test_the_search_finds_each_form_wherever_it_begins(tmp_path, place):
    secret = secrets.token_bytes(16)
    for form in memory_image.forms(secret):
        (tmp_path / "image").write_bytes((bytes(4096 + place) + form).ljust(3 * 4096, b"\0"))
        assert memory_image.found(tmp_path / "image", [secret, secrets.token_bytes(16)]) == {secret}
