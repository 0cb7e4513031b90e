"""A KMS's secrets in a few lines, and the GMS, CMS and VAL clients around it, with one clock."""

import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_checks import Settings
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.key_material import UserKeys
from key_servers.gms.courier import NoticeCourier
from key_servers.gms.maker import Maker
from key_servers.gms.management import GroupManagement
from key_servers.gms.provisioning import OwnKeys
from key_servers.gms.values import Affiliation
from key_servers.sql import migrate, open_database
from mikey_sakke import eccsi, i_message, kms_exchange, sakke
from mikey_sakke.group_configuration import KEY, GroupRecord, NotifyRequest, NotifyResponse, UserProfile
from mikey_sakke.identifiers import NTP_OFFSET
from mikey_sakke.key_parameters import STATUS_NOT_REVOKED, Parameters
from mikey_sakke.kms_values import Certificate, KeySet

NOW = 1_800_000_000
PERIOD = 30 * 86400
KMS_URI, GMS, OTHER_GMS = "kms.example.org", "sip:gms.example.org", "sip:gms.elsewhere.org"
ALICE, BOB, CAROL = "sip:alice@example.org", "sip:bob@example.org", "sip:carol@example.org"
CREW, BOARD = "sip:crew@gms.example.org", "sip:board@gms.example.org"


class Clock:
    def __init__(self, unix: int = NOW) -> None:
        self.unix = unix

    def __call__(self) -> int:
        return self.unix


class KmsSecrets:
    """KSAK and z, and what is made with them. As `KeyProvisioning` it serves a GMS."""

    def __init__(self, uri: str = KMS_URI, gms: str = GMS) -> None:
        self.ksak = 1 + secrets.randbelow(int(eccsi.P256.q) - 1)
        self.z = 2 + secrets.randbelow(int(sakke.CURVE.q) - 3)
        self.gms = gms
        self.published = Certificate(uri, PERIOD, 0, sakke.z_of(self.z), eccsi.kpak_of(self.ksak))
        self.kms = kms_exchange.community(self.published)

    def keys_of(self, user: str, moment: int = NOW) -> KeySet:
        number = self.kms.number_at(moment + NTP_OFFSET)
        uid = self.kms.uid(user, number)
        v = 1 + secrets.randbelow(int(eccsi.P256.q) - 1)
        ssk, pvt = eccsi.provision(self.ksak, self.published.pub_auth_key, uid, v)
        return KeySet(self.published.kms_uri, user, uid, number, sakke.provision(self.z, uid), ssk, pvt)

    def user_keys(self, user: str, *moments: int) -> UserKeys:
        return UserKeys(self.kms, [self.keys_of(user, moment) for moment in moments or (NOW,)])

    def signing_key(self, user: str, moment: int = NOW) -> eccsi.SigningKey:
        return kms_exchange.signing_key(self.keys_of(user, moment), self.kms)

    async def certificate(self) -> Certificate:
        return self.published

    async def key_set(self, moment: int) -> KeySet:
        return self.keys_of(self.gms, moment)

    def i_message(
        self,
        receiver: str = ALICE,
        *,
        gmk: bytes = bytes(range(16)),
        key_id: bytes = b"\x01\x02\x03\x04",
        groups: tuple[str, ...] = (CREW,),
        sender: str = GMS,
        now: int = NOW,
        **parameters: Any,
    ) -> bytes:
        fields = {"key_type": 0, "status": STATUS_NOT_REVOKED, "activation": 0, "expiry": 0, "text": ""} | parameters
        made: bytes = i_message.make(
            self.kms,
            self.signing_key(sender, now),
            sender,
            receiver,
            gmk,
            key_id,
            Parameters(groups=list(groups), **fields),
            now + NTP_OFFSET,
            secrets.token_bytes,
            1 + secrets.randbelow(int(eccsi.P256.q) - 1),
        )
        return made


def notice(octets: bytes, *, purpose: str = KEY, gms: str = GMS, user: str = ALICE, name: str = "n1") -> NotifyRequest:
    return NotifyRequest(name, gms, user, purpose, (GroupRecord(CREW),), octets)


def profile(revision: int = 1, user: str = ALICE, **groups: str) -> UserProfile:
    named = {"crew": CREW, "board": BOARD}
    return UserProfile(user, revision, {named[name]: gms for name, gms in groups.items()})


def client_of(
    secrets_: KmsSecrets, folder: Path, clock: Clock, user: str = ALICE, settings: Settings | None = None, **more: Any
) -> tuple[ValClient, GmkStore]:
    keys = secrets_.user_keys(user)
    store = GmkStore(folder / f"{user[4:7]}.sqlite3")
    return ValClient(user, store, lambda: keys, clock, settings, **more), store


class GmsInside:
    """A GMS without its HTTP door."""

    def __init__(
        self, management: GroupManagement, courier: NoticeCourier, close: Callable[[], Any], database: Any
    ) -> None:
        self.management, self.courier, self._close, self.database = management, courier, close, database
        self.asked: list[NotifyRequest] = []

    @classmethod
    async def open(cls, kms: KmsSecrets, folder: Path, clock: Clock, url: str | None = None) -> "GmsInside":
        database = await open_database(url, folder / "gms.sqlite3")
        await migrate(database, "key_servers.gms.migrations")
        keys = OwnKeys(kms)
        await keys.open(clock())
        maker = Maker(keys.certificate, kms.gms, -1)
        courier = NoticeCourier(database, kms.gms, keys, maker, clock, Counter())
        management = GroupManagement(database, clock, secrets.token_bytes, courier.changed)
        return cls(management, courier, maker.close, database)

    async def close(self) -> None:
        self._close()
        await self.database.close()

    async def user(self, uri: str, *groups: str) -> None:
        """Permitted, authorised, implicitly affiliated."""
        await self.management.add_user(uri)
        await self.management.authorise(uri)
        for group in groups:
            await self.management.add_member(group, uri, Affiliation.IMPLICIT)

    async def serve(self, client: ValClient) -> list[NotifyResponse]:
        """What the client's long poll does once: fetch, take, answer."""
        answers = []
        for request in await self.courier.fetch(client.user, 0):
            self.asked.append(request)
            answers.append(await client.take(request))
            await self.courier.answered(client.user, answers[-1])
        return answers

    async def states(self, key_id: str) -> dict[tuple[str, str], str]:
        return {(each.user, each.purpose): each.state for each in await self.management.deliveries(key_id)}
