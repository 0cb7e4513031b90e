"""`keycast server`: run a CPNS Server on its own, which PN GWs reach over UDP or MQTT, and register its gateways."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cpns.in_words import version_text
from keycast.broker.client_files import CLIENT_FILES, wrong_folder
from keycast.commands import broker, server_access
from keycast.commands.group import BoardArgument, SgArgument
from keycast.commands.status import show_brokers
from keycast.terminal import completion
from keycast.terminal.backup_options import (
    Into,
    KeepDaily,
    KeepWeekly,
    KeyFile,
    NewFile,
    Older,
    RecipientFile,
    WithIdentity,
    lock_of,
    made_json,
    made_lines,
    unlock_of,
    where_to,
)
from keycast.terminal.broker_options import BrokerFilesOption, BrokerOption, BrokerPasswordOption
from keycast.terminal.dates import begun, local
from keycast.terminal.elsewhere import Elsewhere, require_here
from keycast.terminal.logs import LogOption, begin_log, ready
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    StateOption,
    answer,
    ask,
    beside,
    console,
    renamed,
    sentences,
    state_option,
)
from keycast.terminal.passphrases import PassphraseFile
from keycast.terminal.tables import show_table

if TYPE_CHECKING:
    from gateway_agent.control import ControlSocket
    from gateway_agent.observe.log_lines import LogLines
    from key_servers.cpns_server.app import CpnsServer
    from key_servers.cpns_server.config import ServerConfig
    from key_servers.cpns_server.values import BrokerStatus
    from key_servers.https.listening import Listening
    from message_plane.links.mqtt_section import MqttSection

app = typer.Typer(cls=Elsewhere, no_args_is_help=True)
app.command("broker-files")(broker.broker_files)
app.command("broker-test")(broker.broker_test)

StateFolder = Annotated[Path, state_option("Folder in which keys, sessions and inventory are stored.")]
_STATE = Path("keycast-server-state")
DATABASE_VARIABLE = "KEYCAST_SERVER_DATABASE"


@app.command()
def run(
    state: StateFolder = _STATE,
    server: Annotated[str, typer.Option("--id", help="Entity ID of the Server.")] = "server.local",
    listen: Annotated[
        list[str] | None,
        typer.Option(
            help="IP address to listen on for UDP; may be repeated. Default: 0.0.0.0, which is all of them; none with "
            "--broker."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port.")] = 5685,
    broker_password: BrokerPasswordOption = None,
    rest: Annotated[
        str, typer.Option(metavar="IP:PORT", help="Let operators elsewhere in, over REST, at this TCP address.")
    ] = "",
    rest_files: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            readable=False,
            help="Its TLS files, as `keycast server rest-files` makes them; without: plain HTTP, on loopback only.",
        ),
    ] = None,
    broker: BrokerOption = None,
    broker_files: BrokerFilesOption = None,
    log: LogOption = None,
) -> None:
    """Run the Server until it is interrupted.

    With a URL postgresql://... in KEYCAST_SERVER_DATABASE its store is there, else in the state folder.

    Examples: keycast server run --state server-state, keycast server run --broker mqtts://mqtt.example.org
    --broker-files broker-files/server --rest 0.0.0.0:8445 --rest-files server-rest
    """
    import asyncio

    from keycast.services.rest_listening import rest_listening
    from keycast.services.supervisor import NOT_CONFIGURED

    lines = begin_log(log)
    with sentences(NOT_CONFIGURED):
        from gateway_agent.control_client import SOCKET_FILE, check_path
        from key_servers.cpns_server.config import ServerConfig
        from keycast.services.server_config import checked

        mqtt = _mqtt(broker or [], broker_files, broker_password)
        listen = listen or ([] if broker else ["0.0.0.0"])
        settings = checked(ServerConfig, id=server, listen=listen, port=port, mqtt=mqtt)
        listening = rest_listening(rest, rest_files, state)
        check_path(state / SOCKET_FILE)  # before anything is made
    with sentences(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(state, settings, listening, lines))


def _mqtt(brokers: list[str], files: Path | None, password: Path | None) -> "MqttSection":
    """Return the settings of the brokers. Raise ServerError for what cannot be used."""
    from key_servers.errors import ServerError
    from keycast.services.server_config import checked
    from message_plane.links.mqtt_section import MqttSection, broker_of

    if (files or password) and not brokers:
        raise ServerError("No broker is named.", "Name one: --broker mqtts://broker.example:8883")
    for url in brokers:
        try:
            broker_of(url)
        except ValueError as error:
            raise ServerError(f"{url!a} is not {error}.") from None
    if files is not None and (wrong := wrong_folder(files, "server", "the Server")):
        raise ServerError(wrong)
    paths = {} if files is None else {what: files / name for what, name in CLIENT_FILES.items()}
    if password is not None:
        paths = {"ca": paths["ca"]} if paths else {}
    return checked(MqttSection, brokers=brokers, password_file=password, **paths)


async def _run(state: Path, settings: "ServerConfig", rest: "Listening | None", lines: "LogLines") -> None:
    from gateway_agent.control import ControlSocket
    from gateway_agent.control_client import SOCKET_FILE
    from key_servers.cpns_server.app import CpnsServer
    from keycast.copies import state_copies
    from keycast.services import garbage
    from keycast.services.log_commands import log_commands
    from keycast.services.server_steering import server_commands
    from private_store.sealed import Lock

    garbage.keep_modules()

    async def back_up(path: str, lock: str, identity: bool = False) -> str:
        import asyncio

        images = server.images()  # at one moment: nothing else runs until it is made
        write = state_copies.write_server_backup
        await asyncio.to_thread(write, settings.id, Path(path), images, Lock.of(lock), identity=identity)
        return path

    with state_copies.server_state(state):
        server = await CpnsServer.open(state, settings, database_url=os.environ.get(DATABASE_VARIABLE))
        control = ControlSocket(state / SOCKET_FILE, server_commands(server, back_up) | log_commands(lines))
        await _serve(server, control, settings, rest)


async def _serve(
    server: "CpnsServer",
    control: "ControlSocket",
    settings: "ServerConfig",
    rest: "Listening | None",
) -> None:
    from keycast.services.rest_listening import rest_open
    from keycast.services.supervisor import serve

    try:
        server.start()
        await control.open()
        async with rest_open(server, rest) as urls:

            def status() -> str:
                alarms = len(server.alarms())
                return (
                    f"{settings.id} {_reached(settings, server.status().brokers)}"
                    + "".join(f"; REST: {url}" for url in urls)
                    + (f"; alarms: {alarms}" if alarms else "")
                )

            ready(
                {"server_id": settings.id, "listen": settings.listen, "port": settings.port, "urls": urls}
                | {"brokers": [asdict(each) for each in server.status().brokers]},
                status(),
            )
            await serve(status, server.failed)
    finally:
        await control.close()
        await server.close()


def _reached(settings: "ServerConfig", brokers: "Sequence[BrokerStatus]") -> str:
    """Return by what PN GWs reach the Server."""
    udp = [f"listens on {', '.join(settings.listen)}, UDP port {settings.port}"] if settings.listen else []
    over = [each.url if each.connected else f"{each.url} (not connected yet)" for each in brokers]
    return " and ".join([*udp, *([f"is reached over {', '.join(over)}"] if over else [])])


@app.command("status")
def show_status(state: StateFolder = _STATE) -> None:
    """Show what a running Server is reached by, its brokers, how much it serves, alarms and counters.

    The exit code is 2 if an alarm stands, or the store cannot be read. Example: keycast server status --state
    server-state
    """
    found = ask(DEFAULT_CONFIG, state, "server.status")
    answer(found, lambda: _show_status(found))
    if found["alarms"] or found["gateway_count"] is None:
        raise typer.Exit(2)


def _or_unknown(count: int | None) -> str:
    return "not known, as the store cannot be read" if count is None else str(count)


def _show_status(found: dict[str, Any]) -> None:
    console.print(f"{found['server_id']} is reached at {', '.join(found['listen'])}")
    show_brokers(found["brokers"])
    gateways, groups = (_or_unknown(found[key]) for key in ("gateway_count", "group_count"))
    console.print(f"gateways: {gateways}, Service Groups: {groups}")
    console.print(f"database: {found['database']}; shards: {found['shards']} of 64; processes: {found['processes']}")
    for alarm in found["alarms"]:
        console.print(Text.assemble(("alarm:", "red"), f" {begun(alarm['since'])}{alarm['text']}"))
    for name, count in found["counters"].items():
        console.print(f"{count:8} {name}")


NewGatewayArgument = Annotated[str, typer.Argument(metavar="GATEWAY", help="Entity ID of the PN GW.")]
GatewayArgument = Annotated[
    str, typer.Argument(metavar="GATEWAY", help="Entity ID of the PN GW.", autocompletion=completion.gateways)
]
PnArgument = Annotated[str, typer.Argument(metavar="PN", help="PN ID.")]
CredentialArgument = Annotated[
    str,
    typer.Argument(metavar="CREDENTIAL", help="The gateway's credential, as `keycast gateway credential` prints it."),
]


class Form(StrEnum):
    """The form of the CPNS messages that a PN GW is sent: content format 41 or 60."""

    XML = "xml"
    CBOR = "cbor"


@app.command()
def credential(state: StateFolder = _STATE) -> None:
    """Print the running Server's credential, with which gateways and boards register it.

    Standard error gets its fingerprint: four groups of four digits, which a board that is paired shows too.

    Example: keycast gateway trust-server $(keycast server credential --state server-state)
    """
    from cpns.fingerprint import fingerprint

    octets = ask(DEFAULT_CONFIG, state, "server.credential")
    digits = fingerprint(bytes.fromhex(octets))
    answer({"credential": octets, "server_fingerprint": digits}, octets)
    beside(f"Its fingerprint: {digits}")


@app.command("add-gateway")
def add_gateway(
    gateway: NewGatewayArgument,
    pn: PnArgument,
    credential: CredentialArgument,
    is_open: Annotated[
        bool | None,
        typer.Option(
            "--open/--closed",
            help="Open: each board that the gateway lets in belongs to the PN. Closed: you admit each board first.",
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            help="The form of the messages that the Server sends to it: cbor is a fifth of the size. Default: xml, or "
            "what the gateway has."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="End the identity that the gateway has; the keys it held are renewed.")
    ] = False,
    state: StateFolder = _STATE,
) -> None:
    """Let a PN GW serve a PN. Use --open only if the gateway is yours: it could name any board as its own.

    Example: keycast server add-gateway gw.home home $(keycast gateway credential) --open
    """
    how = {"form": form, "is_open": is_open, "replace": replace}
    ask(DEFAULT_CONFIG, state, "server.add-gateway", gateway_id=gateway, pn_id=pn, credential=credential, **how)
    closed = [] if is_open else [f"Boards of a closed PN are admitted by name: keycast server admit-board BOARD {pn}"]
    answer({"gateway_id": gateway, "pn_id": pn}, f"{gateway} serves {pn}.", *closed)


@app.command("block-gateway")
def block_gateway(gateway: GatewayArgument, state: StateFolder = _STATE) -> None:
    """Accept nothing more from a PN GW that is stolen or broken, and send it nothing more.

    Example: keycast server block-gateway gw.home
    """
    ask(DEFAULT_CONFIG, state, "server.block-gateway", gateway_id=gateway)
    answer({"gateway_id": gateway}, f"{gateway} is blocked. Next: keycast server replace-gateway")


@app.command("replace-gateway")
def replace_gateway(
    gateway: GatewayArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Entity ID of the PN GW that takes over.")],
    credential: CredentialArgument,
    state: StateFolder = _STATE,
) -> None:
    """Let another PN GW serve a PN, and renew all keys that the old one held (SEC-18).

    Then pair each of its boards with the new gateway.

    Example: keycast server replace-gateway gw.home gw2.home $(keycast gateway credential)
    """
    ask(DEFAULT_CONFIG, state, "server.replace-gateway", gateway_id=gateway, new_gateway_id=new, credential=credential)
    answer({"gateway_id": new}, f"{new} takes over from {gateway}; pair its boards: keycast board pair")


@app.command("admit-board")
def admit_board(
    board: BoardArgument,
    pn: PnArgument,
    credential: Annotated[
        str,
        typer.Option(
            metavar="HEX",
            help="The board's credential, as `keycast board provision` and `keycast board pair` print it, for "
            "end-to-end groups: the board makes a session with this Server by it.",
        ),
    ] = "",
    entity_user_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="The file with the key that `keycast board provision --entity-user-key` has written, for a board in "
            "end-to-end groups that makes no session with this Server.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="End the identity, the memberships and the key that another board of this name had."
        ),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Let a new board speak through the gateway of a PN, whether the PN is open or closed.

    For end-to-end groups name the board's credential or key too, now or later; no gateway can tell them.

    Example: keycast server admit-board lamp.porch cabin
    """
    from cpns.fingerprint import fingerprint
    from keycast.provisioning.end_to_end import read_key

    with sentences():
        euk = "" if entity_user_key is None else read_key(entity_user_key).hex()
    how = {"credential": credential, "entity_user_key": euk, "replace": replace}
    ask(config, state, "server.admit-board", pne_id=board, pn_id=pn, **how)
    shown = [f"{board} belongs to {pn}."]
    if credential:
        digits = fingerprint(bytes.fromhex(credential))
        shown.append(f"It may make a session with this Server, by a credential of fingerprint {digits}.")
    if entity_user_key is not None:
        shown.append(f"Its key is stored. Erase the file: shred -u {shlex.quote(str(entity_user_key))}")
    answer({"pne_id": board, "pn_id": pn}, *shown)


@app.command("move-board")
def move_board(
    board: BoardArgument, pn: PnArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None
) -> None:
    """Move a board to another PN: it speaks through the gateway of that PN from now on, and leaves all its groups.

    Example: keycast server move-board lamp.porch cabin
    """
    ask(config, state, "server.move-board", pne_id=board, pn_id=pn)
    answer({"pne_id": board, "pn_id": pn}, f"{board} belongs to {pn} now.")


@app.command("retire-board")
def retire_board(board: BoardArgument, state: StateFolder = _STATE) -> None:
    """End the memberships of a board, its session with the Server and its key for end-to-end groups.

    `keycast board retire` at its gateway does this too; use this one if that gateway is not to be relied on. Its groups
    get new keys. The name can be admitted again.

    Example: keycast server retire-board lamp.porch
    """
    ask(DEFAULT_CONFIG, state, "server.retire-board", pne_id=board)
    answer({"pne_id": board}, f"{board} is retired: it is in no group, and this Server trusts its key no more.")


@app.command("admit-pne", hidden=True)
def admit_pne(
    board: BoardArgument, pn: PnArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None
) -> None:
    """Do what `admit-board` does; this is its former name."""
    renamed("server admit-pne", "server admit-board")
    admit_board(board, pn, config=config, state=state)


@app.command("move-pne", hidden=True)
def move_pne(
    board: BoardArgument, pn: PnArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None
) -> None:
    """Do what `move-board` does; this is its former name."""
    renamed("server move-pne", "server move-board")
    move_board(board, pn, config, state)


@app.command()
def backup(
    path: NewFile = None,
    state: StateFolder = _STATE,
    with_identity: WithIdentity = False,
    passphrase_file: PassphraseFile = None,
    recipient: RecipientFile = None,
    into: Into = None,
    keep_daily: KeepDaily = 7,
    keep_weekly: KeepWeekly = 4,
) -> None:
    """Write a Server's state into one encrypted file, while it runs or not, and open that once to see that it is whole.

    It holds groups and members; with --with-identity also the Server's key and the credentials of its gateways and
    boards; no Group Key, no session and no Entity User Key. A Server embedded in a gateway is part of the gateway's
    backup: keycast gateway backup. With KEYCAST_SERVER_DATABASE set, as for `run`, it is the backup of what is in
    PostgreSQL.

    Example: keycast server backup server.backup --state server-state --with-identity
    """
    from gateway_agent.control_client import ask as over_socket
    from gateway_agent.errors import ControlUnavailable
    from keycast.copies import making, state_copies
    from private_store import folders

    def write(new: Path) -> None:
        try:
            with making.from_running(state, new) as within:
                over_socket(state, "server.backup", path=str(within), lock=lock.text(), identity=with_identity)
        except ControlUnavailable:
            with state_copies.server_state(state):
                server_id, images = state_copies.stopped_server(state, os.environ.get(DATABASE_VARIABLE))
                state_copies.write_server_backup(server_id, new, images, lock, identity=with_identity)

    with sentences():
        folders.check(state)  # a backup makes nothing
        where = where_to(path, into, keep_daily, keep_weekly)
        lock = lock_of(passphrase_file, recipient)
        made = making.make("server", where, lock, write)
    answer(made_json(made), *made_lines(made, f"keycast server restore --state {shlex.quote(str(state))}"))


@app.command()
def restore(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            readable=False,
            help="The backup to put back; leave it out after you put back an older copy of the state folder by hand.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="2 or more for a copy that was put back before.")] = 1,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
    older: Older = False,
    passphrase_file: PassphraseFile = None,
    key: KeyFile = None,
) -> None:
    """Put a backup in place of the state of a stopped Server, or tell a running one that it runs on an older copy.

    No version is used twice, and groups wait for a person (SEC-03). Boards make new sessions; admit those with a key of
    their own once more, with its file. A backup without identity needs that of the folder. An embedded Server comes
    back with its gateway: keycast gateway restore. With KEYCAST_SERVER_DATABASE set, as for `run`, the backup goes into
    PostgreSQL, also one of a Server that had a folder.

    Example: keycast server restore server.backup --state server-state
    """
    folder = state
    since: list[str] = []
    if path is None:
        held = ask(config, folder, "server.restore", epochs=epochs)
    else:
        from keycast.copies import state_copies

        folder = state or _STATE
        with sentences():
            require_here()
        with sentences(), state_copies.server_state(folder):
            unlock = unlock_of(path, passphrase_file, key)
            url = os.environ.get(DATABASE_VARIABLE)
            done = state_copies.put_back_server(folder, path, unlock, epochs=epochs, url=url, older=older)
        held, since = list(done.held), done.since.sentences()
    where = "" if folder is None else f" --state {shlex.quote(str(folder))}"
    lines = [f"{sg} is held. Look at its members, then: keycast server confirm-members {sg}{where}" for sg in held]
    answer({"held": held}, *since, *(lines or ["There is no Service Group that could be held."]))


@app.command("confirm-members")
def confirm_members(
    sg: SgArgument,
    expel: Annotated[list[str] | None, typer.Option(help="Board that is no member any more; may be repeated.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """End the hold of a restored Service Group: its members get a new key.

    Example: keycast server confirm-members home/lights --expel lamp.porch
    """
    version = ask(config, state, "server.confirm-members", sg_id=sg, expel=expel or [])
    text = version_text(version)
    answer({"sg_id": sg, "version": version, "version_text": text}, f"{sg}: version {text} is on its way.")


@app.command()
def alarms(config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Show the alarms of a CPNS Server, which a person should look at. The exit code is 2 if an alarm stands.

    Example: keycast server alarms --state server-state
    """
    standing = ask(config, state, "alarms")
    rows = [(each["kind"], local(each["since"]), each["gateway_id"], each["sg_id"], each["text"]) for each in standing]
    answer(standing, lambda: show_table(console, ("alarm", "since", "PN GW", "Service Group", "what"), rows))
    if standing:
        raise typer.Exit(2)


@app.command("dismiss-alarm")
def dismiss_alarm(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Kind of the alarm, as `keycast server alarms` shows it.")
    ],
    gateway: Annotated[str, typer.Option(help="Its PN GW, if it has one.")] = "",
    sg: Annotated[str, typer.Option(help="Its Service Group, if it has one.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Dismiss an alarm; it comes back if its cause comes back.

    Example: keycast server dismiss-alarm silent --gateway gw.home
    """
    ask(config, state, "server.dismiss-alarm", kind=kind, gateway_id=gateway, sg_id=sg)
    answer({"kind": kind, "gateway_id": gateway, "sg_id": sg}, "Dismissed.")


app.command("audit")(server_access.audit)
app.command("rest-files")(server_access.rest_files)
app.add_typer(server_access.tokens, name="token")
