"""`keycast board provision`: an identity for a board on a port, or for many, let in at the running gateway."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

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
    from keycast.board.provisioning import Done, Wifi


class _Result(NamedTuple):
    """What came of one board. `error`: what hinders it, with the next step, or ""; `state` is its word."""

    pne_id: str
    device: str
    state: str
    error: str


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
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give a board on a port its identity and its Wi-Fi, let it in at the running gateway, and start it.

    Its private key is made on the board and never leaves it. If anything fails, board and gateway have their old state,
    and the same command goes on. A board that has this name already keeps its identity, and gets the rest anew.

    Example: keycast board provision lamp.porch --wifi "my home"
    """
    if out is not None:
        if pne is None or table or port or wifi or password_file or label or board or no_ble or no_wifi:
            refuse("with -o there is no board: name it, and give none of the options for a board on a port")
        _on_host(pne, out, group, replace, address, config)
        return
    if (pne is None) == (table is None):
        refuse("name one board, or with --csv a file that names them")
    if table is not None and (port or group or is_file(label)):
        refuse("with --csv the file says port and group of each board, and a label is for the terminal: --label -")
    if no_wifi and (wifi or no_ble):
        refuse("--no-wifi leaves the board with Bluetooth: give neither --wifi nor --no-ble with it")
    extras.require("board")
    from keycast.board import board_table

    with sentences():
        rows = board_table.read(table) if table else [board_table.Row(pne or "", port or "", group)]
        require_kind(label)
        session = _Session(config, _hint(address) if address else address, replace, board, label)
    session.wifi = wifi_of(wifi, password_file)
    session.without_wifi, session.without_ble = no_wifi, no_ble
    if table is None:
        _one(session, rows[0])
    else:
        _many(session, rows)


class _Session:
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
        if board is not None:
            from keycast.services.known_names import require

            require(board, self.boards, "board in hw_configs")
            self.record = board_record.pack(board, self.boards[board])

    def provision(self, pne_id: str, port: str, group: str | None, tell: Callable[[str], None]) -> _Result:
        """Provision one board, start it and wait for what it says. Raises GatewayError."""
        from keycast.board.first_run import RUNNING, TOLD_S, settled
        from keycast.board.ports import CABLE_S, chosen, locked
        from keycast.board.provisioning import WantedBoard, provision
        from keycast.board.repl import Repl

        found = chosen(port or None, self.boards, CABLE_S)
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
        )
        with locked(found, "keycast board provision"), Repl(found) as repl:
            done = provision(repl, self.gateway, wanted, tell)
            show(self.label, pne_id, done.secret)
            tell("starts")
            repl.start()
            state = settled(repl.lines(TOLD_S))
        self._remark(pne_id, done)
        if state.code == RUNNING:
            return _Result(pne_id, found.name, RUNNING, "")
        return _Result(pne_id, found.name, state.code or "board-silent", _hindrance(pne_id, state))

    def _remark(self, pne_id: str, done: "Done") -> None:
        if done.found.repaired:
            remark(f"One copy of a record of {pne_id} was damaged; it is repaired.")
        if "prov" in done.found.damaged:
            remark(f"Both copies of the identity that this board had were damaged; {pne_id} is a new one.")
        former = done.former
        if former is not None and former.pne_id != pne_id and former.gateway == self.trust.gateway.ccs:
            remark(f"This board was {former.pne_id}, which no board is now: keycast board retire {former.pne_id}")


def _one(session: _Session, row: Any) -> None:
    point_out(row.pne_id, session.names)
    with sentences():
        result = session.provision(row.pne_id, row.port, row.group, lambda what: remark(f"{row.pne_id} {what} ..."))
    if result.error:
        refuse(result.error, result.state)
    label = [f"Its label is {session.label}; it is secret."] if is_file(session.label) else []
    value = {"pne_id": result.pne_id, "device": result.device, "state": result.state}
    answer(value, f"{result.pne_id} is let in and runs: the gateway has a session with it.", *label)


def _many(session: _Session, rows: list[Any]) -> None:
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
        remark(f"{row.pne_id}: {result.error or 'runs'}")
    failed = sum(bool(result.error) for result in results)
    columns = ("board", "port", "state", "what to do")
    answer(
        [each._asdict() for each in results],
        lambda: show_table(console, columns, [tuple(each) for each in results]),
    )
    if failed:
        remark(f"{failed} of {len(rows)} boards do not run. Type the command again: it goes on with them.")
        raise typer.Exit(1)


def _hindrance(pne_id: str, state: "BoardState") -> str:
    if not state.code:
        return f"{pne_id} is let in, and says nothing since its start. {state.next_step}"
    return f"{pne_id} is let in, and does not run yet: {state.sentence}. {state.next_step}"


def _on_host(pne: str, out: Path, group: str | None, replace: bool, address: str | None, config: Path) -> None:
    """Make an identity on this machine, for a board that has no port."""
    from device_agent.provisioning import RECORD
    from keycast.provisioning.board import Trust, flash_script, new_board
    from message_plane import credentials
    from private_store import files

    told: dict[str, Any] = ask(config, None, "trust")
    point_out(pne, (board["pne_id"] for board in ask(config, None, "board.list")))
    with sentences():
        trust = Trust(
            credentials.parse(bytes.fromhex(told["credential"]), "gateway"),
            bytes.fromhex(told["signing_key"]),
            told["signing_epoch"],
            told["pn"],
            told["address"] if address is None else _hint(address),
        )
        record, credential = new_board(pne, trust)
        files.write_new(out, flash_script({RECORD: record}).encode() if out.suffix == ".py" else record)
    try:
        ask(config, None, "board.register", credential=credential.ccs.hex(), group=group, replace=replace)
    except BaseException:
        out.unlink()  # no gateway would let that board in
        raise
    answer(
        {"pne_id": pne, "file": str(out)},
        f"{pne} is let in; its record for the flash is {out}.",
        "Its private key was made on this computer and is in that file: this is for virtual boards and trials. A board "
        "with a cable makes its own: keycast board provision NAME",
        *([f"With the board on USB: mpremote run {out}. Then delete it."] if out.suffix == ".py" else []),
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
