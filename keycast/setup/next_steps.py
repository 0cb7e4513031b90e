"""What a person does after `keycast setup`: the exact commands for this home, up to the first board with a key."""

import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from keycast.services.units import PACKAGED_CONFIG
from keycast.setup.answers import HERE, HOME_NETWORK, LOOPBACK, NO_BLE, NOBODY, VIRTUAL_AIR
from keycast.setup.questions import OF_USER, SHOWN, Said
from keycast.terminal.options import DEFAULT_CONFIG

GROUP, BOARD, VIRTUAL_BOARD = "lights", "lamp.porch", "porch"
"""Names of a first Service Group (after that of the PN) and of first boards."""


_RECIPIENT = PACKAGED_CONFIG.with_name("backup.recipient")
_BACKUPS = f"keycast backup new-key home.key && sudo install -m 644 home.recipient {_RECIPIENT}"
_LINGER = "sudo loginctl enable-linger $USER"


class GatewayNow(Enum):
    """Whether the gateway runs: not at all, with what the file said before, or with what it says now."""

    NOT = "not"
    AS_BEFORE = "as-before"
    AS_WRITTEN = "as-written"


@dataclass(frozen=True)
class NextStep:
    """One step: what it is, and what is typed (or opened, of the page) for it."""

    what: str
    command: str


def next_steps(
    said: Said,
    path: Path,
    runs: GatewayNow,
    *,
    own_credential: str,
    address: str,
    by: str = "",
    has_page_password: bool = True,
    has_to_linger: bool = False,
    lacks_bluetooth: bool = False,
) -> list[NextStep]:
    """Return the steps.

    `own_credential` is that of the gateway, in hexadecimal, and counts with a CPNS Server elsewhere; `address` one of
    this machine on the home network, `by` the program by which commands get the rights of root, "" for none.
    Without `has_page_password` nobody can log in to the page yet. `has_to_linger`: services of this user end when the
    user logs out; `lacks_bluetooth`: no service of the system may use all of Bluetooth.
    """
    answers, found = said.answers, []
    own = [] if path == DEFAULT_CONFIG else ["-c", str(path)]
    group = f"{answers.pn}/{GROUP}"

    def step(what: str, *words: str) -> None:
        found.append(NextStep(what, shlex.join([*([by] if by else []), "keycast", *words])))

    if answers.uplink != HERE:
        if not said.credential:
            step("tell it whom to trust", "gateway", "trust-server", "CREDENTIAL", *own)
        words = ("server", "add-gateway", answers.gateway, answers.pn, own_credential, "--open")
        found.append(NextStep("at the CPNS Server, let it in", shlex.join(["keycast", *words])))
    if runs is not GatewayNow.AS_WRITTEN:
        anew = "end it (Ctrl-C), and start it anew: only then the changes count"
        step(anew if runs is GatewayNow.AS_BEFORE else "start it, in a terminal of its own", "gateway", "run", *own)
    if said.service in (OF_USER, SHOWN) and has_to_linger:
        found.append(NextStep("let it start with the machine, and run on after you log out", _LINGER))
    if answers.ble not in (NO_BLE, VIRTUAL_AIR) and lacks_bluetooth:
        file = [] if path == DEFAULT_CONFIG else [str(path)]
        what = "let it use all of Bluetooth, which only a service of the system can"
        found.append(NextStep(what, shlex.join(["sudo", "keycast", "setup", *file, "--service", "system"])))
    if path == PACKAGED_CONFIG and not _RECIPIENT.exists():
        found.append(NextStep("let it make a backup each day; keep home.key elsewhere", _BACKUPS))
    if answers.uplink == HERE and LOOPBACK in answers.interfaces:
        step("let a virtual board into a first Service Group", "board", "run", VIRTUAL_BOARD, "--join", group, *own)
    elif answers.uplink == HERE:
        step("make a first Service Group", "group", "create", group, "--open-to", answers.pn, *own)
    step("let a board on USB in", "board", "provision", BOARD, "--wifi", "name of the network", *own)
    host = address if HOME_NETWORK in (answers.page, answers.metrics) and address else "127.0.0.1"
    scheme = "https" if answers.page_certificate else "http"
    if answers.page != NOBODY:
        if not has_page_password:
            step("choose the password of the page", "web", "password", *own)
        found.append(NextStep("open the page", f"{scheme}://{host}:{answers.page_port}/"))
    if answers.metrics != NOBODY:
        found.append(NextStep("let Prometheus read", f"{scheme}://{host}:{answers.page_port}/metrics"))
    return found
