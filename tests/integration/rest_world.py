"""A CPNS Server with its REST interface on a free port of loopback, and operators with tokens."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.operators.access import Scope
from key_servers.cpns_server.operators.operator import Operator
from key_servers.cpns_server.rest.app import RestInterface
from key_servers.cpns_server.rest.paths import ROOT_PATH
from key_servers.cpns_server.rest.rates import RequestRate
from key_servers.https.listening import Listening
from message_plane.identity import OwnIdentity

SG = "home/lights"
PATH = "groups/home%2Flights"
UNLIMITED = {scope: RequestRate(10**9, 10**9) for scope in Scope}


class RestWorld:
    """`token` of each scope. The PN home is open, and its group home/lights has been created."""

    def __init__(self, server: CpnsServer, rest: RestInterface, folder: Path) -> None:
        self.server = server
        self.rest = rest
        self.folder = folder
        self.operator = Operator(server)
        self.token = {scope.value: self.operator.add_token(f"{scope}.operator", scope, 1) for scope in Scope}
        self.http = aiohttp.ClientSession()

    def credential(self, name: str, role: str) -> str:
        return OwnIdentity.create(self.folder / f"{name}.{role}.key", name, role).credential.ccs.hex()

    async def ask(self, verb: str, path: str, body: Any = None, token: str = "admin", **how: Any) -> tuple[int, Any]:
        """The status and the JSON of an answer, None for an empty one. `token`: a scope, or the text of a token."""
        headers = {"Authorization": f"Bearer {self.token.get(token, token)}"} | how.pop("headers", {})
        url = f"{self.rest.urls[0]}{ROOT_PATH}{path}"
        async with self.http.request(verb, url, json=body, headers=headers, **how) as answer:
            told = await answer.text()
            return answer.status, (await answer.json() if told else None)

    def commands(self) -> list[tuple[str, str, str]]:
        return [(each.operator, each.command, each.result) for each in reversed(self.server.audit.page(1000))]


@asynccontextmanager
async def rest_world(
    folder: Path, rates: Mapping[Scope, RequestRate] = UNLIMITED, database_url: str | None = None, **listening: Any
) -> AsyncIterator[RestWorld]:
    server = await CpnsServer.open(folder, ServerConfig(listen=["127.0.0.1"], port=0), database_url=database_url)
    rest = RestInterface(server, rates)
    await rest.open(Listening(state_dir=folder, **listening))
    server.register_gateway("gw.home", "home", is_open=True)
    server.create_group(SG, ["home"])
    world = RestWorld(server, rest, folder)
    try:
        yield world
    finally:
        await world.http.close()
        await rest.close()
        await server.close()
