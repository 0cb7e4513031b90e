"""`keycast kms`: run a key management server (KMS) for MIKEY-SAKKE, and edit its users and certificates."""

import contextlib
import datetime
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.copies.commands import add_copies
from keycast.terminal.dates import local
from keycast.terminal.json_option import Answering
from keycast.terminal.logs import LogOption, begin_log, ready
from keycast.terminal.options import answer, console, remark, sentences, state_option

if TYPE_CHECKING:
    from gateway_agent.observe.log_lines import LogLines
    from key_servers.kms.app import KmsServer
    from key_servers.kms.config import KmsConfig

app = typer.Typer(cls=Answering, no_args_is_help=True, help="Hand out identity-specific keys for MIKEY-SAKKE.")
users = typer.Typer(no_args_is_help=True, help="Add and revoke users, and make their tokens.")
certificates = typer.Typer(no_args_is_help=True, help="Exchange certificates with other KMSs.")
app.add_typer(users, name="user")
app.add_typer(certificates, name="certificate")

# Not an option: a URL with a password in it would stand in the list of processes.
DATABASE_VARIABLE = "KEYCAST_KMS_DATABASE"

_STORED = "Folder in which master secrets, users and tokens are stored."
StateFolder = Annotated[Path, state_option(_STORED)]
UserUri = Annotated[str, typer.Argument(metavar="URI", help="VAL or MC service ID, such as sip:alice@example.org.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="Days for which the token is valid.")]
_STATE = Path("keycast-kms-state")


@app.command()
def init(
    kms_uri: Annotated[str, typer.Argument(metavar="NAME", help="Unique name of the KMS, such as kms.example.org.")],
    state: StateFolder = _STATE,
    period: Annotated[int, typer.Option(help="Key period in seconds: how long keys are valid.")] = 30 * 86400,
    offset: Annotated[int, typer.Option(help="Seconds by which key periods are shifted.")] = 0,
    host: Annotated[
        list[str] | None, typer.Option(help="Host name or IP address in the self-signed TLS certificate; repeatable.")
    ] = None,
    tls: Annotated[bool, typer.Option(help="Make a self-signed TLS certificate for a lab.")] = True,
) -> None:
    """Make the master secrets of a new KMS, and TLS files for a lab. Name and key period cannot be changed later.

    Example: keycast kms init kms.example.org --host 192.168.1.10
    """
    from http_door.tls import erase, make_self_signed
    from key_servers.errors import ServerError
    from key_servers.kms.app import create
    from key_servers.kms.config import TLS_CERTIFICATE_FILE, TLS_KEY_FILE, KmsConfig
    from keycast.terminal.date_known import require_date

    require_date()
    certificate, key = state / TLS_CERTIFICATE_FILE, state / TLS_KEY_FILE
    names = host or ["localhost", "127.0.0.1"]
    with sentences():
        if tls:  # before the master secrets, which are never written over: so this command can be tried again
            make_self_signed(certificate, key, names, datetime.datetime.now(datetime.UTC))
        try:
            create(KmsConfig(state_dir=state), kms_uri, period, offset)
        except ServerError:
            if tls:
                erase(certificate, key)
            raise
        if tls:
            remark(f"Clients trust {certificate}.")
    answer(
        {"kms_uri": kms_uri, "folder": str(state)},
        f"{kms_uri} has its master secrets in {state}. Make a backup, as all keys must change if they are lost: "
        "keycast kms backup",
    )


@app.command()
def run(
    state: StateFolder = _STATE,
    listen: Annotated[
        list[str] | None, typer.Option(help="IP address to listen on; may be repeated; default: 127.0.0.1.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 8443,
    tls_certificate: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file; default: the one that `init` made.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file of mode 0600; default: the one that `init` made.")
    ] = None,
    log: LogOption = None,
) -> None:
    """Run the KMS until it is interrupted. Without TLS files it speaks plain HTTP, on loopback only.

    To use PostgreSQL in place of SQLite set KEYCAST_KMS_DATABASE=postgresql://...

    Example: keycast kms run --listen 192.168.1.10
    """
    import asyncio

    from keycast.copies import server_copies
    from keycast.services.supervisor import NOT_CONFIGURED

    lines = begin_log(log)
    with sentences(NOT_CONFIGURED):
        config = _config(state, listen or ["127.0.0.1"], port, tls_certificate, tls_key)
    held = server_copies.state_of(server_copies.KMS, state, config.database_url)
    with sentences(), contextlib.suppress(KeyboardInterrupt), held:
        asyncio.run(_run(config, lines))


async def _run(config: "KmsConfig", lines: "LogLines") -> None:
    from key_servers.kms.app import KmsServer
    from keycast.services import garbage
    from keycast.services.log_socket import log_socket
    from keycast.services.supervisor import serve

    garbage.keep_modules()
    async with await KmsServer.open(config) as kms, log_socket(config.state_dir, lines):
        name = kms.certificate.kms_uri
        sentence = f"{name} listens on {', '.join(kms.urls)}"
        ready({"kms_uri": name, "urls": list(kms.urls)}, sentence)
        await serve(lambda: sentence)


add_copies(
    app,
    "kms",
    _STATE,
    _STORED,
    "users, tokens' digests and certificates, with --with-identity also master secrets and TLS files",
    DATABASE_VARIABLE,
)


@app.command()
def show(state: StateFolder = _STATE) -> None:
    """Show name, key periods and users; never a secret.

    Example: keycast kms show
    """
    with_kms(state, _show)


async def _show(kms: "KmsServer") -> None:
    certificate = kms.certificate
    known = [
        {"user": user.user_uri, "role": user.role.value, "added_at": user.added_at, "revoked_at": user.revoked_at}
        for user in await kms.users()
    ]
    fields = {
        "kms_uri": certificate.kms_uri,
        "key_period_s": certificate.key_period,
        "key_offset_s": certificate.key_offset,
        "valid_to": certificate.valid_to,
    }
    answer(fields | {"users": known}, lambda: _show_fields(fields, known))


def _show_fields(fields: dict[str, Any], known: list[dict[str, Any]]) -> None:
    for name, value in fields.items():
        console.print(f"{name:13} {local(value) if name == 'valid_to' else value}")
    for user in known:
        state = "" if user["revoked_at"] is None else f"  revoked {local(user['revoked_at'])}"
        console.print(f"{user['role']:5} {user['user']}{state}")


@users.command("add")
def add(
    uri: UserUri,
    state: StateFolder = _STATE,
    gms: Annotated[bool, typer.Option("--gms", help="A group management server authorised to create groups.")] = False,
    days: Days = 365,
) -> None:
    """Add a user that may have keys, and print its token, which is stored nowhere.

    Example: keycast kms user add sip:gms.example.org --gms
    """
    from key_servers.kms.store import Role
    from keycast.services.service_ids import require_uri

    async def do(kms: "KmsServer") -> None:
        require_uri(uri)
        token = await kms.add_user(uri, Role.GMS if gms else Role.USER, days)
        answer({"user": uri, "token": token}, token)

    with_kms(state, do)


@users.command()
def token(uri: UserUri, state: StateFolder = _STATE, days: Days = 365) -> None:
    """Print another token for a user; the old one ends.

    Example: keycast kms user token sip:alice@example.org
    """

    async def do(kms: "KmsServer") -> None:
        token = await kms.new_token(uri, days)
        answer({"user": uri, "token": token}, token)

    with_kms(state, do)


@users.command()
def revoke(uri: UserUri, state: StateFolder = _STATE) -> None:
    """Hand out no more keys to a user, for ever. Keys that it has already end with their key period.

    Example: keycast kms user revoke sip:alice@example.org
    """

    async def do(kms: "KmsServer") -> None:
        await kms.revoke_user(uri)
        answer({"user": uri}, f"{uri} is revoked.")

    with_kms(state, do)


@certificates.command("export")
def export_certificate(state: StateFolder = _STATE) -> None:
    """Print this KMS's certificate (XML) for another KMS to import.

    Example: keycast kms certificate export > kms.xml
    """

    async def do(kms: "KmsServer") -> None:
        certificate = kms.export_certificate().decode()
        answer({"certificate": certificate}, certificate)

    with_kms(state, do)


@certificates.command("import")
def import_certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="XML file of another KMS.")],
    state: StateFolder = _STATE,
) -> None:
    """Hand out the certificate of another KMS to our users, so that they can send to its users.

    Example: keycast kms certificate import neighbour.xml
    """
    from private_store import plain_file

    with sentences():
        octets = plain_file.read(file, plain_file.PEM_MAX)

    async def do(kms: "KmsServer") -> None:
        certificate = await kms.import_certificate(octets)
        answer({"kms_uri": certificate.kms_uri}, f"{certificate.kms_uri} is handed out from now on.")

    with_kms(state, do)


def with_kms(state: Path, do: Callable[["KmsServer"], Coroutine[Any, Any, None]]) -> None:
    """Run `do` on the KMS of a state folder, while another process may run that KMS."""

    import asyncio

    async def opened() -> None:
        from key_servers.kms.app import KmsServer
        from keycast.services.server_config import require_whole

        require_whole(state)
        async with await KmsServer.open(_config(state), listen=False) as kms:
            await do(kms)

    with sentences():
        asyncio.run(opened())


def _config(
    state: Path,
    listen: list[str] | None = None,
    port: int = 8443,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
) -> "KmsConfig":
    from key_servers.kms.config import TLS_CERTIFICATE_FILE, TLS_KEY_FILE, KmsConfig
    from keycast.services.server_config import server_config

    if tls_certificate is None and tls_key is None and (state / TLS_KEY_FILE).exists():
        tls_certificate, tls_key = state / TLS_CERTIFICATE_FILE, state / TLS_KEY_FILE
    return server_config(
        KmsConfig,
        DATABASE_VARIABLE,
        state_dir=state,
        listen=listen or ["127.0.0.1"],
        port=port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
