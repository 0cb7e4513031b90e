"""A KMS over real HTTPS on loopback, for tests."""

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.server_access import KmsAccess
from http_door import tls
from http_door.admission import Limits
from key_servers.kms.app import KmsServer, create
from key_servers.kms.config import KmsConfig
from key_servers.kms.store import Role
from mikey_sakke.kms_faults import (
    KmsFault,
)
from mikey_sakke.kms_values import Request, Response
from mikey_sakke.kms_xml import decode, encode

KMS_URI = "kms.example.org"
PERIOD = 3600
ALICE, BOB, GMS = "sip:alice@example.org", "sip:bob@example.org", "sip:gms@example.org"
NOW = 1_790_000_000


class Clock:
    """Unix seconds that stand still until told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@dataclass
class World:
    """A running KMS and everything to make clients of it."""

    folder: Path
    kms: KmsServer
    clock: Clock
    ca_file: Path

    @property
    def url(self) -> str:
        return self.kms.urls[0]

    async def access(self, user_uri: str, role: Role = Role.USER, **changes: Any) -> KmsAccess:
        token = await self.kms.add_user(user_uri, role)
        values = {"url": self.url, "kms_uri": KMS_URI, "user_uri": user_uri, "token": token, "ca_file": self.ca_file}
        return KmsAccess(**(values | changes))

    def material(self, name: str = "keys") -> KeyMaterial:
        return KeyMaterial(self.folder / f"{name}.sqlite3")

    async def post(self, path: str, body: bytes | None, token: str | None) -> tuple[int, bytes, Any]:
        """Ask as somebody who writes the request by hand."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=self.ca_file)
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, data=body, headers=headers, ssl=context) as response,
        ):
            return response.status, await response.read(), response.headers


@asynccontextmanager
async def running(folder: Path, limits: Limits | None = None) -> AsyncIterator[World]:
    """A new KMS in `folder` that listens, with TLS of its own."""
    certificate, key = folder / "tls.pem", folder / "tls_key.pem"
    tls.make_self_signed(certificate, key, ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    limits = limits or Limits()
    config = KmsConfig(state_dir=folder / "kms", port=0, tls_certificate=certificate, tls_key=key, limits=limits)
    create(config, KMS_URI, PERIOD, now=NOW - 86400)
    clock = Clock()
    async with await KmsServer.open(config, clock=clock) as kms:
        yield World(folder, kms, clock, certificate)


def request_of(world: World, path: str, user_uri: str = ALICE, **changes: Any) -> bytes:
    return encode(replace(Request(user_uri, KMS_URI, NOW, world.url + path), **changes))


def error_of(octets: bytes) -> int:
    response = decode(octets, Response)
    assert response.error is not None and response.error.text.endswith(".")
    return response.error.number


async def refused(access: KmsAccess, world: World) -> KmsFault:
    material = world.material("refused")
    async with KmsClient(access, material, world.clock) as client:
        with pytest.raises(KmsFault) as caught:
            await client.provision()
        assert client.keys() is None and material.certificate(KMS_URI) is None
    material.close()
    assert access.token.get_secret_value() not in str(caught.value)
    return caught.value
