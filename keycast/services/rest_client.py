"""Gives a command to a CPNS Server elsewhere over REST, as `control_client.ask` of the gateway does over its socket.

A request whose answer was lost is sent once more under the same key, so that it is carried out once.
"""

import http.client
import json
import secrets
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cpns.errors import NotAllowed
from gateway_agent.errors import ControlUnavailable, Refused
from key_servers.cpns_server.operators.commands import BY_NAME, OperatorCommand
from key_servers.cpns_server.rest.paths import REQUEST_KEY, ROOT_PATH
from keycast.terminal.elsewhere import ServerElsewhere
from mikey_sakke.https import checked_url, client_tls
from private_store import files

ANSWER_MAX = 64 * 1024 * 1024
TIMEOUT_S = 60.0


def ask(server: ServerElsewhere, do: str, arguments: Mapping[str, Any]) -> Any:
    """Carry out the command `do` at `server` and return its answer, as plain values.

    Raises ControlUnavailable if nothing answers there that can be trusted, Refused with the Server's own sentence, and
    NotAllowed for what only the Server's own machine can do, or values that cannot be used.
    """
    command = BY_NAME.get(do)
    if command is None or not command.path:
        raise NotAllowed("this is done on the Server's own machine: log in there, and leave out --at")
    try:
        url = checked_url(server.url)
        tls = client_tls(url, server.ca_file)
    except ValueError as error:
        raise NotAllowed(str(error)) from None
    headers = {"Authorization": f"Bearer {files.read(server.token_file).decode('ascii', 'replace').strip()}"}
    if command.changes:
        headers[REQUEST_KEY] = secrets.token_hex(16)
    # What a person left out is left out here too: the Server has its own value for it.
    given = {name: value for name, value in arguments.items() if value is not None and value != ""}
    path = ROOT_PATH + command.path.format(**{name: quote(given.pop(name, ""), safe="") for name in command.in_path})
    body = None
    if command.body is not None:
        body = json.dumps(given).encode()
        headers["Content-Type"] = "application/json"
    elif given:
        path += "?" + urlencode(given)
    for last in (False, True):
        try:
            status, octets = _exchange(url, tls, command.verb, path, body, headers)
            break
        except ssl.SSLCertVerificationError as error:
            step = "Name the file of its CA with --ca, and the host as its certificate does."
            raise ControlUnavailable(f"{url} has no certificate to trust ({error.verify_message}).", step) from None
        except (OSError, http.client.HTTPException) as error:
            if last:
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                step = "Start it there: keycast server run --rest"
                raise ControlUnavailable(f"Nothing answers at {url} ({why}).", step) from None
    return _answer(command, status, octets)


def _exchange(
    url: str, tls: ssl.SSLContext | bool, verb: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Return (status, body) of the answer to one request. Raises OSError, HTTPException."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=tls)
        if isinstance(tls, ssl.SSLContext)
        else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
    )
    try:
        connection.request(verb, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_MAX)
    finally:
        connection.close()


def _answer(command: OperatorCommand, status: int, octets: bytes) -> Any:
    try:
        told: Any = json.loads(octets) if octets else None
        if status >= http.client.BAD_REQUEST:
            raise Refused(str(told["text"]), str(told["code"]))
        return told[command.answer_key] if command.answer_key else told
    except (ValueError, KeyError, TypeError):
        text = f"What answers there is no CPNS Server of this release (status {status})."
        raise ControlUnavailable(text, "Check the URL.") from None
