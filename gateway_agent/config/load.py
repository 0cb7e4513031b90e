"""Reads the configuration file. Each error names the line, the value found, what was expected, and the nearest key.

An unknown key alone is told and passed over by this release; the next one refuses it.
"""

import contextlib
import difflib
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import ErrorDetails

from gateway_agent.config.schema import GatewayConfig
from gateway_agent.config.toml_lines import line_of
from gateway_agent.errors import ConfigError
from gateway_agent.observe import onlookers
from gateway_agent.radios import by_kind as media
from gateway_agent.uplinks import by_kind as uplinks
from gateway_agent.uplinks.uplink import UplinkSection
from message_plane.links import by_scheme as links
from message_plane.links.udp_section import SCHEME as UDP
from private_store import plain_file

UNKNOWN_KEY_CODE = "KC1401"
"""The code of the warning that a key is unknown (docs/troubleshooting.md)."""

_PYDANTIC = re.compile(r"^(Value error, |Input should be |(List|String) should have )| after validation, not \d+$")
_KINDS = {"model_type": "a table", "path_type": "the name of a file or a folder, in quotes"}
SIZE_MAX = 64 * 1024
"""Octets of a configuration file."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_FALSE = ("no", "off", "false", "0")
_SECRET = (("token",),)
_USER_IN_URL = re.compile(r"(?<=//)[^/\s]*@")  # RFC 3986 section 3.2.1: it may hold a password
_UNKNOWN = "extra_forbidden"  # pydantic's word
_PASSED_OVER = "This release passes over it, the next one refuses it."
_TOML = 'texts stand in quotes, lists in brackets, as in interfaces = ["wlan0"]'


def ignore(sentence: str) -> None:
    """Do nothing with the sentence about an unknown key: commands that only look something up in the file."""


def load(path: Path, tell: Callable[[str], None] = ignore) -> GatewayConfig:
    """Return the configuration in the TOML file `path`; relative paths in it are relative to the file.

    `tell` is called with one sentence for each unknown key, which has no effect. Raises ConfigError with one line for
    each fault, and if other users can read a file with `[seal]`, as that holds tokens.
    """
    data = plain_file.read(path, SIZE_MAX, ConfigError, missing=f"Write one: keycast setup {shlex.quote(str(path))}")
    config = of_text(data, path, tell)
    if config.seal is not None and path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} holds tokens and others can read it.", f"Run: chmod 600 {shlex.quote(str(path))}")
    return config


def of_text(data: bytes, path: Path, tell: Callable[[str], None] = ignore) -> GatewayConfig:
    """Return the configuration that the file `path` has if `data` (TOML, UTF-8) is in it. Raises ConfigError."""
    config = parse(data, str(path), path.parent, tell)
    try:
        folder = config.gateway.state_dir.expanduser()
    except RuntimeError:
        named = config.gateway.state_dir.parts[0]
        raise ConfigError(
            f"{path}: the home folder {named} of gateway.state_dir is not known.", "Write the whole path."
        ) from None
    gateway = config.gateway.model_copy(update={"state_dir": path.parent / folder})
    return config.model_copy(update={"gateway": gateway})


def parse(
    data: bytes, name: str = "configuration", folder: Path = Path(), tell: Callable[[str], None] = ignore
) -> GatewayConfig:
    """Return the configuration in `data` (TOML, UTF-8). Errors quote `name`; CA files are relative to `folder`.

    `tell` is called with one sentence for each unknown key. Raises ConfigError, with the unknown keys too.
    """
    try:
        text = data.decode("utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}, line {line}: not UTF-8.", "Save the file as UTF-8.") from None
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{name}: {error}.", f"Correct the TOML there: {_TOML}.") from None
    if not tree:
        raise ConfigError(f"{name} is empty.", f"It needs [gateway] with {_needed(GatewayConfig, 'gateway')}.")
    schema = schema_of(tree)
    context = {"folder": folder}
    try:
        return schema.model_validate(tree, context=context)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    unknown = [fault for fault in faults if fault["type"] == _UNKNOWN]
    sentences = [f"{name}, {_sentence(schema, text, fault)}" for fault in faults]
    if len(unknown) == len(faults):
        try:
            config = schema.model_validate(_without(tree, [fault["loc"] for fault in unknown]), context=context)
        except ValidationError as error:  # of settings that do not go together, which are compared last
            sentences += [f"{name}, {_sentence(schema, text, fault)}" for fault in error.errors(include_url=False)]
        else:
            for sentence in sentences:
                tell(f"{sentence} {_PASSED_OVER}")
            return config
    raise ConfigError("\n".join(sentences), "")


def schema_of(tree: Mapping[str, Any]) -> type[GatewayConfig]:
    """Return the schema of a parsed file. The schema of an optional section is imported only if the file has it.

    Raises ImportError if a package that such a section needs is not installed.
    """
    sections: dict[str, type[BaseModel]] = {}
    if "uplink" in tree:
        sections["uplink"] = _uplink_section(tree["uplink"])
    for name in (each for each in tree if each not in GatewayConfig.model_fields):
        if name in media.KINDS:
            sections[name] = media.kind(name).SECTION
        elif name in links.LINKS and name != UDP:  # the section of the UDP link is [message_plane]
            sections[name] = links.kind(name).SECTION
        elif name in onlookers.ONLOOKERS:
            sections[name] = onlookers.kind(name).SECTION
    if "seal" in tree:
        from gateway_agent.val_client.section import SealSection

        sections["seal"] = SealSection
    return _with_sections(tuple(sections.items())) if sections else GatewayConfig


@lru_cache(maxsize=16)  # it follows from the sections alone, and pydantic takes longer for it than for the whole file
def _with_sections(sections: tuple[tuple[str, type[BaseModel]], ...]) -> type[GatewayConfig]:
    """Return the schema with these sections as well, each of which the file must have."""
    fields: dict[str, Any] = {name: (section, ...) for name, section in sections}
    return create_model("GatewayConfig", __base__=GatewayConfig, **fields)


def _uplink_section(found: object) -> type[UplinkSection]:
    """Return the model of `[uplink]` for the kind that the section names.

    Settings of the other kinds are allowed, too, and must be valid, so that a person can change the kind and back.
    """
    name = found.get("kind") if isinstance(found, Mapping) else None
    known = isinstance(name, str) and name in uplinks.KINDS
    own = uplinks.kind(str(name) if known else "embedded").SECTION
    others: list[type[UplinkSection]] = []
    for other in uplinks.KINDS:
        with contextlib.suppress(ImportError):
            others.append(uplinks.kind(other).SECTION)
    return _joined(own, tuple(others), tuple(uplinks.KINDS))


@lru_cache(maxsize=16)
def _joined(
    own: type[UplinkSection], others: tuple[type[UplinkSection], ...], kinds: tuple[str, ...]
) -> type[UplinkSection]:
    """Return the model `own`, in which the settings of `others` are allowed, too, and `kind` is one of `kinds`."""
    fields: dict[str, Any] = {"kind": (Literal[kinds], own.model_fields["kind"])}
    for other in others:
        for key, field in other.model_fields.items():
            if key not in own.model_fields:
                fields[key] = (field.annotation, copy(field))
    return create_model("UplinkSection", __base__=own, __doc__=UplinkSection.__doc__, **fields)


def toml_text(text: str) -> str:
    """Return `text` as a TOML string. It is a JSON string, which TOML can read, except that DEL must be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without(tree: Mapping[str, Any], keys: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return a copy of `tree` that lacks the keys at these places."""
    copied: Any = deepcopy(dict(tree))
    for *above, key in keys:
        table = copied
        for part in above:
            table = table[part]
        del table[key]
    return dict(copied)


def _sentence(schema: type[BaseModel], text: str, fault: ErrorDetails) -> str:
    where = tuple(part for part in fault["loc"])
    dotted = ".".join(str(part) for part in where)
    line = line_of(text, where)
    place = f"line {line}: {dotted}" if line else dotted
    if fault["type"] == _UNKNOWN:
        near = difflib.get_close_matches(str(where[-1]), _keys_at(schema, where[:-1]), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(_keys_at(schema, where[:-1]))}."
        return f"{place}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{place}: missing; expected {_description(schema, where)}."
    message = _KINDS.get(fault["type"]) or _PYDANTIC.sub("", fault["msg"])
    if fault["type"] == "value_error" and _model_at(schema, where) is not None:  # of settings that do not go together
        return f"{place}: {message}." if place else f"{message}."
    found = "a value that is not shown" if where[-1:] in _SECRET else _shown(fault["input"])
    example = "" if where[-1:] in _SECRET else _example(schema, where, fault)
    return f"{place}: found {found}, expected {message[0].lower()}{message[1:]}.{example and f' Write: {example}'}"


def _example(schema: type[BaseModel], where: tuple[int | str, ...], fault: ErrorDetails) -> str:
    """Return a line of TOML that was probably meant where a value has the wrong type, or ""."""
    key, kind, value = where[-1], fault["type"], fault["input"]
    if isinstance(key, int):
        return ""
    if kind == "model_type":
        return f"[{'.'.join(str(part) for part in where)}]"
    if kind == "list_type":
        if isinstance(value, Mapping):
            if _model_at(schema, where) is None:
                return ""
            return f"[[{'.'.join(str(part) for part in where)}]]"
        return f"{key} = [{toml_text(value)}]" if isinstance(value, str) else ""
    if kind == "string_type":
        only = value[0] if isinstance(value, list) and len(value) == 1 else value
        return f"{key} = {toml_text(str(only))}" if isinstance(only, str | int | float) else ""
    if kind in ("int_type", "float_type") and isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return f"{key} = {value.strip()}"
    if kind == "bool_type":
        return f"{key} = {'false' if str(value).lower() in _FALSE else 'true'}"
    return ""


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, Mapping) else f"a table with {', '.join(value) or 'nothing'}"
    text = _USER_IN_URL.sub("...@", text)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(schema: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    model = _model_at(schema, where)
    # At the top the schema has only those of the optional sections that the file has.
    more = () if where else (*media.KINDS, *onlookers.ONLOOKERS)
    return sorted({*model.model_fields, *more}) if model else []


def _description(schema: type[BaseModel], where: tuple[int | str, ...]) -> str:
    model = _model_at(schema, where[:-1])
    field = model.model_fields.get(str(where[-1])) if model else None
    if field is not None and field.description is None and _model_at(schema, where) is not None:
        return f"a table [{'.'.join(str(part) for part in where)}] with {_needed(schema, *where)}"
    return (field.description if field else None) or "a value"


def _needed(schema: type[BaseModel], *where: int | str) -> str:
    """Return the keys that a table must have, with an example of each that is a text."""
    model = _model_at(schema, where)
    keys = [name for name, field in model.model_fields.items() if field.is_required()] if model else []
    return ", ".join(f'{key} = "..."' for key in keys)


def _model_at(schema: type[BaseModel], where: tuple[int | str, ...]) -> type[BaseModel] | None:
    model = schema
    for part in where:
        if isinstance(part, int):  # an element of a list: its model was found with the name before
            continue
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        if get_origin(inner) is list:
            inner = get_args(inner)[0]
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return None
        model = inner
    return model
