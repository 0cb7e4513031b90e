"""The REST interface put together: each command of the table that has a path is a resource below `/cpns/v1/`.

    rest = RestInterface(server)
    await rest.open(Listening(state_dir=folder, listen=["127.0.0.1"], port=8445))
    rest.urls                                      # where operators reach it

`GET /cpns/v1/openapi.json` returns the document (OpenAPI 3.1) of all resources.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.operators.access import Scope
from key_servers.cpns_server.operators.commands import COMMANDS, OperatorCommand
from key_servers.cpns_server.operators.desk import OperatorDesk
from key_servers.cpns_server.operators.operator import Operator
from key_servers.cpns_server.rest import document
from key_servers.cpns_server.rest.door import BadRequest, Caller, RestDoor
from key_servers.cpns_server.rest.paths import DOCUMENT_PATH, REQUEST_KEY, REQUEST_KEY_FORM, ROOT_PATH
from key_servers.cpns_server.rest.rates import RATES, RequestRate, RequestRates
from key_servers.https.door import body
from key_servers.https.listening import Listening

_SHOWN_MAX = 200  # characters of a key that is not known

DOOR = "rest"
"""The door by which these commands come, for the audit log."""


class RestInterface:
    """The REST interface of one Server, among whose counters are those of what is refused here."""

    def __init__(self, server: CpnsServer, rates: Mapping[Scope, RequestRate] = RATES) -> None:
        self._desk = OperatorDesk(server, Operator(server))
        self._door = RestDoor(server.tokens, lambda: server.now().unix, RequestRates(rates), server.counts)
        self._document = json.dumps(document.made()).encode()
        self._door.answer("GET", DOCUMENT_PATH, Scope.READ, self._show_document, lambda *_: None)
        for command in COMMANDS:
            if command.path:
                self._add(command)

    @property
    def urls(self) -> list[str]:
        """The URLs at which it can be reached."""
        return self._door.urls

    async def open(self, config: Listening) -> None:
        """Listen. Raises ServerError."""
        await self._door.open(config)

    async def close(self) -> None:
        """Stop listening."""
        await self._door.close()

    def _add(self, command: OperatorCommand) -> None:
        async def handle(caller: Caller, request: web.Request) -> web.Response:
            arguments = dict(request.match_info) | _query(command.query, request) | await _body(command.body, request)
            key = _request_key(request) if command.changes else ""
            value = await self._desk.perform(command, arguments, caller.user_uri, DOOR, key)
            if command.answer is None:
                return web.Response(status=HTTPStatus.CREATED if command.creates else HTTPStatus.NO_CONTENT)
            shown = {command.answer_key: value} if command.answer_key else value
            return web.Response(
                text=json.dumps(shown, default=asdict),
                status=HTTPStatus.CREATED if command.creates else HTTPStatus.OK,
                content_type="application/json",
                headers={"Cache-Control": "no-store"},
            )

        def forbidden(caller: Caller, request: web.Request) -> None:
            if command.changes:
                self._desk.refused(command, dict(request.match_info), caller.user_uri, DOOR, "not-permitted")

        self._door.answer(command.verb, ROOT_PATH + command.path, command.scope, handle, forbidden)

    async def _show_document(self, caller: Caller, request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")


def _query(model: type[BaseModel] | None, request: web.Request) -> dict[str, Any]:
    if model is None and request.query:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "malformed", "This resource takes no query.")
    if model is None:
        return {}
    try:
        return model.model_validate(dict(request.query)).model_dump()
    except ValidationError as error:
        raise _malformed(error) from None


async def _body(model: type[BaseModel] | None, request: web.Request) -> dict[str, Any]:
    octets = await body(request)
    if model is None and octets:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "malformed", "This request takes no body.")
    if model is None:
        return {}
    if request.content_type != "application/json":
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-json", "The body is of type application/json.")
    try:
        return model.model_validate_json(octets).model_dump(exclude_unset=True, exclude_none=True)
    except ValidationError as error:
        raise _malformed(error) from None


def _malformed(error: ValidationError) -> BadRequest:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])[:_SHOWN_MAX]
    text = f"{where}: {fault['msg']}." if where else f"{fault['msg']}."
    return BadRequest(HTTPStatus.BAD_REQUEST, "malformed", text)


def _request_key(request: web.Request) -> str:
    key = request.headers.get(REQUEST_KEY, "")
    if not re.fullmatch(REQUEST_KEY_FORM, key):
        text = f"{REQUEST_KEY} has at most 64 letters, digits and signs of ASCII."
        raise BadRequest(HTTPStatus.BAD_REQUEST, "malformed", text)
    return key
