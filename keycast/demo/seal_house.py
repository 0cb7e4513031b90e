"""KMS, GMS, CMS and VAL clients together on loopback, over HTTPS with a certificate that is made for the run."""

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from gateway_agent import event_log
from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_checks import Settings
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from gateway_agent.val_client.servers import Servers
from http_door import tls
from key_servers.cms.app import CmsConfig, CmsServer
from key_servers.gms.app import GmsConfig, GmsServer
from key_servers.gms.provisioning import KmsOverHttps
from key_servers.kms.app import KmsServer, create
from key_servers.kms.config import KmsConfig
from key_servers.kms.store import Role

KMS_URI = "kms.example.org"
GMS_URI = "sip:gms.example.org"
OTHER_GMS_URI = "sip:gms.elsewhere.org"
WAIT_MAX_S = 60.0


@dataclass
class DemoUser:
    """One VAL user with its running client."""

    uri: str
    client: ValClient
    servers: Servers
    store: GmkStore


class SealHouse:
    """The running servers. `other` is a second GMS, which has keys from the KMS but is in no user's profile."""

    def __init__(
        self,
        folder: Path,
        ca: Path,
        kms: KmsServer,
        gms: GmsServer,
        other: GmsServer,
        cms: CmsServer,
        stack: AsyncExitStack,
    ) -> None:
        """Keep the parts; only `build_seal_house` calls this."""
        self.folder = folder
        self.ca = ca
        self.kms = kms
        self.gms = gms
        self.other = other
        self.cms = cms
        self._stack = stack

    async def add_user(self, uri: str, affiliate: tuple[str, ...] = (), settings: Settings | None = None) -> DemoUser:
        """Register a user at all servers and fetch its keys. Its client affiliates to the groups `affiliate`."""
        folder = self.folder / f"user-{len(list(self.folder.glob('user-*')))}"
        folder.mkdir(mode=0o700)
        access = KmsAccess(
            url=self.kms.urls[0],
            kms_uri=KMS_URI,
            user_uri=uri,
            token=SecretStr(await self.kms.add_user(uri)),
            ca_file=self.ca,
        )
        material = KeyMaterial(folder / "keys.sqlite3")
        self._stack.callback(material.close)
        kms_client = await self._stack.enter_async_context(KmsClient(access, material))
        await kms_client.refresh()
        store = GmkStore(folder / "gmks.sqlite3")
        self._stack.callback(store.close)
        client = ValClient(uri, store, kms_client.keys, lambda: int(time.time()), settings, tell=event_log.write)
        cms_token = SecretStr(await self.cms.profiles.add_user(uri))
        accesses = [
            GmsAccess(
                url=gms.urls[0],
                token=SecretStr(await gms.management.add_user(uri)),
                ca_file=self.ca,
                gms_uri=gms.gms_uri,
                affiliate=list(affiliate) if gms is self.gms else [],
            )
            for gms in (self.gms, self.other)
        ]
        servers = Servers(client, ServerAccess(url=self.cms.urls[0], token=cms_token, ca_file=self.ca), accesses)
        return DemoUser(uri, client, servers, store)

    async def start(self, user: DemoUser) -> None:
        """Connect the user's client to its servers."""
        await self._stack.enter_async_context(user.servers)


@asynccontextmanager
async def build_seal_house(folder: Path, workers: int = 1) -> AsyncIterator[SealHouse]:
    """Start KMS, two GMSs and a CMS on free ports of 127.0.0.1, with all state in `folder`. Raise ServerError.

    `workers` is the number of worker processes of the first GMS; the other one uses a thread.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate, key = folder / "tls.pem", folder / "tls.key"
    tls.make_self_signed(certificate, key, ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    async with AsyncExitStack() as stack:
        kms_config = KmsConfig(state_dir=folder / "kms", port=0, tls_certificate=certificate, tls_key=key)
        create(kms_config, KMS_URI)
        kms = await stack.enter_async_context(await KmsServer.open(kms_config))
        gmss = []
        for name, uri, count in (("gms", GMS_URI, workers), ("other", OTHER_GMS_URI, -1)):
            token = await kms.add_user(uri, Role.GMS)
            provisioning = KmsOverHttps(
                kms.urls[0],
                KMS_URI,
                uri,
                token,
                certificate,
                lambda: int(time.time()),
            )
            config = GmsConfig(
                state_dir=folder / name, gms_uri=uri, workers=count, tls_certificate=certificate, tls_key=key
            )
            gmss.append(await stack.enter_async_context(await GmsServer.open(config, provisioning)))
        cms_config = CmsConfig(state_dir=folder / "cms", tls_certificate=certificate, tls_key=key)
        cms = await stack.enter_async_context(await CmsServer.open(cms_config))
        yield SealHouse(folder, certificate, kms, gmss[0], gmss[1], cms, stack)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` returns True, which other tasks bring about. Raise TimeoutError(`what`) after a minute."""
    ends = asyncio.get_running_loop().time() + WAIT_MAX_S
    while not condition():
        if asyncio.get_running_loop().time() > ends:
            raise TimeoutError(what)
        await asyncio.sleep(0.02)
