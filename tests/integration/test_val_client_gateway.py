"""A whole gateway that is a VAL client, between real servers over HTTPS and boards with GKDKs."""

from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from gateway_agent.val_client.app import ValClientApp
from gateway_agent.val_client.bridged_groups import group_key
from gateway_agent.val_client.section import GroupAccess, SealSection
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from key_servers.gms.values import Affiliation
from keycast.demo.seal_house import GMS_URI, KMS_URI, SealHouse, build_seal_house
from tests.unit.gateway_world import PN, World
from tests.waiting import PATIENCE_S

GATEWAY, BOB = "sip:gw.home@example.org", "sip:bob@example.org"
CREW, SG = "sip:crew@gms.example.org", f"crew.{PN}"


class Above:
    """Stands where `gateway_world` has its CPNS Server."""

    def __init__(self, val_client: ValClientApp) -> None:
        self.homes: dict[str, World] = {}
        self.val_client = val_client

    async def answer(self, pn_id: str, message: bytes) -> bytes:
        return await self.val_client.uplink.request(message)


async def configured(house: SealHouse) -> SealSection:
    tokens = (
        await house.kms.add_user(GATEWAY),
        await house.cms.profiles.add_user(GATEWAY),
        await house.gms.management.add_user(GATEWAY),
    )
    kms, cms, gms = (SecretStr(token) for token in tokens)
    return SealSection(
        kms=KmsAccess(url=house.kms.urls[0], kms_uri=KMS_URI, user_uri=GATEWAY, token=kms, ca_file=house.ca),
        cms=ServerAccess(url=house.cms.urls[0], token=cms, ca_file=house.ca),
        gms=[GmsAccess(url=house.gms.urls[0], token=gms, ca_file=house.ca, gms_uri=GMS_URI)],
        groups=[GroupAccess(group=CREW, sg_id=SG)],
    )


@pytest.mark.req("SEC-12", "SEAL-GMK-47", "SEAL-GMK-48")
async def test_a_gmk_comes_from_the_gms_down_to_the_boards_and_goes(tmp_path: Path) -> None:
    async with build_seal_house(tmp_path / "servers", workers=-1) as house:
        manage, profiles = house.gms.management, house.cms.profiles
        config = await configured(house)
        await manage.create_group(CREW)
        await manage.add_user(BOB)
        for user in (GATEWAY, BOB):
            await manage.add_member(CREW, user, Affiliation.IMPLICIT)
        await profiles.put_membership(GATEWAY, CREW, GMS_URI)

        async def handle_server(message: bytes) -> bytes:
            return await world.gateway.handle_server(message)

        async def send_key_message(pne_id: str, key_message: bytes) -> None:
            await world.gateway.send_key_message(pne_id, key_message)

        val_client = await ValClientApp.open(
            config, tmp_path / "val_client", PN, handle_server, send_key_message, Counter()
        )
        world = World(tmp_path / "gw", server=Above(val_client))  # type: ignore[arg-type]
        await world.start()
        await val_client.start()
        try:
            await world.until(lambda: val_client.client.profile is not None, timeout=PATIENCE_S)
            for pne_id in ("lamp", "door"):
                await world.board(pne_id, SG)
            lamp = world.boards["lamp"]

            async def holds(key_id: str) -> None:
                await world.until(
                    lambda: (
                        (key := val_client.client.sending_key(CREW)) is not None
                        and key.key_id.hex() == key_id
                        and group_key(key.gmk, SG, lamp.version(SG)) == lamp.keys.get(SG, {}).get(lamp.version(SG))
                    ),
                    timeout=PATIENCE_S,
                )

            await holds(await manage.make_key([CREW]))
            first = lamp.version(SG)
            second = await manage.remove_member(CREW, BOB)
            assert second is not None
            await holds(second)
            assert lamp.version(SG) > first
            await profiles.remove_membership(GATEWAY, CREW)
            await world.until(lambda: world.store.group_keys.newest(SG) is None, timeout=PATIENCE_S)
            assert val_client.client.sending_key(CREW) is None
        finally:
            await val_client.close()
            await world.close()


def test_a_group_is_mapped_once() -> None:
    token = SecretStr("x")
    access = ServerAccess(url="http://127.0.0.1:1", token=token)
    mapped = [GroupAccess(group=CREW, sg_id=SG), GroupAccess(group=CREW, sg_id="other")]
    with pytest.raises(ValidationError, match="twice"):
        SealSection(
            kms=KmsAccess(url="http://127.0.0.1:1", kms_uri=KMS_URI, user_uri=GATEWAY, token=token),
            cms=access,
            gms=[GmsAccess(url="http://127.0.0.1:1", token=token, gms_uri=GMS_URI)],
            groups=mapped,
        )
