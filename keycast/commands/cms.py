"""`keycast cms`: run a configuration management server (CMS), and edit the user profiles that it keeps."""

import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.copies.commands import add_copies
from keycast.terminal.json_option import Answering
from keycast.terminal.logs import LogOption, begin_log, ready
from keycast.terminal.options import answer, sentences, state_option

if TYPE_CHECKING:
    from gateway_agent.observe.log_lines import LogLines
    from key_servers.cms.profiles import Profiles

app = typer.Typer(
    cls=Answering,
    no_args_is_help=True,
    help="Keep user profiles: the groups that a user is in, and the GMS of each.",
)

DATABASE_VARIABLE = "KEYCAST_CMS_DATABASE"
_STORED = "Folder in which the profiles are stored."
StateFolder = Annotated[Path, state_option(_STORED)]
UserUri = Annotated[str, typer.Argument(metavar="USER", help="VAL or MC service ID, such as sip:alice@example.org.")]
GroupUri = Annotated[str, typer.Argument(metavar="GROUP", help="Group URI, such as sip:crew@gms.example.org.")]
_STATE = Path("keycast-cms-state")


@app.command()
def run(
    state: StateFolder = _STATE,
    listen: Annotated[
        list[str] | None, typer.Option(help="IP address to listen on; may be repeated; default: 127.0.0.1.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port, 0 = any free one.")] = 8445,
    tls_certificate: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file; without it: plain HTTP, on loopback only.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(readable=False, help="PEM file of mode 0600.")] = None,
    log: LogOption = None,
) -> None:
    """Run the CMS until it is interrupted.

    To use PostgreSQL in place of SQLite set KEYCAST_CMS_DATABASE=postgresql://...

    Example: keycast cms run --listen 192.168.1.10 --tls-certificate tls.pem --tls-key tls.key
    """
    import asyncio

    from key_servers.cms.app import CmsConfig
    from keycast.copies import server_copies
    from keycast.services.server_config import server_config
    from keycast.services.supervisor import NOT_CONFIGURED

    lines = begin_log(log)
    with sentences(NOT_CONFIGURED):
        config = server_config(
            CmsConfig,
            DATABASE_VARIABLE,
            state_dir=state,
            listen=listen or ["127.0.0.1"],
            port=port,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
        )
    held = server_copies.state_of(server_copies.CMS, state, config.database_url)
    with sentences(), contextlib.suppress(KeyboardInterrupt), held:
        asyncio.run(_run(config, lines))


async def _run(config: Any, lines: "LogLines") -> None:
    from key_servers.cms.app import CmsServer
    from keycast.services import garbage
    from keycast.services.log_socket import log_socket
    from keycast.services.supervisor import serve

    garbage.keep_modules()
    async with await CmsServer.open(config) as cms, log_socket(config.state_dir, lines):
        sentence = f"The CMS listens on {', '.join(cms.urls)}"
        ready({"urls": list(cms.urls)}, sentence)
        await serve(lambda: sentence)


add_copies(app, "cms", _STATE, _STORED, "users and profiles", DATABASE_VARIABLE)


@app.command("user")
def add_user(
    user: UserUri,
    state: StateFolder = _STATE,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days for which the token is valid.")] = 365,
) -> None:
    """Make a user's profile, or another token for a user that has one, and print the token, which is stored nowhere.

    Example: keycast cms user sip:alice@example.org
    """
    from keycast.services.service_ids import require_uri

    async def do(profiles: "Profiles") -> None:
        require_uri(user)
        token = await profiles.add_user(user, days)
        answer({"user": user, "token": token}, token)

    _with(state, do, makes=True)


@app.command("put")
def put(
    user: UserUri,
    group: GroupUri,
    gms: Annotated[str, typer.Option(help="Server URI of the group's GMS.")],
    state: StateFolder = _STATE,
) -> None:
    """Put a group into a user's profile. Do this before the GMS adds the user.

    Example: keycast cms put sip:alice@example.org sip:crew@gms.example.org --gms sip:gms.example.org
    """
    from keycast.services.service_ids import require_uri

    async def do(profiles: "Profiles") -> None:
        require_uri(group, gms)
        revision = await profiles.put_membership(user, group, gms)
        answer({"user": user, "revision": revision}, f"Revision {revision} of the profile of {user}.")

    _with(state, do)


@app.command("remove")
def remove(user: UserUri, group: GroupUri, state: StateFolder = _STATE) -> None:
    """Take a group out of a user's profile; the user's client then erases the key.

    Example: keycast cms remove sip:bob@example.org sip:crew@gms.example.org
    """

    async def do(profiles: "Profiles") -> None:
        revision = await profiles.remove_membership(user, group)
        answer({"user": user, "revision": revision}, f"Revision {revision} of the profile of {user}.")

    _with(state, do)


@app.command("show")
def show(state: StateFolder = _STATE) -> None:
    """Show all profiles.

    Example: keycast cms show
    """

    async def do(profiles: "Profiles") -> None:
        found = await profiles.all()
        rows = []
        lines = []
        for each in found:
            groups = [{"group": group, "gms_uri": gms} for group, gms in each.groups.items()]
            rows.append({"user": each.user, "revision": each.revision, "groups": groups})
            lines.append(f"{each.user}  revision {each.revision}")
            lines += [f"  {group}  of {gms}" for group, gms in each.groups.items()]
        answer(rows, *(lines or [f"There is no profile in {state}."]))

    _with(state, do)


def _with(state: Path, do: Callable[["Profiles"], Coroutine[Any, Any, None]], *, makes: bool = False) -> None:
    """Run `do` on the store of a state folder, while a CMS may run with it. `makes`: create a store that is missing."""

    import asyncio

    async def opened() -> None:
        from key_servers.cms.operator import STORE_FILE, open_profiles
        from key_servers.https.listening import Listening
        from keycast.services.server_config import require_store, require_whole, server_config

        config = server_config(Listening, DATABASE_VARIABLE, state_dir=state)
        require_whole(state)
        if not makes:
            require_store(config, STORE_FILE, "CMS")
        async with open_profiles(config) as profiles:
            await do(profiles)

    with sentences():
        asyncio.run(opened())
