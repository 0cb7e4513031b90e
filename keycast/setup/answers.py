"""What a person says about a gateway, and where each answer stands in the configuration file.

Answers are read from a file that is there (`answers_in`) and become settings (`settings_of`). Whoever changes a file
compares the settings of two sets of answers, and leaves everything alone that they have in common. Nothing secret is
among the answers: passwords are in files of their own, which are named.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keycast.broker.client_files import CLIENT_FILES

Settings = dict[str, dict[str, Any] | None]
"""Name of a section -> key -> value in TOML. A section or a key with None is not in the file."""

HERE, UDP, MQTT = "embedded", "udp", "mqtt"
"""The kinds of `[uplink]`: the CPNS Server in the gateway's process, or elsewhere over UDP or MQTT."""

NOBODY, THIS_MACHINE, HOME_NETWORK = "no", "this-machine", "home-network"
"""Who may open the web page, and who may read /metrics: nobody, programs on this machine, or the home network."""
READERS = (NOBODY, THIS_MACHINE, HOME_NETWORK)

AUTO, LOOPBACK = "auto", "lo"
NO_BLE, VIRTUAL_AIR = "off", "virtual"
_ALL_ADDRESSES, _LOOPBACK_ADDRESS = "0.0.0.0", "127.0.0.1"


@dataclass(frozen=True)
class Answers:
    """All answers. `state` is the state folder relative to the file, `ble` the sender of adverts, "off" for none.

    `uplink` is one of HERE, UDP and MQTT; `host` and `port` count with UDP, `brokers` (URLs), `broker_files` (a folder
    with the files of a client) or `broker_user` and `broker_password_file` with MQTT. `page` and `metrics` are one of
    NOBODY, THIS_MACHINE and HOME_NETWORK; there the page has TLS if `page_certificate` and `page_key_file` name files.
    `mqtt_broker` is the broker of Home Assistant, "" for none; `mqtt_password_file` and `mqtt_ca` are files, "" for
    none; with `mqtt_plain` the password goes to another machine without TLS.
    """

    gateway: str = "gw.home"
    pn: str = "home"
    state: str = "keycast-state"
    interfaces: tuple[str, ...] = (AUTO,)
    uplink: str = HERE
    server: str = "server.local"
    host: str = ""
    port: int = 5685
    brokers: tuple[str, ...] = ()
    broker_files: str = ""
    broker_user: str = ""
    broker_password_file: str = ""
    ble: str = NO_BLE
    page: str = NOBODY
    page_port: int = 8686
    page_certificate: str = ""
    page_key_file: str = ""
    metrics: str = NOBODY
    mqtt_broker: str = ""
    mqtt_user: str = ""
    mqtt_password_file: str = ""
    mqtt_ca: str = ""
    mqtt_plain: bool = False


def settings_of(answers: Answers) -> Settings:
    """Return the settings that stand for `answers`."""
    return {
        "gateway": {"id": answers.gateway, "pn": answers.pn, "state_dir": answers.state},
        "broadcast": {"interfaces": list(answers.interfaces)},
        "uplink": _uplink(answers),
        "ble": None if answers.ble == NO_BLE else {"sender": answers.ble},
        "web": _web(answers),
        "metrics": _metrics(answers),
        "mqtt": _mqtt(answers),
    }


def answers_in(tree: Mapping[str, Any]) -> Answers:
    """Return the answers in a parsed configuration file that is right; what it does not name has its default."""
    fresh = Answers()
    gateway, uplink = _section(tree, "gateway"), _section(tree, "uplink")
    broadcast, web, mqtt = _section(tree, "broadcast"), _section(tree, "web"), _section(tree, "mqtt")
    metrics = _section(tree, "metrics")
    return Answers(
        gateway=gateway.get("id", fresh.gateway),
        pn=gateway.get("pn", fresh.pn),
        state=gateway.get("state_dir", fresh.state),
        interfaces=tuple(broadcast.get("interfaces", fresh.interfaces)),
        uplink=uplink.get("kind", fresh.uplink),
        server=uplink.get("server_id", fresh.server),
        host=uplink.get("host", fresh.host),
        port=uplink.get("port", fresh.port),
        brokers=tuple(uplink.get("brokers", ())),
        broker_files=_folder_of_client(uplink),
        broker_user=uplink.get("user", ""),
        broker_password_file=uplink.get("password_file", ""),
        ble=_section(tree, "ble").get("sender", AUTO if "ble" in tree else NO_BLE),
        page=_who_reaches(web) if "web" in tree else NOBODY,
        page_port=web.get("port", fresh.page_port),
        page_certificate=web.get("tls_certificate", ""),
        page_key_file=web.get("tls_key", ""),
        metrics=(HOME_NETWORK if metrics.get("open") else THIS_MACHINE) if "metrics" in tree else NOBODY,
        mqtt_broker=mqtt.get("broker", "mqtt://127.0.0.1" if "mqtt" in tree else ""),
        mqtt_user=mqtt.get("user", ""),
        mqtt_password_file=mqtt.get("password_file", ""),
        mqtt_ca=mqtt.get("ca", ""),
        mqtt_plain=mqtt.get("plain", False),
    )


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tree.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _uplink(answers: Answers) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": answers.uplink}
    if answers.uplink != HERE:
        found["server_id"] = answers.server
    if answers.uplink == UDP:
        found["host"] = answers.host
        if answers.port != Answers.port:
            found["port"] = answers.port
    if answers.uplink == MQTT:
        found["brokers"] = list(answers.brokers)
        if answers.broker_files:
            found |= {key: str(Path(answers.broker_files) / name) for key, name in CLIENT_FILES.items()}
        found |= _if_said(user=answers.broker_user, password_file=answers.broker_password_file)
    return found


def _web(answers: Answers) -> dict[str, Any] | None:
    if answers.page == NOBODY:
        return None
    everywhere = answers.page == HOME_NETWORK
    found: dict[str, Any] = {"listen": [_ALL_ADDRESSES if everywhere else _LOOPBACK_ADDRESS], "port": answers.page_port}
    found |= _if_said(tls_certificate=answers.page_certificate, tls_key=answers.page_key_file)
    if everywhere and not answers.page_certificate:
        found["plain"] = True
    return found


def _metrics(answers: Answers) -> dict[str, Any] | None:
    if answers.metrics == NOBODY:
        return None
    if answers.metrics == THIS_MACHINE:
        return {"open": False}
    return {"open": True} | ({"listen": [_ALL_ADDRESSES]} if answers.page == NOBODY else {})


def _mqtt(answers: Answers) -> dict[str, Any] | None:
    if not answers.mqtt_broker:
        return None
    files = {"password_file": answers.mqtt_password_file, "ca": answers.mqtt_ca}
    plain = {"plain": True} if answers.mqtt_plain else {}
    return {"broker": answers.mqtt_broker} | _if_said(user=answers.mqtt_user, **files) | plain


def _if_said(**texts: str) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}


def _folder_of_client(uplink: Mapping[str, Any]) -> str:
    """Return the folder in which all three files of a client are, "" if they are not in one or have other names."""
    paths = [Path(uplink.get(key, "")) for key in CLIENT_FILES]
    folders = {str(path.parent) for path in paths}
    return folders.pop() if [each.name for each in paths] == [*CLIENT_FILES.values()] and len(folders) == 1 else ""


def _who_reaches(web: Mapping[str, Any]) -> str:
    listen = web.get("listen", [_LOOPBACK_ADDRESS])
    return THIS_MACHINE if all(ipaddress.ip_address(each).is_loopback for each in listen) else HOME_NETWORK
