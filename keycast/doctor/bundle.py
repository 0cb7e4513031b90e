"""Writes what a stranger needs to help: the examination, configuration, state in words, counters, the end of the log.

The bundle is a ZIP file of plain texts. `redaction` has taken out secrets, and the names of the home.
"""

import json
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway_agent.control_client import ask
from gateway_agent.errors import GatewayError
from gateway_agent.state_files import SERVER_FOLDER, STORE_FOLDER
from gateway_agent.store.store import DATABASE_FILE
from key_servers.cpns_server.sqlite_database import FILE_NAME
from keycast.doctor.examination import Checked, worst
from keycast.doctor.redaction import Redaction
from keycast.doctor.surroundings import ANSWERS_WITHIN_S, Surroundings
from keycast.terminal.dates import dated, iso
from private_store import files

LOG_LINES = 2000
_OF_ALL = ("localhost", "127.0.0.1")
_KINDS = {"id": "gateway", "pn": "home", "server_id": "server", "host": "server", "user": "user", "user_uri": "user"}
_SETTING = re.compile(rf"""(?m)^\s*({"|".join(_KINDS)})\s*=\s*["']([^"'\n]+)["']""")
_URL_HOST = re.compile(r"""://(?:[^/@\s"']*@)?([^/:@\s"'\]]+)""")
_COMMENT = re.compile(r"""(\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')|#[^\n]*""")
"""A comment outside of quotes: a person may have written anything into it."""
_STORED = (
    ("board", f"{STORE_FOLDER}/{DATABASE_FILE}", "SELECT pne_id FROM pne"),
    ("group", f"{STORE_FOLDER}/{DATABASE_FILE}", "SELECT sg_id FROM service_group"),
    ("board", f"{SERVER_FOLDER}/{FILE_NAME}", "SELECT pne_id FROM pnes UNION SELECT pne_id FROM members"),
    ("group", f"{SERVER_FOLDER}/{FILE_NAME}", "SELECT sg_id FROM groups"),
)
"""Kinds of names, and where a state has them, also those of boards and groups that are not in the home any more."""
_UNITS = ("keycast.service", "keycast-gateway.service")
_ABOUT = """\
This is what `keycast doctor --bundle` has found out. Secrets are taken out; names of boards, groups and machines, and
their addresses, are replaced by words, the same one each time. Read it before you give it to others.
"""


def write(path: Path, here: Surroundings, found: Iterable[Checked]) -> list[str]:
    """Write the new private file `path`; return the names of the texts in it. Raises PrivateStoreError."""
    texts = collect(here, list(found))
    octets = BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    files.write_new(path, octets.getvalue())
    return list(texts)


def collect(here: Surroundings, found: list[Checked], log: str | None = None) -> dict[str, str]:
    """Return the texts of a bundle by their names, without secrets. `log`: the lines of the log, None to look."""
    configuration = here.config_path.read_text(errors="replace") if here.config_path.is_file() else ""
    lines = _own_lines(here) if log is None else []
    redaction = Redaction(names_in(here, configuration, lines))
    findings = [
        {"check": each.check, "grade": str(each.finding.grade)}
        | {"text": each.finding.text, "next_step": each.finding.next_step}
        for each in found
    ]
    plain: dict[str, Any] = {
        "findings.json": {"grade": str(worst(found)), "findings": findings},
        "status.json": here.status if here.status is not None else {"gateway": here.silence or "does not run"},
        "schemas.json": schemas(here.state),
    }
    texts = {
        "about.txt": _ABOUT,
        "machine.txt": redaction.text(f"{platform.platform()}\n{_release()}"),
        "configuration.toml": redaction.text(_COMMENT.sub(r"\1", configuration)) or "there is none",
        "log.txt": redaction.text(_log_of(lines) if log is None else log),
    }
    return texts | {name: _json(redaction.value(value)) for name, value in plain.items()}


def names_in(
    here: Surroundings, configuration: str = "", lines: Iterable[Mapping[str, Any]] = ()
) -> dict[str, list[str]]:
    """Return the names that belong to this home, by their kind: what a person has chosen, or could be found by.

    They are looked for in the state, whether the gateway runs or not, in the text of its `configuration`, whether that
    is right or not, and in the `lines` of its log, which also tell of boards that are not in the home.
    """
    status: Mapping[str, Any] = here.status or {}
    host = socket.gethostname()
    names: dict[str, list[str]] = {
        "board": [each["pne_id"] for each in (*status.get("devices", ()), *lines)],
        "group": [each["sg_id"] for each in (*status.get("groups", ()), *lines)],
        "gateway": [],
        "home": [],
        "server": [],
        "broker": [each["url"].partition("://")[2].partition(":")[0] for each in status.get("brokers", ())],
        "machine": [host, host.partition(".")[0], *getattr(getattr(here.config, "web", None), "hosts", ())],
        "user": [],
    }
    for key, value in _SETTING.findall(configuration):
        names[_KINDS[key]].append(value)
    names["broker"] += _URL_HOST.findall(configuration)
    for kind, file, statement in _STORED:
        if here.state is not None:
            names[kind] += _stored(here.state / file, statement)
    return {kind: [name for name in known if name and name not in _OF_ALL] for kind, known in names.items()}


def schemas(state: Path | None) -> dict[str, int | str]:
    """Return the version of the schema of each store in the state folder, or why it cannot be read."""
    found: dict[str, int | str] = {}
    for path in sorted(state.rglob("*")) if state is not None and state.is_dir() else ():
        if path.suffix in (".db", ".sqlite3") and path.is_file():
            try:
                with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as database:
                    found[str(path.relative_to(state or path))] = database.execute("PRAGMA user_version").fetchone()[0]
            except sqlite3.Error as error:
                found[str(path.relative_to(state or path))] = str(error)
    return found


def _own_lines(here: Surroundings) -> list[dict[str, Any]]:
    """Return the last lines of the log from the gateway itself, none if it does not answer."""
    if not here.pid or here.state is None:
        return []
    try:
        found: list[dict[str, Any]] = ask(
            here.state, "log.recent", "keycast gateway run", ANSWERS_WITHIN_S, count=LOG_LINES
        )
        return found
    except (GatewayError, TimeoutError, OSError, ValueError):
        return []  # of another release, or standing still: the journal may have its log


def _log_of(lines: list[dict[str, Any]]) -> str:
    """Return `lines`, the last ones of the gateway's log, as text; what the journal has if there are none."""
    if lines:
        return "\n".join(
            f"{iso(each['at'])} {each['level']} {each['area']}: {each['code']} {each['text']}" for each in lines
        )
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        return "there is no journal on this machine"
    told = []
    for scope in ([], ["--user"]):
        for unit in _UNITS:
            command = [
                journalctl,
                *scope,
                "--unit",
                unit,
                "--lines",
                str(LOG_LINES),
                "--no-pager",
                "--output",
                "short-iso",
            ]
            try:
                told.append(subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout)
            except (OSError, subprocess.TimeoutExpired) as error:
                told.append(f"the journal does not answer: {error}")
    return "\n".join(each for each in told if each.strip()) or "the journal has nothing of a gateway"


def _stored(path: Path, statement: str) -> list[str]:
    """Return the texts that a query finds in a store, none if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)) as database:
            return [str(name) for (name,) in database.execute(statement)]
    except sqlite3.Error:
        return []


def _release() -> str:
    path = Path("/etc/os-release")
    return path.read_text(errors="replace") if path.is_file() else ""


def _json(value: Any) -> str:
    return json.dumps(dated(value), indent=1, ensure_ascii=False)
