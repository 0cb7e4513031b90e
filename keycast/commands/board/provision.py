"""`keycast board provision`: an identity for a board, let in at the running gateway."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any

import typer

from keycast.terminal import completion
from keycast.terminal.look_alikes import point_out
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, sentences


def command(
    pne: Annotated[str, typer.Argument(metavar="BOARD", help="Name of the board, its PNE ID.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", readable=False, help="New file for the record, a script if it ends in .py; it is secret."
        ),
    ],
    group: Annotated[
        str | None,
        typer.Option(
            help="Service Group that the board will mostly be in; its slot in the tree is near that group's.",
            autocompletion=completion.groups,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the identity that has this name now.")] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address at which the board looks for the gateway first, such as 192.168.1.10; "
            '"" for none; default: the gateway\'s present address.'
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make an identity for a board, let it in at the running gateway, and write the record for its flash.

    The private key is made here and is stored in the file only. A script (.py) saves the record on the board: mpremote
    run porch.py. Example: keycast board provision lamp.porch -o porch.py
    """
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
    usb = [f"With the board on USB: mpremote run {out}. Then delete it."] if out.suffix == ".py" else []
    answer({"pne_id": pne, "file": str(out)}, f"{pne} is let in; its record for the flash is {out}.", *usb)


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
