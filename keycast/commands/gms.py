"""`keycast gms`: run a group management server (GMS), and edit its users, groups and group master keys (GMK)."""

import contextlib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.copies.commands import add_copies
from keycast.terminal.dates import moment
from keycast.terminal.json_option import Answering
from keycast.terminal.logs import LogOption, begin_log, ready
from keycast.terminal.options import answer, console, refuse, sentences, state_option

if TYPE_CHECKING:
    from gateway_agent.observe.log_lines import LogLines
    from key_servers.gms.management import GroupManagement

app = typer.Typer(
    cls=Answering, no_args_is_help=True, help="Make group master keys (GMK) and hand them to the users of groups."
)
users = typer.Typer(no_args_is_help=True, help="Permit users group management services, or end that.")
groups = typer.Typer(no_args_is_help=True, help="Make and show groups, and put users on their lists.")
keys = typer.Typer(no_args_is_help=True, help="Make, revoke and resend GMKs, and show which users answered.")
app.add_typer(users, name="user")
app.add_typer(groups, name="group")
app.add_typer(keys, name="key")

DATABASE_VARIABLE = "KEYCAST_GMS_DATABASE"
_STORED = "Folder in which groups, users and GMKs are stored."
StateFolder = Annotated[Path, state_option(_STORED)]
UserUri = Annotated[str, typer.Argument(metavar="USER", help="VAL or MC service ID, such as sip:alice@example.org.")]
GroupUri = Annotated[str, typer.Argument(metavar="GROUP", help="Group URI, such as sip:crew@gms.example.org.")]
KeyId = Annotated[
    str, typer.Argument(metavar="GMK-ID", help="8 hexadecimal digits.", callback=lambda text: text.lower())
]
_STATE = Path("keycast-gms-state")


@app.command()
def run(
    gms_uri: Annotated[str, typer.Argument(metavar="URI", help="Server URI of the GMS, such as sip:gms.example.org.")],
    kms: Annotated[str, typer.Option(help="URL of the KMS, such as https://kms.example.org:8443.")],
    kms_uri: Annotated[str, typer.Option(help="Unique name of the KMS.")],
    kms_token_file: Annotated[
        Path, typer.Option(readable=False, help="File of mode 0600 with the GMS's token at the KMS.")
    ],
    kms_ca: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file with the only CA trusted for the KMS.")
    ] = None,
    state: StateFolder = _STATE,
    listen: Annotated[
        list[str] | None, typer.Option(help="IP address to listen on; may be repeated; default: 127.0.0.1.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port, 0 = any free one.")] = 8444,
    tls_certificate: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file; without it: plain HTTP, on loopback only.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(readable=False, help="PEM file of mode 0600.")] = None,
    log: LogOption = None,
) -> None:
    """Run the GMS until it is interrupted.

    To use PostgreSQL in place of SQLite set KEYCAST_GMS_DATABASE=postgresql://...

    Example: keycast gms run sip:gms.example.org --kms https://127.0.0.1:8443 --kms-uri kms.example.org
    --kms-token-file gms.token --kms-ca keycast-kms-state/tls_certificate.pem
    """
    import asyncio

    from key_servers.gms.app import GmsConfig
    from key_servers.gms.provisioning import KmsOverHttps
    from keycast.copies import server_copies
    from keycast.services.server_config import server_config
    from keycast.services.service_ids import require_uri
    from keycast.services.supervisor import NOT_CONFIGURED
    from private_store import files

    lines = begin_log(log)
    with sentences(NOT_CONFIGURED):
        require_uri(gms_uri)
        token = files.read(kms_token_file).decode("ascii", "replace").strip()
        provisioning = KmsOverHttps(kms, kms_uri, gms_uri, token, kms_ca, lambda: int(time.time()))
        config = server_config(
            GmsConfig,
            DATABASE_VARIABLE,
            gms_uri=gms_uri,
            state_dir=state,
            listen=listen or ["127.0.0.1"],
            port=port,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
        )
    held = server_copies.state_of(server_copies.GMS, state, config.database_url)
    with sentences(), contextlib.suppress(KeyboardInterrupt), held:
        asyncio.run(_run(config, provisioning, lines))


async def _run(config: Any, provisioning: Any, lines: "LogLines") -> None:
    from key_servers.gms.app import GmsServer
    from keycast.services import garbage
    from keycast.services.log_socket import log_socket
    from keycast.services.supervisor import serve

    garbage.keep_modules()
    async with await GmsServer.open(config, provisioning) as gms, log_socket(config.state_dir, lines):
        sentence = f"{gms.gms_uri} listens on {', '.join(gms.urls)}"
        ready({"gms_uri": gms.gms_uri, "urls": list(gms.urls)}, sentence)
        await serve(lambda: sentence)


add_copies(app, "gms", _STATE, _STORED, "users, groups and GMKs", DATABASE_VARIABLE)


@users.command("add")
def add_user(
    user: UserUri,
    state: StateFolder = _STATE,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days for which the token is valid.")] = 365,
) -> None:
    """Permit a user group management services, or make another token for it, and print the token, stored nowhere.

    Example: keycast gms user add sip:alice@example.org
    """
    from keycast.services.service_ids import require_uri

    async def do(manage: "GroupManagement") -> None:
        require_uri(user)
        token = await manage.add_user(user, days)
        answer({"user": user, "token": token}, token)

    _with(state, do, makes=True)


@users.command("withdraw")
def withdraw_user(user: UserUri, state: StateFolder = _STATE) -> None:
    """Withdraw a user's permission: it leaves every list, and keys change as the groups' security profiles say.

    Example: keycast gms user withdraw sip:bob@example.org
    """

    async def do(manage: "GroupManagement") -> None:
        if not await manage.withdraw_user(user):
            refuse(f"{user} has no permission any more.", "not-possible")
        answer({"user": user}, f"{user} has no permission any more and gets no keys.")

    _with(state, do)


@groups.command("create")
def create_group(
    group: GroupUri,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    rekey: Annotated[bool, typer.Option(help="Security profile: change the key when a user is removed.")] = True,
    state: StateFolder = _STATE,
) -> None:
    """Make a group. Its name should hold the GMS's PSI, as in sip:crew@gms.example.org.

    Example: keycast gms group create sip:crew@gms.example.org --name "the crew"
    """
    from keycast.services.service_ids import require_uri

    async def do(manage: "GroupManagement") -> None:
        require_uri(group)
        await manage.create_group(group, name, rekey_on_removal=rekey)
        answer(
            {"group": group},
            f"{group} is made. Next: keycast gms group add {group} USER, then keycast gms key make {group}",
        )

    _with(state, do, makes=True)


@groups.command("add")
def add_member(
    group: GroupUri,
    user: UserUri,
    explicit: Annotated[
        bool, typer.Option(help="The user must affiliate and subscribe by itself; otherwise the GMS does it.")
    ] = False,
    state: StateFolder = _STATE,
) -> None:
    """Put a user on the list of a group.

    Example: keycast gms group add sip:crew@gms.example.org sip:alice@example.org
    """
    from key_servers.gms.values import Affiliation

    async def do(manage: "GroupManagement") -> None:
        await manage.add_member(group, user, Affiliation.EXPLICIT if explicit else Affiliation.IMPLICIT)
        answer({"group": group, "user": user}, f"{user} is on the list of {group}.")

    _with(state, do)


@groups.command("remove")
def remove_member(group: GroupUri, user: UserUri, state: StateFolder = _STATE) -> None:
    """Take a user from the list of a group. Tell the CMS too: keycast cms remove.

    Example: keycast gms group remove sip:crew@gms.example.org sip:bob@example.org
    """

    async def do(manage: "GroupManagement") -> None:
        made = await manage.remove_member(group, user)
        key = f"new GMK {made}" if made else "the key stays"
        answer({"group": group, "user": user, "key_id": made}, f"{user} is off the list of {group}; {key}.")

    _with(state, do)


@groups.command("show")
def show_groups(state: StateFolder = _STATE) -> None:
    """Show groups, members and the GMK-IDs of their keys; never a key.

    Example: keycast gms group show
    """

    async def do(manage: "GroupManagement") -> None:
        rows: list[dict[str, Any]] = [
            {
                "group": group.uri,
                "name": group.name,
                "rekey_on_removal": group.rekey_on_removal,
                "members": [
                    {
                        "user": member.user,
                        "affiliation": member.affiliation.value,
                        "affiliated": member.affiliated,
                        "subscribed": member.subscribed,
                    }
                    for member in members
                ],
                "keys": [{"key_id": key.key_id, "state": key.state.value} for key in held],
            }
            for group, members, held in await manage.groups()
        ]
        answer(rows, (lambda: _show_groups(rows)) if rows else f"There is no group in {state}.")

    _with(state, do)


def _show_groups(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        console.print(f"{row['group']}  {row['name']}")
        for member in row["members"]:
            ready = "subscribed" if member["subscribed"] else "not subscribed yet"
            console.print(f"  {member['user']}  {member['affiliation']}, {ready}")
        for key in row["keys"]:
            console.print(f"  GMK {key['key_id']}  {key['state']}")


@keys.command("make")
def make_key(
    group: Annotated[list[str], typer.Argument(metavar="GROUP...", help="The groups that share the key.")],
    text: Annotated[str, typer.Option(help="A name for the key.")] = "",
    activation: Annotated[
        int,
        typer.Option(parser=moment, metavar="DATE", help="Start of the key's use: 2027-01-31T18:00; 0 = at once."),
    ] = 0,
    expiry: Annotated[
        int, typer.Option(parser=moment, metavar="DATE", help="End of the key's use: 2027-02-28T18:00; 0 = never.")
    ] = 0,
    state: StateFolder = _STATE,
) -> None:
    """Make a GMK for one group, or one that several groups share, and print its GMK-ID.

    Example: keycast gms key make sip:crew@gms.example.org --text "shift 1"
    """

    async def do(manage: "GroupManagement") -> None:
        key_id = await manage.make_key(group, text=text, activation=activation, expiry=expiry)
        answer({"key_id": key_id, "groups": [{"group": each} for each in group]}, key_id)

    _with(state, do)


@keys.command("revoke")
def revoke_key(key_id: KeyId, state: StateFolder = _STATE) -> None:
    """Tell every holder of a key that it must not be used any more, again and again until each has acknowledged it.

    Example: keycast gms key revoke 0e09b85a
    """

    async def do(manage: "GroupManagement") -> None:
        if not await manage.revoke_key(key_id):
            refuse(f"{key_id} is revoked already. See: keycast gms key show {key_id}", "not-possible")
        answer({"key_id": key_id}, f"{key_id} is revoked; see: keycast gms key show {key_id}")

    _with(state, do)


@keys.command("retry")
def retry_key(
    key_id: KeyId,
    user: Annotated[
        str | None, typer.Option(help="Only this user, even if it has answered: for a user that lost its keys.")
    ] = None,
    state: StateFolder = _STATE,
) -> None:
    """Offer a key again to the users that refused it or never answered.

    Example: keycast gms key retry 0e09b85a
    """

    async def do(manage: "GroupManagement") -> None:
        count = await manage.retry(key_id, user)
        answer(
            {"key_id": key_id, "user_count": count},
            f"{count} users get it again." if count else "No user waits for it.",
        )

    _with(state, do)


@keys.command("show")
def show_key(key_id: KeyId, state: StateFolder = _STATE) -> None:
    """Show the answer or error of every user to whom a key was offered.

    Example: keycast gms key show 0e09b85a
    """

    async def do(manage: "GroupManagement") -> None:
        await manage.require_key(key_id)
        found = await manage.deliveries(key_id)
        names = ("user", "purpose", "attempts", "code", "text")
        rows = [{name: getattr(each, name) for name in names} | {"state": each.state.value} for each in found]
        faults = [f"  {each.code}: {each.text}" if each.code else "" for each in found]
        lines = [f"{each.user}  {each.purpose}  {each.state.value}" for each in found]
        shown = list(map("".join, zip(lines, faults, strict=True)))
        answer(rows, *(shown or [f"{key_id} was offered to no user yet."]))

    _with(state, do)


def _with(state: Path, do: Callable[["GroupManagement"], Coroutine[Any, Any, None]], *, makes: bool = False) -> None:
    """Run `do` on the store of a state folder, while a GMS may run with it. `makes`: create a store that is missing."""

    import asyncio

    async def opened() -> None:
        from key_servers.gms.operator import STORE_FILE, open_management
        from key_servers.https.listening import Listening
        from keycast.services.server_config import require_store, require_whole, server_config

        config = server_config(Listening, DATABASE_VARIABLE, state_dir=state)
        require_whole(state)
        if not makes:
            require_store(config, STORE_FILE, "GMS")
        async with open_management(config) as manage:
            await do(manage)

    with sentences():
        asyncio.run(opened())
