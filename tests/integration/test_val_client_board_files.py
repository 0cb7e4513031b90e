"""The files that make a board a VAL client, from a KMS and a CMS over HTTPS."""

import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from device_agent.key_store import KeyStore
from device_agent.val_client import key_cache, records
from gateway_agent.errors import GatewayError
from gateway_agent.val_client.server_access import KmsAccess, ServerAccess
from keycast.demo.seal_house import GMS_URI, KMS_URI, SealHouse, build_seal_house
from keycast.provisioning.val_client import SCRIPT, BoardNotProvisioned, fetch
from keycast.virtual_board.nvs_folder import NvsFolder

LAMP, DOOR, CREW = "sip:lamp@example.org", "sip:door@example.org", "sip:crew@gms.example.org"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SealHouse]:
    async with build_seal_house(tmp_path / "servers", workers=-1) as house:
        yield house


async def accesses(house: SealHouse, user: str) -> tuple[KmsAccess, ServerAccess]:
    kms = KmsAccess(
        url=house.kms.urls[0],
        kms_uri=KMS_URI,
        user_uri=user,
        token=SecretStr(await house.kms.add_user(user)),
        ca_file=house.ca,
    )
    token = SecretStr(await house.cms.profiles.add_user(user))
    return kms, ServerAccess(url=house.cms.urls[0], token=token, ca_file=house.ca)


def now() -> int:
    return int(time.time())


@pytest.mark.req("SEAL-GMK-03", "SEAL-GMK-19", "MC-GMK-04")
async def test_a_board_gets_keys_of_two_periods_its_groups_and_caches(house: SealHouse, tmp_path: Path) -> None:
    kms, cms = await accesses(house, LAMP)
    await house.cms.profiles.put_membership(LAMP, CREW, GMS_URI)
    made = await fetch(kms, cms, now)
    assert made.client.groups == {CREW: GMS_URI} and made.client.user == LAMP
    period = made.client.period
    assert len(made.rsks) == 2 and now() + period < made.until <= now() + 2 * period
    assert not any(repr(rsk)[2:-1] in repr(made) for rsk in made.rsks.values())

    folder = tmp_path / "lamp-val"
    caches = made.write(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert [path.name for path in caches] == [f"v{number}" for number in sorted(made.rsks)]
    store = KeyStore(NvsFolder(tmp_path / "nvs"))
    for name, octets in made.flash_records().items():
        assert octets.hex() in (folder / SCRIPT).read_text()
        store.save(name, octets)
    assert records.load_client(store) == made.client and records.load_rsks(store) == made.rsks
    for path, (number, rsk) in zip(caches, sorted(made.rsks.items()), strict=True):
        identifier = made.identifier(number)
        key_cache.KeyCache(str(path), identifier, made.client.z, rsk).close()
    with pytest.raises(BoardNotProvisioned, match="new folder"):
        made.write(folder)


async def test_without_groups_or_with_another_users_token_there_are_no_files(house: SealHouse) -> None:
    kms, cms = await accesses(house, LAMP)
    other_kms, other_cms = await accesses(house, DOOR)
    with pytest.raises(BoardNotProvisioned, match="no group"):
        await fetch(kms, cms, now)
    await house.cms.profiles.put_membership(LAMP, CREW, GMS_URI)
    await house.cms.profiles.put_membership(DOOR, CREW, GMS_URI)
    with pytest.raises(BoardNotProvisioned, match=DOOR):
        await fetch(kms, other_cms, now)
    wrong = kms.model_copy(update={"token": other_kms.token})
    with pytest.raises(BoardNotProvisioned, match="KMS gave no keys"):
        await fetch(wrong, cms, now)
    with pytest.raises(GatewayError):
        await fetch(kms, cms.model_copy(update={"token": SecretStr("none")}), now)
