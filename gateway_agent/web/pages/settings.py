"""The page of settings: what is set and why it counts, with file and line. Nothing can be changed here."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from pydantic import BaseModel

from gateway_agent.config.load import SIZE_MAX
from gateway_agent.config.toml_lines import line_of
from gateway_agent.observe.sight import Sight
from gateway_agent.web.pages import frame
from private_store import plain_file
from private_store.errors import PrivateStoreError

_SECRET = ("token", "password", "secret")


class _Row(NamedTuple):
    """One setting. `line`: where it stands in the file, 0 for nowhere; `why`: why this value counts."""

    key: str
    value: str
    line: int
    why: str
    about: str


class _Section(NamedTuple):
    name: str
    about: str
    rows: list[_Row]


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show all settings of the running gateway."""
    path = sight.config_path
    text = await asyncio.to_thread(_text, path) if path is not None else ""
    sections = [
        _Section(name, _about(part), list(_rows(part, (name,), path, text)))
        for name in type(sight.config).model_fields
        if isinstance(part := getattr(sight.config, name), BaseModel)
    ]
    return await frame.show(request, sight, "settings.html", path=str(path or ""), sections=sections)


def _text(path: Path) -> str:
    try:
        return plain_file.read(path, SIZE_MAX).decode("utf-8-sig")
    except (PrivateStoreError, UnicodeDecodeError):
        return ""


def _about(part: BaseModel) -> str:
    return (type(part).__doc__ or "").split("\n\n")[0].strip()


def _rows(part: BaseModel, where: tuple[int | str, ...], path: Path | None, text: str) -> Iterator[_Row]:
    for name, field in type(part).model_fields.items():
        value, place = getattr(part, name), (*where, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, place, path, text)
            continue
        if isinstance(value, list | tuple) and value and all(isinstance(each, BaseModel) for each in value):
            for number, each in enumerate(value):
                yield from _rows(each, (*place, number), path, text)
            continue
        key = ".".join(str(each) for each in place[1:])
        line = line_of(text, place) if name in part.model_fields_set and text else 0
        why = "default" if name not in part.model_fields_set else "set at the start"
        if line and path is not None:
            why = f"{path.name}, line {line}"
        yield _Row(key, _shown(name, value), line, why, field.description or "")


def _shown(name: str, value: Any) -> str:
    """Return a value as it would stand in the file. One that may be secret is not shown."""
    if value is None:
        return "none"
    if name.endswith(_SECRET) or isinstance(value, bytes):
        return "not shown"
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
