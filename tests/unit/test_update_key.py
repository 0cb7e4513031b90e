"""The public key of updates in a gateway: read, told to boards, and no key with another job (SEC-17, SEC-30)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.update import key as board_key
from gateway_agent.app import GatewayApp
from gateway_agent.config.load import parse
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.state_files import own_keys
from gateway_agent.updates.section import UpdateSection
from gateway_agent.updates.update_key import UpdateKey
from keycast.provisioning.board import flash_script, told_trust, trust_of
from message_plane import credentials
from message_plane.errors import IdentityError
from tests.unit.test_board_provisioning import BoardHere, Door, app, door, make, radio_first
from tests.unit.test_gateway_app import SilentServer, config

__all__ = ["app", "door", "radio_first"]  # fixtures

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> bytes:
    octets: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return octets


def with_key(folder: Path, key: Any = KEY) -> GatewayConfig:
    (folder / "update.pub").write_bytes(pem(key))
    return config(folder).model_copy(update={"update": UpdateSection(key=folder / "update.pub")})


@pytest.mark.req("SEC-30")
async def test_a_gateway_tells_boards_the_key_that_its_configuration_names(tmp_path: Path) -> None:
    opened = await GatewayApp.open(with_key(tmp_path), SilentServer())
    try:
        assert opened.update_key is not None and len(opened.update_key.octets) == 64
        assert trust_of(opened).update_key == opened.update_key.octets
        assert told_trust(opened.trust()).further_records() == {"upkey": opened.update_key.octets}
    finally:
        await opened.close()
    without = await GatewayApp.open(config(tmp_path / "b"), SilentServer())
    try:
        assert without.update_key is None and trust_of(without).further_records() == {}
    finally:
        await without.close()


@pytest.mark.req("SEC-17")
@pytest.mark.parametrize("which", ["identity", "signing"])
async def test_a_key_that_has_another_job_in_the_gateway_stops_it(tmp_path: Path, which: str) -> None:
    own, signing = own_keys(config(tmp_path))
    key = {"identity": own._key, "signing": signing._key}[which]
    with pytest.raises(IdentityError, match=r"^key in \[update\]: .*one key is used for two jobs"):
        await GatewayApp.open(with_key(tmp_path, key), SilentServer())


@pytest.mark.req("SEC-17")
async def test_a_key_that_is_the_credential_of_a_board_or_server_stops_the_gateway(tmp_path: Path) -> None:
    opened = await GatewayApp.open(config(tmp_path), SilentServer())
    x = KEY.public_key().public_numbers().x.to_bytes(32, "big")
    opened.register(credentials.of("lamp", "pne", x))
    await opened.close()
    with pytest.raises(IdentityError, match="one key is used for two jobs"):
        await GatewayApp.open(with_key(tmp_path), SilentServer())


@pytest.mark.req("SEC-17")
async def test_the_next_signing_key_is_compared_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await GatewayApp.open(with_key(tmp_path), SilentServer())
    monkeypatch.setattr(ec, "generate_private_key", lambda _: KEY)
    try:
        with pytest.raises(IdentityError, match="one key is used for two jobs"):
            opened.roll_over()
    finally:
        await opened.close()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        pem(ed25519.Ed25519PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_a_file_with_another_kind_of_key(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "update.pub"
    path.write_bytes(octets)
    with pytest.raises(IdentityError, match="is not the public part of a key for updates"):
        UpdateKey.load(path)


def test_the_file_is_beside_the_configuration_and_a_missing_one_is_a_sentence(tmp_path: Path) -> None:
    text = b'[gateway]\nid = "gw"\npn = "home"\nstate_dir = "s"\n[update]\nkey = "update.pub"\n'
    path = parse(text, folder=tmp_path).update.key
    assert path == tmp_path / "update.pub"
    with pytest.raises(IdentityError, match=f"There is no file {path}. Make the key: keycast update key FILE"):
        UpdateKey.load(path)


@pytest.mark.req("SEC-30")
async def test_a_board_on_a_cable_gets_it_with_its_identity_and_loses_it_with_it(door: Door) -> None:
    board, key = BoardHere(), UpdateKey(KEY.public_key()).octets
    trust = replace(trust_of(door.app), update_key=key)
    make(door, board, trust=trust)
    assert board.store.load(board_key.RECORD) == key
    make(door, board)  # of the same gateway, which now names none
    assert board.store.load(board_key.RECORD) == key
    other = bytes(63) + b"\1"
    assert not make(door, board, trust=replace(trust, update_key=other)).new
    assert board.store.load(board_key.RECORD) == other
    make(door, board, "lamp.hall", replace=True)
    assert board.store.load(board_key.RECORD) is None
    assert key.hex() in flash_script(trust.further_records())
