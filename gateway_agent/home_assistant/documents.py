"""Every message that a gateway keeps at a broker: the discovery of a device, its states, its availability.

The form is that of Home Assistant's MQTT integration ("Device discovery payload"), with the short names of its
documentation. Everything here is pure: from values to octets.
"""

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from cpns import delivery_report
from gateway_agent.home_assistant.naming import COMMAND, OFFLINE, ONLINE, MqttNames, printable
from gateway_agent.home_assistant.shown import ShownBoard, ShownGateway, ShownGroup, ShownUpdate
from gateway_agent.updates.reports import STATES

Message = tuple[str, bytes]
"""A topic and a payload. A broker forgets what it keeps at the topic when the payload is empty."""
Shown = ShownGateway | ShownGroup | ShownBoard

RE_KEYED, DELIVERED = "re-keyed", "delivered"
"""The types of the event of a group: there is a new key; all members that can be reached have it."""
UPDATE = "update"
LINKS = (delivery_report.UNICAST, delivery_report.WIFI, delivery_report.BLE, delivery_report.END_TO_END, "other")
_ALARMS_MAX, _TEXT_MAX = 20, 500
_DIAGNOSTIC = {"ent_cat": "diagnostic"}
_OF = "value_json"  # not with a dot: that finds the methods of a dictionary before what is in it, such as `update`


def device_of(names: MqttNames, shown: Shown) -> str:
    """Return the device ID of what is shown."""
    if isinstance(shown, ShownGateway):
        return names.gateway_device
    return names.group_device(shown.sg_id) if isinstance(shown, ShownGroup) else names.board_device(shown.pne_id)


def look_of(shown: Shown) -> tuple[str, str]:
    """Return all that the discovery of a device depends on, besides the configuration: its name, and its software."""
    if isinstance(shown, ShownGateway):
        return "", shown.version
    return (shown.sg_id, "") if isinstance(shown, ShownGroup) else (shown.pne_id, shown.software)


def topics_of(names: MqttNames, shown: Shown) -> tuple[str, ...]:
    """Return the topics at which the broker keeps something of a device, its discovery first."""
    config = names.config(device_of(names, shown))
    if isinstance(shown, ShownGateway):
        return config, names.state, names.availability, names.health
    if isinstance(shown, ShownGroup):
        return config, names.group(shown.sg_id, "state")
    return config, names.board(shown.pne_id, "state"), names.board(shown.pne_id, "availability")


def discovery(names: MqttNames, shown: Shown, release: str, allowed: Collection[str]) -> Message:
    """Return the discovery message of a device. `release`: of keycast; `allowed`: the commands that MQTT may give."""
    device = device_of(names, shown)
    here: list[dict[str, str]] = [{"t": names.availability}]
    description: dict[str, Any] = {"ids": device, "mf": "keycast"}
    if isinstance(shown, ShownGateway):
        description |= {
            "name": f"keycast {printable(names.gateway_id)}",
            "mdl": "PN GW",
            "sw": printable(shown.version),
        }
        state, components = names.state, _gateway(names)
    elif isinstance(shown, ShownGroup):
        description |= {"name": printable(shown.sg_id), "mdl": "Service Group", "via_device": names.gateway_device}
        state, components = names.group(shown.sg_id, "state"), _group(names, shown.sg_id, UPDATE in allowed)
    else:
        description |= {"name": printable(shown.pne_id), "mdl": "board", "via_device": names.gateway_device}
        description |= {"sw": printable(shown.software)} if shown.software else {}
        here.append({"t": names.board(shown.pne_id, "availability")})
        state, components = names.board(shown.pne_id, "state"), _board(names.board(shown.pne_id, "state"))
    for key, component in components.items():
        if len(component) > 1:  # else Home Assistant removes it
            component["uniq_id"] = f"{device}_{key}"
    document = {
        "dev": description,
        "o": {"name": "keycast", "sw": release},
        "avty": here,
        "avty_mode": "all",
        "stat_t": state,
        "qos": 1,
        "cmps": components,
    }
    return names.config(device), _octets(document)


def states(names: MqttNames, shown: Shown) -> Iterator[Message]:
    """Yield what the broker keeps of the state of a device, without that of the gateway's own availability."""
    if isinstance(shown, ShownGateway):
        alarms = [printable(text)[:_TEXT_MAX] for text in shown.alarms[:_ALARMS_MAX]]
        state: dict[str, Any] = {"alarm": _on(bool(shown.alarms)), "alarms": alarms, "uplink": _on(shown.uplink)}
        yield names.state, _octets(state | {"version": shown.version, "installed": shown.installed})
    elif isinstance(shown, ShownGroup):
        state = {"group": printable(shown.sg_id), "version": shown.version or None, "members": shown.members}
        state |= {"confirmed": shown.confirmed, "key_age": shown.key_age_s}
        yield names.group(shown.sg_id, "state"), _octets(state)
    else:
        link = shown.link if shown.link in LINKS or not shown.link else "other"
        state = {"board": printable(shown.pne_id), "heard": _time(shown.heard_at), "link": link or None}
        state |= {"confirmed": _time(shown.confirmed_at), "version": shown.version or None}
        state["groups"] = {printable(sg_id): version or None for sg_id, version in shown.groups}
        state |= _update_state(shown.update)
        yield names.board(shown.pne_id, "state"), _octets(state)
        yield names.board(shown.pne_id, "availability"), ONLINE if shown.available else OFFLINE


def event(names: MqttNames, sg_id: str, kind: str, **more: Any) -> Message:
    """Return an event of a group, RE_KEYED or DELIVERED, which no broker keeps. `more`: what else is to be seen."""
    return names.group(sg_id, "event"), _octets({"event_type": kind, **more})


def health(not_live: Collection[str], not_ready: Collection[str], at: int) -> bytes:
    """Return the payload about the health of the gateway; it has no names in it."""
    reasons = [*not_live, *not_ready]
    return _octets({"live": not not_live, "ready": not reasons, "reasons": reasons, "at": _time(at)})


# Private


def _gateway(names: MqttNames) -> dict[str, dict[str, Any]]:
    alarms = {"json_attr_t": names.state, "json_attr_tpl": _just("alarms")}
    return {
        "alarm": {"p": "binary_sensor", "name": "Alarm", "dev_cla": "problem", "val_tpl": _value("alarm")}
        | alarms
        | _DIAGNOSTIC,
        "uplink": {"p": "binary_sensor", "name": "Uplink", "dev_cla": "connectivity", "val_tpl": _value("uplink")}
        | _DIAGNOSTIC,
        "version": {"p": "sensor", "name": "Version", "val_tpl": _value("version")} | _DIAGNOSTIC,
        "release": {"p": "update", "name": "Update", "tit": "keycast", "val_tpl": _value("version")}
        | {"l_ver_t": names.state, "l_ver_tpl": _value("installed")}
        | _DIAGNOSTIC,
    }


def _group(names: MqttNames, sg_id: str, may_update: bool) -> dict[str, dict[str, Any]]:
    age = {"dev_cla": "duration", "unit_of_meas": "s"}
    button = {"name": "Update key", "cmd_t": names.group(sg_id, COMMAND), "pl_prs": UPDATE, "ent_cat": "config"}
    return {
        "version": {"p": "sensor", "name": "Key version", "val_tpl": _value("version")},
        "confirmed": {"p": "sensor", "name": "Confirmed", "val_tpl": _value("confirmed"), "stat_cla": "measurement"},
        "members": {"p": "sensor", "name": "Members", "val_tpl": _value("members"), "stat_cla": "measurement"},
        "key_age": {"p": "sensor", "name": "Key age", "val_tpl": _value("key_age")} | age | _DIAGNOSTIC,
        "re_keyed": {"p": "event", "name": "Re-keyed", "stat_t": names.group(sg_id, "event")}
        | {"evt_typ": [RE_KEYED, DELIVERED]},
        UPDATE: {"p": "button"} | (button if may_update else {}),
    }


def _board(state: str) -> dict[str, dict[str, Any]]:
    groups = {"json_attr_t": state, "json_attr_tpl": _just("groups")}
    heard = {"p": "sensor", "name": "Last heard", "dev_cla": "timestamp", "val_tpl": _value("heard")}
    confirmed = {"p": "sensor", "name": "Last confirmed", "dev_cla": "timestamp", "val_tpl": _value("confirmed")}
    return {
        "heard": heard | _DIAGNOSTIC,
        "confirmed": confirmed,
        "link": {"p": "sensor", "name": "Link", "dev_cla": "enum", "ops": list(LINKS), "val_tpl": _value("link")}
        | _DIAGNOSTIC,
        "version": {"p": "sensor", "name": "Confirmed version", "val_tpl": _value("version")} | groups,
        UPDATE: {"p": "sensor", "name": "Update", "dev_cla": "enum", "ops": [*STATES.values()]}
        | {
            "val_tpl": _value(UPDATE),
            "json_attr_t": state,
            "json_attr_tpl": f"{{{{ {_OF}['update_details'] | tojson }}}}",
        }
        | _DIAGNOSTIC,
    }


def _update_state(of: ShownUpdate | None) -> dict[str, Any]:
    """Return what is said of the update of a board. What there is none of is null, and a state of a later release."""
    if of is None:
        return {UPDATE: None, "update_details": {}}
    details = {
        "agent": of.agent_number or None,
        "firmware": of.firmware_number or None,
        "offered": of.offered_number or None,
        "reason": of.reason or None,
    }
    return {UPDATE: of.state if of.state in STATES.values() else None, "update_details": details}


def _value(key: str) -> str:
    return f"{{{{ {_OF}['{key}'] }}}}"


def _just(key: str) -> str:
    return f"{{{{ {{'{key}': {_OF}['{key}']}} | tojson }}}}"


def _on(value: bool) -> str:
    return "ON" if value else "OFF"


def _time(unix: int) -> str | None:
    return datetime.fromtimestamp(unix, UTC).isoformat() if unix else None


def _octets(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
