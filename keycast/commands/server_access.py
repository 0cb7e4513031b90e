"""`keycast server token`, `audit` and `rest-files`: operators that are elsewhere, and what all operators did."""

import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from keycast.terminal.dates import local
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    SERVER_STATE,
    ConfigOption,
    StateOption,
    answer,
    ask,
    beside,
    console,
    sentences,
    state_option,
)
from keycast.terminal.tables import show_table

tokens = typer.Typer(no_args_is_help=True, help="Make, list and end tokens for operators elsewhere, who use REST.")

ServerFolder = Annotated[Path, state_option("Folder in which keys, sessions and inventory are stored.")]
OperatorArgument = Annotated[str, typer.Argument(metavar="OPERATOR", help="Name of a person or program.")]


class TokenScope(StrEnum):
    """What a token may do; each includes those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


@tokens.command("add")
def add_token(
    operator: OperatorArgument,
    scope: Annotated[
        TokenScope,
        typer.Option(help="read: look; operate: also groups and members; admin: also gateways, boards, the audit log."),
    ] = TokenScope.READ,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days for which the token is valid.")] = 365,
    state: ServerFolder = SERVER_STATE,
) -> None:
    """Make a token for an operator and print it; it is stored nowhere. The ones that the operator has stay.

    Example: keycast server token add alice --scope operate > alice.token
    """
    token = ask(DEFAULT_CONFIG, state, "server.add-token", operator=operator, scope=scope.value, days=days)
    answer({"operator": operator, "scope": scope.value, "token": token}, token)
    beside("Keep it in a file of mode 0600, and name that with --token-file.")


@tokens.command("list")
def list_tokens(state: ServerFolder = SERVER_STATE) -> None:
    """List the operators that have tokens, with scope and end; never a token.

    Example: keycast server token list
    """
    found = ask(DEFAULT_CONFIG, state, "server.tokens")
    rows = [(each["operator"], each["scope"], local(each["valid_to"]), each["token_id"]) for each in found]
    answer(found, lambda: show_table(console, ("operator", "scope", "until", "token"), rows))


@tokens.command("revoke")
def revoke_token(operator: OperatorArgument, state: ServerFolder = SERVER_STATE) -> None:
    """End all tokens of an operator.

    Example: keycast server token revoke alice
    """
    ask(DEFAULT_CONFIG, state, "server.revoke-token", operator=operator)
    answer({"operator": operator}, f"{operator} has no token any more.")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many entries.")] = 50,
    before: Annotated[int, typer.Option(min=0, help="Only entries of lower numbers; 0: the newest.")] = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Show the commands of all operators, newest first: who gave which one, when, and what came of it.

    Example: keycast server audit --state server-state
    """
    entries = ask(config, state, "server.audit", limit=limit, before=before)
    answer(entries, lambda: show_table(console, ("number", "when", "who", "by", "command", "result"), _rows(entries)))


def _rows(entries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            str(each["entry"]),
            local(each["begun_at"]),
            each["operator"],
            each["door"],
            " ".join((each["command"], *(f"{name}={value}" for name, value in sorted(each["arguments"].items())))),
            each["result"],
        )
        for each in entries
    ]


def rest_files(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", readable=False, help="New files are put in there.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Host name or IP address in the self-signed certificate; repeatable.")
    ] = None,
) -> None:
    """Make TLS files for the REST interface: a key, and a self-signed certificate that operators name with --ca.

    A certificate of your own CA does as well: put both there under the same names.

    Example: keycast server rest-files server-rest --host server.example.org
    """
    from http_door.tls import make_self_signed
    from key_servers.cpns_server.rest.paths import TLS_CERTIFICATE_FILE, TLS_KEY_FILE
    from keycast.terminal.date_known import require_date

    require_date()
    certificate, key = folder / TLS_CERTIFICATE_FILE, folder / TLS_KEY_FILE
    with sentences():
        make_self_signed(certificate, key, host or ["localhost", "127.0.0.1"], datetime.datetime.now(datetime.UTC))
    answer(
        {"folder": str(folder), "file": str(certificate)},
        f"Operators trust {certificate}. Next: keycast server run --rest 0.0.0.0:8445 --rest-files {folder}",
    )
