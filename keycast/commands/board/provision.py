"""`keycast board provision`: an identity for a board on a port, or for many, let in at the running gateway."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from keycast.commands.board.end_to_end_options import (
    EntityUserKeyOption,
    ServerCredentialOption,
    drawn,
    kept_lines,
    next_lines,
    server_of,
    told_of,
)
from keycast.commands.board.label_option import LabelOption, is_file, require_kind, show
from keycast.commands.board.port_option import PortOption
from keycast.commands.board.wifi_option import PasswordFileOption, WifiOption, wifi_of
from keycast.terminal import completion, extras
from keycast.terminal.look_alikes import point_out
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    answer,
    ask,
    console,
    refuse,
    remark,
    sentences,
)
from keycast.terminal.tables import show_table

if TYPE_CHECKING:
    from keycast.board.first_run import BoardState
    from keycast.board.provisioning import Done, Identity, Wifi


class _Result(NamedTuple):
    """What came of one board. `error`: what hinders it, with the next step, or ""; `state` is its word.

    `identity` is that of a board that is let in.
    """

    pne_id: str
    device: str
    state: str
    error: str
    identity: "Identity | None" = None

    def value(self) -> dict[str, str]:
        """Return what stands in JSON, but the error."""
        told = {"pne_id": self.pne_id, "device": self.device, "state": self.state}
        return told if self.identity is None else told | told_of(self.identity.ccs, self.identity.server)


def command(
    pne: Annotated[
        str | None, typer.Argument(metavar="[BOARD]", help="Name of the board, its PNE ID; not with --csv.")
    ] = None,
    port: PortOption = None,
    wifi: WifiOption = None,
    password_file: PasswordFileOption = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Service Group that the board will mostly be in; its slot in the tree is near that group's.",
            autocompletion=completion.groups,
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="End the identity that has this name now, and that which this board has now."),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address at which the board looks for the gateway first, such as 192.168.1.10; "
            '"" for none; default: the gateway\'s present address.'
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            help="Which board it is, a file of hw_configs, for its light and button; default: what `flash` wrote."
        ),
    ] = None,
    no_ble: Annotated[
        bool, typer.Option("--no-ble", help="Use no Bluetooth, although board and gateway have it.")
    ] = False,
    no_wifi: Annotated[
        bool, typer.Option("--no-wifi", help="Use no Wi-Fi: the board reaches the gateway by Bluetooth only.")
    ] = False,
    label: LabelOption = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            readable=False,
            help="Provision the boards of a file with the columns name, port (or serial) and group.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            readable=False,
            help="For virtual boards and trials: make the private key here, and write the record to this new file, a "
            "script if it ends in .py; it is secret.",
            show_default=False,
        ),
    ] = None,
    server_credential: ServerCredentialOption = None,
    entity_user_key: EntityUserKeyOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give a board on a port its identity and its Wi-Fi, let it in at the running gateway, and start it.

    Its private key is made on the board and never leaves it. If anything fails, board and gateway have their old state,
    and the same command goes on. A board that has this name already keeps its identity, and gets the rest anew.

    A board that knows its CPNS Server can be in end-to-end groups, whose keys the gateway carries and cannot read; then
    the command ends with the line that is to be typed at that Server.

    Example: keycast board provision lamp.porch --wifi "my home"
    """
    if out is not None:
        if pne is None or table or port or wifi or password_file or label or board or no_ble or no_wifi:
            refuse("with -o there is no board: name it, and give none of the options for a board on a port")
        if entity_user_key is not None and out.suffix != ".py":
            refuse("a record has no room for an Entity User Key: name a file that ends in .py with -o")
        with sentences():
            server = server_of(server_credential, entity_user_key)
        _on_host(pne, out, group, replace, address, server, entity_user_key, config)
        return
    if (pne is None) == (table is None):
        refuse("name one board, or with --csv a file that names them")
    if table is not None and (port or group or is_file(label)):
        refuse("with --csv the file says port and group of each board, and a label is for the terminal: --label -")
    if table is not None and entity_user_key is not None:
        refuse("with --csv there is no --entity-user-key: each board has one of its own")
    if no_wifi and (wifi or no_ble):
        refuse("--no-wifi leaves the board with Bluetooth: give neither --wifi nor --no-ble with it")
    extras.require("board")
    from keycast.board import board_table

    with sentences():
        rows = board_table.read(table) if table else [board_table.Row(pne or "", port or "", group)]
        require_kind(label)
        server = server_of(server_credential, entity_user_key)
        session = Session(config, _hint(address) if address else address, replace, board, label)
    session.wifi = wifi_of(wifi, password_file)
    session.without_wifi, session.without_ble = no_wifi, no_ble
    session.server, session.key_file = server, entity_user_key
    if table is None:
        _one(session, rows[0])
    else:
        _many(session, rows)


class Session:
    """What all boards of one command have in common. Raises GatewayError."""

    def __init__(self, config: Path, address: str | None, replace: bool, board: str | None, label: str | None) -> None:
        from gateway_agent.config.load import load
        from keycast.board import board_record
        from keycast.board.running_gateway import RunningGateway
        from keycast.hardware.catalogue import VIRTUAL, all_boards, virtual_board

        self.gateway = RunningGateway(load(config).gateway.state_dir)
        self.trust = self.gateway.trust(address)
        self.names = self.gateway.boards()
        self.boards = all_boards()
        self.hardware = {**self.boards, VIRTUAL: virtual_board()}
        self.replace = replace
        self.label = label
        self.wifi: Wifi | None = None
        self.without_wifi = self.without_ble = False
        self.record: bytes | None = None
        self.server: bytes | None = None
        self.key_file: Path | None = None
        if board is not None:
            from key_servers.known_names import require

            require(board, self.boards, "board in hw_configs")
            self.record = board_record.pack(board, self.boards[board])

    def provision(self, pne_id: str, port: str, group: str | None, tell: Callable[[str], None]) -> _Result:
        """Provision one board, start it and wait for what it says. Raises GatewayError."""
        from keycast.board.first_run import RUNNING, TOLD_S, settled
        from keycast.board.ports import CABLE_S, chosen, locked
        from keycast.board.provisioning import WantedBoard, provision
        from keycast.board.repl import Repl

        found = chosen(port or None, self.boards, CABLE_S)
        with locked(found, "keycast board provision"), Repl(found) as repl:
            with drawn(self.key_file) as key:
                wanted = WantedBoard(
                    pne_id,
                    self.trust,
                    self.wifi,
                    group,
                    self.replace,
                    self.record,
                    self.label is not None,
                    self.without_wifi,
                    self.without_ble,
                    self.hardware,
                    self.server,
                    key,
                )
                done = provision(repl, self.gateway, wanted, tell)
            show(self.label, pne_id, done.secret)
            tell("starts")
            repl.start()
            state = settled(repl.lines(TOLD_S))
        self._remark(pne_id, done)
        if state.code == RUNNING:
            return _Result(pne_id, found.name, RUNNING, "", done.identity)
        return _Result(pne_id, found.name, state.code or "board-silent", _hindrance(pne_id, state), done.identity)

    def next_lines(self, identity: "Identity | None") -> list[str]:
        """Return what is to be done at the CPNS Server for a board that is let in."""
        if identity is None:
            return []
        lines = next_lines(identity.pne_id, self.trust.pn_id, identity.ccs, identity.server, self.key_file)
        if self.server is None:
            lines += kept_lines(identity.pne_id, identity.server, self.trust.server_ccs)
        return lines

    def _remark(self, pne_id: str, done: "Done") -> None:
        if done.found.repaired:
            remark(f"One copy of a record of {pne_id} was damaged; it is repaired.")
        if "prov" in done.found.damaged:
            remark(f"Both copies of the identity that this board had were damaged; {pne_id} is a new one.")
        former = done.former
        if former is not None and former.pne_id != pne_id and former.gateway == self.trust.gateway.ccs:
            remark(f"This board was {former.pne_id}, which no board is now: keycast board retire {former.pne_id}")


def _one(session: Session, row: Any) -> None:
    point_out(row.pne_id, session.names)
    with sentences():
        result = session.provision(row.pne_id, row.port, row.group, lambda what: remark(f"{row.pne_id} {what} ..."))
    lines = session.next_lines(result.identity)
    if result.error:
        for line in lines:
            remark(line)
        refuse(result.error, result.state)
    label = [f"Its label is {session.label}; it is secret."] if is_file(session.label) else []
    answer(result.value(), f"{result.pne_id} is let in and runs: the gateway has a session with it.", *label, *lines)


def _many(session: Session, rows: list[Any]) -> None:
    """Provision one board after another, whatever becomes of each; type the command again for those that failed."""
    from cpns.errors import CpnsError
    from gateway_agent.errors import GatewayError, code_of

    results = []
    for row in rows:
        try:
            result = session.provision(row.pne_id, row.port, row.group, lambda what: None)
        except (GatewayError, CpnsError, OSError) as error:
            result = _Result(row.pne_id, row.port, code_of(error), str(error))
        results.append(result)
        for line in (f"{row.pne_id}: {result.error or 'runs'}", *session.next_lines(result.identity)):
            remark(line)
    failed = sum(bool(result.error) for result in results)
    columns = ("board", "port", "state", "what to do")
    answer(
        [each.value() | {"error": each.error} for each in results],
        lambda: show_table(console, columns, [(each.pne_id, each.device, each.state, each.error) for each in results]),
    )
    if failed:
        remark(f"{failed} of {len(rows)} boards do not run. Type the command again: it goes on with them.")
        raise typer.Exit(1)


def _hindrance(pne_id: str, state: "BoardState") -> str:
    if not state.code:
        return f"{pne_id} is let in, and says nothing since its start. {state.next_step}"
    return f"{pne_id} is let in, and does not run yet: {state.sentence}. {state.next_step}"


def _on_host(
    pne: str,
    out: Path,
    group: str | None,
    replace: bool,
    address: str | None,
    server: bytes | None,
    key_file: Path | None,
    config: Path,
) -> None:
    """Make an identity on this machine, for a board that has no port."""
    import dataclasses

    from device_agent.end_to_end import entity_user_keys
    from device_agent.provisioning import RECORD
    from keycast.provisioning.board import flash_script, new_board, told_trust
    from private_store import files

    told: dict[str, Any] = ask(config, None, "trust")
    point_out(pne, (board["pne_id"] for board in ask(config, None, "board.list")))
    with sentences(), drawn(key_file) as key:
        trust = told_trust(told, None if address is None else _hint(address))
        if server is not None:
            trust = dataclasses.replace(trust, server_ccs=server)
        record, credential = new_board(pne, trust)
        records = {RECORD: record} | trust.further_records()
        records |= {entity_user_keys.RECORD: entity_user_keys.pack(key)} if key else {}
        files.write_new(out, flash_script(records).encode() if out.suffix == ".py" else record)
        try:
            ask(config, None, "board.register", credential=credential.ccs.hex(), group=group, replace=replace)
        except BaseException:
            out.unlink()  # no gateway would let that board in
            raise
    answer(
        {"pne_id": pne, "file": str(out)} | told_of(credential.ccs, trust.server_ccs),
        f"{pne} is let in; its record for the flash is {out}.",
        "Its private key was made on this computer and is in that file: this is for virtual boards and trials. A board "
        "with a cable makes its own: keycast board provision NAME",
        *([f"With the board on USB: mpremote run {out}. Then delete it."] if out.suffix == ".py" else []),
        *next_lines(pne, trust.pn_id, credential.ccs, trust.server_ccs, key_file),
    )


def _hint(address: str) -> str:
    """Return `address`, an IPv4 address with or without port, as it stands in a record. Raise NotAllowed for others."""
    from cpns.errors import NotAllowed

    host, colon, port = address.partition(":")
    try:
        if address:
            ipaddress.IPv4Address(host)
        if colon and not 0 < int(port) < 65536:
            raise ValueError
    except ValueError:
        raise NotAllowed(
            f"{address!r} is no IPv4 address of a gateway: write 192.168.1.10 or 192.168.1.10:5683"
        ) from None
    return address
