"""The OpenAPI 3.1 document of the REST interface, made from the table of commands and its pydantic models."""

import inspect
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter

from key_servers.cpns_server.operators.commands import COMMANDS, OperatorCommand
from key_servers.cpns_server.operators.operator import Operator
from key_servers.cpns_server.rest.paths import DOCUMENT_PATH, REQUEST_KEY, REQUEST_KEY_FORM, ROOT_PATH

_REF = "#/components/schemas/{model}"
_JSON = "application/json"

_ERRORS = {
    HTTPStatus.BAD_REQUEST: "the request is not what this document says",
    HTTPStatus.UNAUTHORIZED: "the token is missing, wrong, revoked, or its time is over",
    HTTPStatus.FORBIDDEN: "the scope of the token does not allow this",
    HTTPStatus.NOT_FOUND: "something that the request names does not exist",
    HTTPStatus.REQUEST_TIMEOUT: "the body did not come",
    HTTPStatus.CONFLICT: "the present state or a rule does not allow this, or it was done before",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: f"the body is not {_JSON}",
    HTTPStatus.UNPROCESSABLE_ENTITY: "a name has characters in it that no name may have",
    HTTPStatus.TOO_MANY_REQUESTS: "the token has made too many requests: Retry-After says when to go on",
    HTTPStatus.SERVICE_UNAVAILABLE: "the Server cannot do it now, its database is lost or full: nothing is half done",
}

_OF_BODIES = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
_ALWAYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class RestError(BaseModel):
    """A refusal. `code` is for programs and does not change; `text` is a sentence for people."""

    code: str
    text: str


def made() -> dict[str, Any]:
    """Return the document as a JSON value."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for command in COMMANDS:
        if command.path:
            paths.setdefault(ROOT_PATH + command.path, {})[command.verb.lower()] = _operation(command, schemas)
    paths[DOCUMENT_PATH] = {"get": _of_document()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keycast CPNS Server",
            "version": "1",
            "description": "Administration of a CPNS Server. Dates are in Unix seconds, 0 where there is none.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": _refusals(schemas),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(command: OperatorCommand, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": command.name,
        "summary": _summary(command),
        "description": f"Needs a token of scope {command.scope}.",
        "parameters": [*map(_in_path, command.in_path), *_in_query(command)],
        "responses": _answer(command, schemas) | _errors(command),
    }
    if command.changes:
        operation["parameters"].append(
            {
                "name": REQUEST_KEY,
                "in": "header",
                "description": "the same for a request and its repetitions, which are carried out once",
                "schema": {"type": "string", "pattern": REQUEST_KEY_FORM},
            }
        )
    if command.body is not None:
        content = {_JSON: {"schema": _schema(command.body, schemas, "validation")}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _of_document() -> dict[str, Any]:
    shown = {"description": "this document", "content": {_JSON: {"schema": {"type": "object"}}}}
    return {"operationId": "document", "summary": "Return this document.", "responses": {"200": shown} | _errors(None)}


def _answer(command: OperatorCommand, schemas: dict[str, Any]) -> dict[str, Any]:
    if command.answer is None:
        status = HTTPStatus.CREATED if command.creates else HTTPStatus.NO_CONTENT
        return {str(status.value): {"description": "it is done"}}
    status = HTTPStatus.CREATED if command.creates else HTTPStatus.OK
    schema = _schema(command.answer, schemas, "serialization")
    if command.answer_key:
        schema = {"type": "object", "properties": {command.answer_key: schema}, "required": [command.answer_key]}
    return {str(status.value): {"description": "it is done", "content": {_JSON: {"schema": schema}}}}


def _errors(command: OperatorCommand | None) -> dict[str, Any]:
    """Return the errors of a command, or of the document, as references to `_refusals`."""
    possible = [status for status in _ERRORS if command is not None and (command.body or status not in _OF_BODIES)]
    return {str(status.value): {"$ref": f"#/components/responses/{status.name}"} for status in possible or _ALWAYS}


def _refusals(schemas: dict[str, Any]) -> dict[str, Any]:
    content = {_JSON: {"schema": _schema(RestError, schemas, "serialization")}}
    return {status.name: {"description": text, "content": content} for status, text in _ERRORS.items()}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _in_query(command: OperatorCommand) -> list[dict[str, Any]]:
    if command.query is None:
        return []
    properties = command.query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _summary(command: OperatorCommand) -> str:
    return (inspect.getdoc(getattr(Operator, command.method, None)) or command.name).splitlines()[0]


def _schema(kind: Any, schemas: dict[str, Any], mode: Any) -> dict[str, Any]:
    """Return the schema of a type; the models that it refers to are added to `schemas`."""
    schema = TypeAdapter(kind).json_schema(ref_template=_REF, mode=mode)
    schemas.update(schema.pop("$defs", {}))
    if schema.get("title") and schema.get("type") == "object":
        name = schema["title"]
        schemas[name] = schema
        return {"$ref": _REF.format(model=name)}
    return dict(schema)
