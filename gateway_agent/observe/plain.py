"""Makes an event of a gateway a plain JSON object, as the page, MQTT and `--json` show it."""

import re
from dataclasses import fields
from typing import Any

from cpns.in_words import version_text
from gateway_agent import event_log
from gateway_agent.observe.event_stream import Stamped

_OTHERWISE = {"kind": "alarm", "text": "problem"}  # the names of fields that the object itself uses


def plain(stamped: Stamped) -> dict[str, Any]:
    """Return an event as `{"number", "at", "kind", "text", "level", ...}`.

    `kind` is the name of its class as in "key-delivered", `text` its sentence, `level` "info" or, with a
    `code` of docs/troubleshooting.md, "warning". Then follow
    its own fields, such as `sg_id`, `pne_id`, `version` with `version_text`; the kind of an alarm is `alarm`.
    """
    event: Any = stamped.event
    code = event_log.code_of(event)
    told: dict[str, Any] = {
        "number": stamped.number,
        "at": stamped.at,
        "kind": kind(type(event)),
        "text": event_log.line(event),
        "level": "warning" if code else "info",
        **({"code": code} if code else {}),
    }
    for field in fields(event):
        name, value = field.name, getattr(event, field.name)
        told[_OTHERWISE.get(name, name)] = list(value) if isinstance(value, tuple) else value
    if "version" in told:
        told["version_text"] = version_text(told["version"])
    return told


def kind(event: type) -> str:
    """Return the word for a class of events, for example "key-delivered"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", event.__name__).lower()
