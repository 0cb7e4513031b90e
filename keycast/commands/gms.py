"""`keycast gms`: a group management server (GMS): groups, their members and their GMKs."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.terminal.dates import moment
from keycast.terminal.json_option import Answering
from keycast.terminal.logs import begin_log, ready
from keycast.terminal.options import answer, console, refuse, sentences, state_option

if TYPE_CHECKING:
    from key_servers.gms.management import GroupManagement

app = typer.Typer(
    cls=Answering, no_args_is_help=True, help="Make group master keys (GMK) and hand them to the users of groups."
)
users = typer.Typer(no_args_is_help=True, help="Who may use group management services.")
groups = typer.Typer(no_args_is_help=True, help="Groups and who is on their lists.")
keys = typer.Typer(no_args_is_help=True, help="GMKs and what became of them.")
app.add_typer(users, name="user")
app.add_typer(groups, name="group")
app.add_typer(keys, name="key")

DATABASE_VARIABLE = "KEYCAST_GMS_DATABASE"
StateFolder = Annotated[Path, state_option("Folder of groups, users and GMKs.")]
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
    listen: Annotated[list[str] | None, typer.Option(help="IP address to listen on; may be repeated.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port, 0 = any free one.")] = 8444,
    tls_certificate: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file; without: plain HTTP on loopback.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(readable=False, help="PEM file of mode 0600.")] = None,
) -> None:
    """Run the GMS until it is interrupted. PostgreSQL: set KEYCAST_GMS_DATABASE=postgresql://...

    Example: keycast gms run sip:gms.example.org --kms https://127.0.0.1:8443 --kms-uri kms.example.org
    --kms-token-file gms.token --kms-ca keycast-kms-state/tls_certificate.pem
    """
    from key_servers.gms.app import GmsConfig
    from key_servers.gms.provisioning import KmsOverHttps
    from keycast.copies import server_copies
    from keycast.services.server_config import server_config
    from keycast.services.service_ids import require_uri
    from private_store import files

    begin_log()
    with sentences(), contextlib.suppress(KeyboardInterrupt):
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
        with server_copies.state_of(server_copies.GMS, state, config.database_url):
            asyncio.run(_run(config, provisioning))


async def _run(config: Any, provisioning: Any) -> None:
    from key_servers.gms.app import GmsServer
    from keycast.commands.gateway import interrupted

    async with await GmsServer.open(config, provisioning) as gms:
        ready({"gms_uri": gms.gms_uri, "urls": list(gms.urls)}, f"{gms.gms_uri} listens on {', '.join(gms.urls)}")
        await interrupted()


@app.command()
def backup(
    path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="New file for the backup.")],
    state: StateFolder = _STATE,
) -> None:
    """Write all of the GMS's state into one file, running or not; keep it secret: it holds the GMKs.

    Example: keycast gms backup gms.backup
    """
    from keycast.copies import server_copies

    with sentences():
        server_copies.back_up(server_copies.GMS, state, path, os.environ.get(DATABASE_VARIABLE))
    answer({"file": str(path)}, f"{path} is written. To put it back: keycast gms restore {path} --state {state}")


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The backup to put back.")],
    state: StateFolder = _STATE,
) -> None:
    """Put a backup in place of the state of a GMS that is stopped. Cut short, do it again.

    Example: keycast gms restore gms.backup
    """
    from keycast.copies import server_copies

    with sentences():
        made = server_copies.put_back(server_copies.GMS, state, path, os.environ.get(DATABASE_VARIABLE))
    answer(
        {"folder": str(state), "made_at": made},
        f"{state} is what it was at {made}. {server_copies.GMS.next_step}",
    )


@users.command("add")
def add_user(
    user: UserUri, state: StateFolder = _STATE, days: Annotated[int, typer.Option(min=1, max=3650)] = 365
) -> None:
    """Permit a user group management services, or give it another token, and print that; it is stored nowhere.

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
    """Take the permission back: off every list, keys change as the groups' security profiles say.

    Example: keycast gms user withdraw sip:bob@example.org
    """

    async def do(manage: "GroupManagement") -> None:
        if not await manage.withdraw_user(user):
            refuse(f"{user} has no permission any more.", "not-possible")
        answer({"user": user}, f"{user} gets nothing any more.")

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
            f"{group} is there. Next: keycast gms group add {group} USER, then keycast gms key make {group}",
        )

    _with(state, do, makes=True)


@groups.command("add")
def add_member(
    group: GroupUri,
    user: UserUri,
    explicit: Annotated[bool, typer.Option(help="The user affiliates and subscribes by itself.")] = False,
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
        int, typer.Option(parser=moment, metavar="DATE", help="From when it is used: 2027-01-31T18:00; 0 = at once.")
    ] = 0,
    expiry: Annotated[
        int, typer.Option(parser=moment, metavar="DATE", help="When its use ends: 2027-02-28T18:00; 0 = never.")
    ] = 0,
    state: StateFolder = _STATE,
) -> None:
    """Make a GMK for one group, or one for several, and print its GMK-ID.

    Example: keycast gms key make sip:crew@gms.example.org --text "shift 1"
    """

    async def do(manage: "GroupManagement") -> None:
        key_id = await manage.make_key(group, text=text, activation=activation, expiry=expiry)
        answer({"key_id": key_id, "groups": [{"group": each} for each in group]}, key_id)

    _with(state, do)


@keys.command("revoke")
def revoke_key(key_id: KeyId, state: StateFolder = _STATE) -> None:
    """Tell every holder that a key must not be used, until each acknowledged it.

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
    user: Annotated[str | None, typer.Option(help="Only this user, even if it answered: it lost its keys.")] = None,
    state: StateFolder = _STATE,
) -> None:
    """Offer a key again to those who refused it or never answered.

    Example: keycast gms key retry 0e09b85a
    """

    async def do(manage: "GroupManagement") -> None:
        count = await manage.retry(key_id, user)
        answer(
            {"key_id": key_id, "user_count": count}, f"{count} users get it again." if count else "Nobody waits for it."
        )

    _with(state, do)


@keys.command("show")
def show_key(key_id: KeyId, state: StateFolder = _STATE) -> None:
    """Show what became of a key at every user: answers and errors.

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
        answer(rows, *(shown or [f"{key_id} was offered to nobody."]))

    _with(state, do)


def _with(state: Path, do: Callable[["GroupManagement"], Coroutine[Any, Any, None]], *, makes: bool = False) -> None:
    """Run `do` on the store of a state folder, beside a GMS that may be running; `makes` it where none is."""

    async def opened() -> None:
        from key_servers.gms.app import STORE_FILE, open_management
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
