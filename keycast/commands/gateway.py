"""`keycast gateway`: configure, run, back up and restore a PN GW."""

import contextlib
import json
import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from keycast.broker.client_files import wrong_folder
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
from keycast.terminal.broker_options import BrokerFilesOption, BrokerOption
from keycast.terminal.logs import LogOption, begin_log, is_at_terminal, ready
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    answer,
    ask,
    beside,
    console,
    refuse,
    remark,
    sentences,
)
from keycast.terminal.passphrases import PassphraseFile

if TYPE_CHECKING:
    from gateway_agent.radios.medium import Radio
    from keycast.services.gateway_trial import BrokerHere
    from keycast.services.home import Home

app = typer.Typer(no_args_is_help=True)

_log = logging.getLogger(__name__)

CONFIRM = "keycast server confirm-members"


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The file to write.")] = DEFAULT_CONFIG,
    gateway: Annotated[str, typer.Option("--id", help="Entity ID of the gateway.")] = "gw.home",
    pn: Annotated[str, typer.Option(help="PN ID.")] = "home",
    state: Annotated[str, typer.Option(help="State folder, relative to the file.")] = "keycast-state",
    virtual_boards: Annotated[
        bool, typer.Option("--virtual-boards", help="Reach the boards of `keycast board run` on this computer, too.")
    ] = False,
    ble: Annotated[
        bool, typer.Option("--ble", help="Bring Group Keys by Bluetooth LE, too; needs the extra `ble`.")
    ] = False,
    broker: BrokerOption = None,
    broker_files: BrokerFilesOption = None,
    server: Annotated[str, typer.Option(help="Entity ID of that CPNS Server.")] = "server.local",
) -> None:
    """Write a configuration file to start from, without a question; `keycast setup` asks.

    With --broker the CPNS Server is elsewhere, and is reached over MQTT; docs/operators.md shows the way.

    Examples: keycast gateway init, keycast gateway init --broker mqtts://mqtt.example.org --broker-files gw.home
    """
    from cpns import name_rule
    from gateway_agent.config.load import parse
    from keycast.setup.answers import AUTO, HERE, LOOPBACK, MQTT, NO_BLE, VIRTUAL_AIR, Answers, settings_of
    from keycast.setup.first_file import new_text
    from private_store import files

    with sentences():
        if broker_files is not None and not broker:
            refuse("the files are for a broker: name it with --broker", "not-allowed")
        if broker_files is not None and (wrong := wrong_folder(broker_files, f"gateways/{gateway}", "this gateway")):
            refuse(wrong, "not-allowed")
        answers = Answers(
            gateway=gateway,
            pn=pn,
            state=state,
            interfaces=(AUTO, LOOPBACK) if virtual_boards else (AUTO,),
            uplink=MQTT if broker else HERE,
            server=server,
            brokers=tuple(broker or ()),
            broker_files="" if broker_files is None else str(broker_files.absolute()),
            ble=NO_BLE if not ble else VIRTUAL_AIR if virtual_boards else AUTO,
        )
        octets = new_text(settings_of(answers)).encode()
        parse(octets, str(path))  # what `run` would refuse is not written
        for name, what in ((gateway, "PN GW ID"), (pn, "PN ID")):
            name_rule.checked(name, what)
        files.write_new(path, octets)
    step = "trust-server CREDENTIAL" if broker else "run"
    answer({"file": str(path)}, f"{path} is written. Next: keycast gateway {step} -c {path}")


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Try every step of `run` but the last: configuration, interfaces, ports, files, brokers. Boards hear nothing.

    Each interface is shown and, if no keys go out on it, the reason; each MQTT broker and, if it refuses something,
    what to change there. Example: keycast gateway check
    """
    import asyncio

    from gateway_agent.config.load import UNKNOWN_KEY_CODE, load
    from keycast.services.gateway_trial import trial
    from keycast.services.radio_survey import plain

    unknown: list[str] = []

    def note(sentence: str) -> None:
        unknown.append(sentence)
        beside(f"warning {UNKNOWN_KEY_CODE}: {sentence}")  # at once: what hinders a start may come of it

    with sentences():
        found = asyncio.run(trial(load(config, note), config))
    if found.brokers and not any(each.connected for each in found.brokers):
        refuse(" ".join(each.problem for each in found.brokers), "peer-unreachable")
    runs = f"; process {found.pid} runs with it as it was at its start" if found.pid else ""
    answer(
        {"config": str(config), "networks": found.networks, "left_out": found.left_out}
        | {"addresses": found.addresses, "process": found.pid, "radio": plain(found.radio)}
        | {"brokers": [asdict(each) for each in found.brokers], "server_problem": found.server_problem}
        | {"home_assistant": found.home_assistant}
        | {"warnings": [{"code": UNKNOWN_KEY_CODE, "text": each} for each in unknown]},
        *[_use(each) for each in found.networks],
        *[f"left out: {each['interface']} {each['address'] or '-'}: {each['reason']}" for each in found.left_out],
        *([] if found.radio is None else [_adverts(found.radio)]),
        *[_broker(each) for each in found.brokers],
        *(
            []
            if found.home_assistant is None
            else [found.home_assistant or "Home Assistant: its broker lets this gateway in"]
        ),
        f"boards are told {', '.join(found.addresses) or 'no address: they find the gateway by asking their network'}",
        *([found.server_problem] if found.server_problem else []),
        f"{config} is right{runs}.",
    )


def _use(each: dict[str, str]) -> str:
    broken = f" once it can: {each['problem']}" if each["problem"] else ""
    return f"broadcasts on {each['interface']}: from {each['address']} to {each['broadcast']}{broken}"


def _broker(each: "BrokerHere") -> str:
    if not each.connected:
        return f"broker {each.url}: {each.problem or 'not needed now'}"
    server = {True: ", and the CPNS Server answers", False: ". The CPNS Server is not connected to it", None: ""}
    return f"broker {each.url}: lets this gateway in{server[each.server_is_there]}"


def _adverts(radio: "Radio") -> str:
    """Return in one line whether Group Keys go by adverts, and by which sender."""
    if radio.sender:
        return f"adverts by {radio.sender}{f' on {radio.adapter}' if radio.adapter else ''}; more: keycast radios"
    return f"no adverts: {'; '.join(f'{name}: {why}' for name, why in radio.in_vain.items())}; more: keycast radios"


@app.command()
def settings() -> None:
    """List every setting with its default and meaning.

    Example: keycast gateway settings
    """
    from gateway_agent.config.load import schema_of
    from gateway_agent.config.schema import GatewayConfig
    from gateway_agent.observe.onlookers import ONLOOKERS
    from gateway_agent.radios.by_kind import KINDS

    every = dict.fromkeys((*GatewayConfig.model_fields, *KINDS, *ONLOOKERS))
    found: list[dict[str, Any]] = []
    for name, field in schema_of(every).model_fields.items():
        section: Any = field.annotation
        settings = [
            {
                "name": key,
                "default": None if value.is_required() else getattr(value.default, "value", value.default),
                "needed": value.is_required(),
                "meaning": value.description or "",
            }
            for key, value in section.model_fields.items()
        ]
        found.append({"section": name, "meaning": (section.__doc__ or "").strip(), "settings": settings})
    answer(found, lambda: _show_settings(found))


def _show_settings(sections: list[dict[str, Any]]) -> None:
    for section in sections:
        console.print(Text.assemble((f"[{section['section']}]", "bold"), "  ", section["meaning"]))
        for each in section["settings"]:
            default = "needed" if each["needed"] else "-" if each["default"] is None else json.dumps(each["default"])
            console.print(f"  {each['name']:20} {default:24} {each['meaning']}")


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log also what is tried again.")] = False,
    log: LogOption = None,
) -> None:
    """Run the gateway until it is interrupted.

    Example: keycast gateway run -c keycast.toml
    """
    import asyncio

    from gateway_agent.config.load import load
    from gateway_agent.control_client import SOCKET_FILE, check_path
    from gateway_agent.observe.onlookers import require_packages
    from keycast.services import garbage
    from keycast.services.home import open_home  # first: a missing package is told before what the file lacks
    from keycast.services.supervisor import NOT_CONFIGURED

    garbage.keep_modules()
    lines = begin_log(log, verbose)
    with sentences(NOT_CONFIGURED):
        loaded = load(config, _tell_unknown)
        require_packages(loaded)
        check_path(loaded.gateway.state_dir / SOCKET_FILE)  # before anything is made
    with sentences(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(open_home(loaded, config_path=config, log_lines=lines)))


async def _run(opening: "contextlib.AbstractAsyncContextManager[Home]") -> None:
    from keycast.services.gateway_watch import GatewayWatch
    from keycast.services.supervisor import nothing, serve

    async with opening as home:
        await home.start()
        config, app, watch = home.config, home.app, GatewayWatch(home.app)
        ready(
            {"gateway_id": config.gateway.id, "pn_id": config.gateway.pn}
            | {"networks": [asdict(each) for each in app.broadcasts()]},
            watch.status(),
        )
        begun = partial(_say_link, home) if is_at_terminal() else nothing
        await serve(watch.status, app.endpoint.failed, app.gateway.failed, trouble=watch.trouble, begun=begun)


def _say_link(home: "Home") -> None:
    """Print the URL that logs in once to a page that has no password yet; it is for the person who starts it."""
    from gateway_agent.errors import GatewayError
    from gateway_agent.web import password

    links = [each.commands["web.link"] for each in home.onlookers if "web.link" in each.commands]
    if not links or password.mark(home.config.gateway.state_dir):
        return
    with contextlib.suppress(GatewayError):  # it is not open: the alarm says why
        made = links[0]()
        remark(f"The page has no password yet. This logs in once, within {made['seconds'] // 60} minutes:")
        for each in made["urls"]:
            remark(f"  {each}")


def _tell_unknown(sentence: str) -> None:
    from gateway_agent.config.load import UNKNOWN_KEY_CODE

    _log.warning(f"{UNKNOWN_KEY_CODE} %s", sentence)


@app.command()
def credential(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the gateway's credential, with which a CPNS Server elsewhere registers it.

    Example: keycast server add-gateway gw.home home $(keycast gateway credential) --open
    """
    from gateway_agent.config.load import load
    from gateway_agent.state_files import own_keys

    with sentences():
        identity, _ = own_keys(load(config))
        octets = identity.credential.ccs.hex()
    answer({"credential": octets}, octets)


@app.command()
def trust_server(
    credential: Annotated[
        str,
        typer.Argument(metavar="CREDENTIAL", help="The Server's credential, as `keycast server credential` prints it."),
    ],
    replace: Annotated[bool, typer.Option("--replace", help="End the identity that the Server has here.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Register the credential of a CPNS Server elsewhere, which `uplink.server_id` names.

    Example: keycast gateway trust-server $(keycast server credential --state server-state)
    """
    from gateway_agent.config.load import load
    from keycast.provisioning.end_to_end import server_credential
    from keycast.services import trusted_server

    with sentences():
        loaded = load(config)
        parsed = server_credential(credential)
        if parsed.entity_id != loaded.uplink.server_id:
            refuse(
                f"this is the credential of {parsed.entity_id}, and {config} names {loaded.uplink.server_id} as the "
                "CPNS Server. Set uplink.server_id if you mean this one.",
                "not-allowed",
            )
        trusted_server.trust_server(loaded, parsed, replace=replace)
    answer({"server_id": parsed.entity_id}, f"{parsed.entity_id} is the CPNS Server of {loaded.gateway.id}.")


@app.command("roll-over")
def roll_over(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Change the broadcast signing key of the running gateway; boards take it over their sessions (SEC-18).

    This does not help if the gateway was stolen: then replace it. Example: keycast gateway roll-over
    """
    epoch = ask(config, None, "gateway.roll-over")
    answer({"signing_epoch": epoch}, f"Signing key {epoch} is in use; boards learn it as they are reached.")


@app.command("new-generation")
def new_generation(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Begin a new generation of device keys (GKDK) in the running gateway; it begins one by itself every year.

    Example: keycast gateway new-generation
    """
    generation = ask(config, None, "gateway.new-generation")
    answer({"generation": generation}, f"Generation {generation} begins; boards get new records in turn.")


@app.command()
def backup(
    path: NewFile = None,
    config: ConfigOption = DEFAULT_CONFIG,
    with_identity: WithIdentity = False,
    passphrase_file: PassphraseFile = None,
    recipient: RecipientFile = None,
    into: Into = None,
    keep_daily: KeepDaily = 7,
    keep_weekly: KeepWeekly = 4,
) -> None:
    """Write the gateway's state into one encrypted file, while it runs or not, and open that once to see it is whole.

    It holds the inventory, the embedded CPNS Server and what a VAL client must not forget; with --with-identity also
    the gateway's keys and the credentials of its boards; no Group Key, no tree master, no session.

    Examples: keycast gateway backup home.backup --with-identity, keycast gateway backup --into backups --recipient
    home.recipient
    """
    from gateway_agent.config.load import load
    from gateway_agent.control_client import ask as over_socket
    from gateway_agent.errors import ControlUnavailable
    from keycast.copies import making, state_copies
    from private_store import folders

    def write(new: Path) -> None:
        try:
            with making.from_running(state, new) as within:
                over_socket(state, "gateway.backup", path=str(within), lock=lock.text(), identity=with_identity)
        except ControlUnavailable:
            with state_copies.gateway_state(state):
                images = state_copies.stopped_gateway(state)
                state_copies.write_gateway_backup(loaded, new, images, lock, identity=with_identity)

    with sentences():
        loaded = load(config)
        state = loaded.gateway.state_dir
        folders.check(state)  # a backup makes nothing
        where = where_to(path, into, keep_daily, keep_weekly)
        lock = lock_of(passphrase_file, recipient)
        made = making.make("gateway", where, lock, write)
    answer(made_json(made), *made_lines(made, "keycast gateway restore"))


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
    epochs: Annotated[
        int, typer.Option(min=1, help="2 or more for a backup that was put back before, as docs/gateway.md says.")
    ] = 1,
    config: ConfigOption = DEFAULT_CONFIG,
    older: Older = False,
    new_identity: Annotated[
        bool,
        typer.Option(
            "--new-identity", help="For a backup without identity: let the next start make one. Pair each board again."
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
    key: KeyFile = None,
) -> None:
    """Put a backup in place of the gateway's state and begin anew: new generation, no session, no key (SEC-02).

    Stop the gateway first. Boards make new sessions by themselves. Every group waits for a new key from the CPNS
    Server; an embedded Server holds its groups until a person has looked at their members. A backup without identity
    needs that of the state folder. If the command is interrupted, run it again.

    Example: keycast gateway restore home.backup
    """
    from gateway_agent.config.load import load
    from keycast.copies import state_copies

    with sentences():
        loaded = load(config)
        with state_copies.gateway_state(loaded.gateway.state_dir):
            if path is None:
                done = state_copies.begin_anew_in_place(loaded, epochs)
            else:
                unlock = unlock_of(path, passphrase_file, key)
                done = state_copies.put_back_gateway(
                    loaded, path, unlock, epochs=epochs, older=older, new_identity=new_identity
                )
    # If the folder was put back by hand, only a person knows whether the Server's part of it is an older copy too.
    has_server = path is None and (loaded.gateway.state_dir / state_copies.SERVER).exists()
    step = "If server/ in the state folder is an older copy too, after the start: keycast server restore"
    by_hand = [step] if has_server else []
    answer(
        {
            "generation": done.generation,
            "pne_ids": done.boards,
            "waiting_sg_ids": done.waiting,
            "held": done.held,
            "unpaired_pne_ids": done.unknown,
            "removed_since": done.since.removed,
        },
        *done.since.sentences(),
        f"Generation {done.generation} begins. Boards that will make new sessions: "
        f"{len(done.boards) - len(done.unknown)}; groups that wait for a new key: {len(done.waiting)}.",
        *(f"{pne} must be paired again, or retired: its credential is not there." for pne in done.unknown),
        *(f"{sg} is held. Start the gateway, look at its members, then: {CONFIRM} {sg}" for sg in done.held),
        *by_hand,
    )


# The files that can be made anew without a backup: none of them holds version floors or versions.
_REPLACEABLE = ("identity.key", "signing.key", "sessions.db", "seal/seal_keys.sqlite3", "seal/seal_gmks.sqlite3")


@app.command()
def lost(
    name: Annotated[str, typer.Argument(metavar="FILE", help=f"One of {', '.join(_REPLACEABLE)}.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Declare a file of the state folder lost for good: the next start makes it anew. Use a backup if there is one.

    Without its keys or sessions.db a gateway is a new one to its boards: each must be paired again.
    Example: keycast gateway lost sessions.db
    """
    from gateway_agent.config.load import load
    from gateway_agent.state_files import SIGNING_FILE
    from keycast.copies import state_copies
    from private_store import contents

    if name not in _REPLACEABLE:
        refuse(f"{name} cannot be made anew. What can be: {', '.join(_REPLACEABLE)}.", "unknown")
    with sentences():
        state = load(config).gateway.state_dir
        with state_copies.gateway_state(state):
            contents.forget(state / name)
            if name == SIGNING_FILE:
                state_copies.forget_signing_keys(state)
    answer({"file": name}, f"The next start makes {name} anew.")
