"""What the page shows, for programs: JSON, with a document that describes it (OpenAPI 3.1)."""

from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

from gateway_agent.observe.plain import plain
from gateway_agent.observe.sight import Sight
from gateway_agent.observe.snapshot import Snapshot
from gateway_agent.web import tuning

_SCHEMAS = "#/components/schemas/{model}"
_NUMBER_DIGITS = 15  # of the number of an event; more would be no integer in JavaScript


async def snapshot(request: web.Request, sight: Sight) -> web.Response:
    """Answer with everything that the gateway shows of itself at this moment."""
    return web.Response(body=_snapshot().dump_json(sight.snapshot()), content_type="application/json")


async def events(request: web.Request, sight: Sight) -> web.Response:
    """Answer with the events that the gateway remembers, those with a number above `after`."""
    after = request.query.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= _NUMBER_DIGITS) or len(request.query) > 1:
        told = {"code": "bad-request", "text": "`after` is the number of an event, and nothing else can be asked for."}
        return web.json_response(told, status=HTTPStatus.BAD_REQUEST)
    return web.json_response([plain(each) for each in sight.stream.recent() if each.number > int(after)])


async def document(request: web.Request, sight: Sight) -> web.Response:
    """Answer with the OpenAPI document of these paths."""
    return web.json_response(openapi())


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document."""
    described = _snapshot().json_schema(mode="serialization", ref_template=_SCHEMAS)
    schemas = described.pop("$defs", {}) | {"Snapshot": described, "Event": _EVENT, "Refusal": _REFUSAL}
    after = {
        "name": "after",
        "in": "query",
        "description": "only events with a number above this one",
        "schema": {"type": "string", "pattern": f"^[0-9]{{1,{_NUMBER_DIGITS}}}$"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "The page of a keycast gateway", "version": version("keycast")},
        "security": [{"session": []}],
        "paths": {
            "/api/snapshot": {"get": _operation("snapshot", "The state of this moment", _ref("Snapshot"))},
            "/api/events": {
                "get": _operation("events", "The last events", {"type": "array", "items": _ref("Event")})
                | {"parameters": [after]}
            },
            "/api/openapi.json": {"get": _operation("document", "This document", {"type": "object"})},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": f"keycast-{tuning.PORT}"}},
        },
    }


def _operation(name: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": _answer("the answer", schema),
            **{status: _answer(text, _ref("Refusal")) for status, text in _REFUSALS.items()},
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _SCHEMAS.format(model=name)}


@cache
def _snapshot() -> TypeAdapter[Snapshot]:
    return TypeAdapter(Snapshot)


_REFUSALS = {"400": "the query is wrong", "401": "not logged in", "409": "the store cannot be read"}
_REFUSAL = {
    "type": "object",
    "required": ["code", "text"],
    "properties": {"code": {"type": "string"}, "text": {"type": "string"}},
}
_EVENT = {
    "type": "object",
    "required": ["number", "at", "kind", "text", "level"],
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "at": {"type": "number", "description": "Unix seconds"},
        "kind": {"type": "string", "examples": ["key-delivered"]},
        "text": {"type": "string"},
        "level": {"enum": ["info", "warning"]},
        "sg_id": {"type": "string"},
        "pne_id": {"type": "string"},
    },
}
