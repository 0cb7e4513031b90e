"""`keycast board`: make, let in, list and retire the boards of a PN."""

import ipaddress
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from keycast.commands.group import BoardArgument
from keycast.terminal import completion, extras
from keycast.terminal.dates import ago
from keycast.terminal.look_alikes import point_out
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    answer,
    ask,
    console,
    folder,
    refuse,
    remark,
    sentences,
)
from keycast.terminal.tables import show_table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_boards(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the boards that a running gateway lets in: when and where each was heard last, and what it runs.

    A board says what it runs when it first asks for keys. A board without a session makes one when it needs it.

    Example: keycast board list
    """
    boards = ask(config, None, "board.list")
    answer(boards, lambda: _show(boards))


def _show(boards: list[dict[str, Any]]) -> None:
    rows = [
        (
            board["pne_id"],
            "yes" if board["session"] else "no",
            ago(board["age_s"]),
            board["address"].rpartition(":")[0],
            board["software"],
            ", ".join(board["sg_ids"]),
        )
        for board in boards
    ]
    show_table(console, ("board", "session", "last heard", "from", "software", "Service Groups"), rows)


@app.command()
def files(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", parser=folder, help="New folder for the files.")],
    val_client: Annotated[bool, typer.Option("--val-client", help="For boards that are VAL clients.")] = False,
) -> None:
    """Write the files that every board runs: an image for its ROMFS partition, and main.py, which starts it.

    None of them is secret. The folder `mpy` has the same code as single files; `sources` has it for a firmware with the
    code frozen in, whose manifest is in `sources/micropython`.

    Example: keycast board files board-files
    """
    extras.require("boards")
    from keycast.micropython_vm import board_files, compile

    with sentences():
        if val_client:
            compile.compile_val_client_board()
        else:
            compile.compile_board()
        tree, image = compile.VAL_CLIENT_TREE if val_client else compile.BOARD_TREE, out / "board.romfs"
        try:
            out.mkdir()
        except OSError as error:
            refuse(f"cannot make {out}: {error.strerror}. Name a new folder.", "file")
        shutil.copy(tree.with_suffix(".romfs"), image)
        shutil.copy(tree / board_files.START, out)
        shutil.copytree(tree, out / "mpy")
        shutil.copytree(compile.SOURCES / tree.name, out / "sources")
    answer(
        {"folder": str(out)},
        f"{out} is written. With a board on USB:",
        f"  mpremote romfs deploy {image}",
        f"  mpremote cp {out / board_files.START} :",
    )


@app.command()
def provision(
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


@app.command()
def pair(
    pne: Annotated[str, typer.Argument(metavar="BOARD", help="Name of the board, its PNE ID.")],
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="The 16 characters that the board shows.")],
    replace: Annotated[bool, typer.Option("--replace", help="End the identity that has this name now.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Let in the board of this name that shows this secret, and wait for it for up to five minutes.

    Only that board is let in, and only while this command runs. Example: keycast board pair lamp.porch
    ABCD-EFGH-IJKL-MNOP
    """
    point_out(pne, (board["pne_id"] for board in ask(config, None, "board.list")))
    remark(f"Waiting for {pne} ...")
    ask(config, None, "board.pair", pne_id=pne, secret=secret, replace=replace)
    answer({"pne_id": pne}, f"{pne} is paired and let in.")


@app.command()
def retire(pne: BoardArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End a board that is lost, sold or stolen: it leaves all its groups, and these get new keys.

    Its slot and its session end too. Example: keycast board retire lamp.porch
    """
    exposed = ask(config, None, "board.retire", pne_id=pne)
    answer(
        {"pne_id": pne, "exposed_sg_ids": exposed},
        f"{pne} is out of the PN.",
        *(f"{sg} counts as exposed until its members have a newer key: see keycast status" for sg in exposed),
        "It still knows the Wi-Fi password, if it was ever told: change that if it left your hands.",
    )


@app.command()
def release(pne: BoardArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a board join and leave again after the gateway held it back because it had done so too often.

    Example: keycast board release lamp.porch
    """
    ask(config, None, "board.release", pne_id=pne)
    answer({"pne_id": pne}, f"{pne} may join and leave again.")
