"""What a board without gateway makes at its start: with a radio on, and nothing twice (SEC-17, SEC-20)."""

import asyncio
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import device_world
import pytest

from cpns.fingerprint import fingerprint
from device_agent import provisioning, unpaired
from device_agent.key_store import KeyStore
from tests.unit.board_module import board_module, board_modules


class Radio:
    """A Wi-Fi station that notes when it is switched on, and the octets that the generator returned without it."""

    def __init__(self) -> None:
        self.on = False
        self.drawn_without = 0

    def active(self, on: bool) -> None:
        self.on = on

    def urandom(self, size: int) -> bytes:
        self.drawn_without += 0 if self.on else size
        return os.getrandom(size)


@pytest.fixture
def radio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Radio]:
    made = Radio()
    network = SimpleNamespace(WLAN=lambda interface: made, STA_IF=0)
    with board_modules(machine=SimpleNamespace(unique_id=lambda: b"\2\0\0\x0a\x1b\x2c"), network=network):
        monkeypatch.setattr(os, "urandom", made.urandom)
        yield made


def prepare(medium: device_world.Medium) -> bool | None:
    return board_module("pairing_window").prepare(medium, KeyStore(medium))  # type: ignore[no-any-return]


@pytest.mark.req("SEC-17", "SEC-20")
def test_the_radio_is_on_before_anything_is_drawn(radio: Radio, capsys: pytest.CaptureFixture[str]) -> None:
    medium = device_world.Medium()
    assert prepare(medium) is None and radio.on and not radio.drawn_without
    secret = unpaired.shown(unpaired.secret(KeyStore(medium)))
    shown = "-".join(secret[at : at + 4] for at in range(0, 16, 4))
    assert capsys.readouterr().out == f"keycast: pairing-secret board-0a1b2c {shown}\n"


@pytest.mark.req("SEC-17", "SEC-20")
def test_a_secret_that_is_made_later_is_made_with_the_radio_on_too(radio: Radio) -> None:
    medium = device_world.Medium()
    prepare(medium)
    KeyStore(medium).erase(unpaired.RECORD)  # the power was cut between the two records
    radio.on = False
    assert prepare(medium) is False and radio.on and not radio.drawn_without
    assert unpaired.secret(KeyStore(medium))


def test_what_is_there_needs_no_radio(radio: Radio, capsys: pytest.CaptureFixture[str]) -> None:
    medium = device_world.Medium()
    prepare(medium)
    before, said, radio.on = dict(medium.octets), capsys.readouterr().out, False
    assert prepare(medium) is False and not radio.on and medium.octets == before
    assert capsys.readouterr().out == said
    KeyStore(medium).save(provisioning.RECORD, device_world.identity().pack())
    assert prepare(medium) is True and not radio.on and not capsys.readouterr().out
    assert unpaired.secret(KeyStore(medium)) is None


@pytest.mark.req("SEC-25")
@pytest.mark.parametrize("ccs", [b"", b"the credential"])
def test_a_board_that_is_paired_shows_which_server_it_trusts(
    radio: Radio, capsys: pytest.CaptureFixture[str], ccs: bytes
) -> None:
    class Node:
        id, gateway_id, credentials, paired = "lamp", "gw.home", (b"its own", ccs), False

        async def pair(self, show: Callable[[str], None]) -> None:
            show("ABCDEFGHIJKLMNOP")

    asyncio.run(board_module("pairing_window").serve(Node(), None))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "paired: lamp belongs to gw.home"
    told = [
        f"paired: the CPNS Server of end-to-end groups is {fingerprint(ccs)}",
        f"paired: that Server must know this board as {fingerprint(b'its own')}",
    ]
    assert lines[2:] == (told if ccs else [])
