"""`keycast device`: the boards of a PN."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tools.keycast.group import PneArgument
from tools.keycast.options import DEFAULT_CONFIG, ConfigOption, JsonOption, ask, complain, console, sentences, show_json

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_devices(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the boards that a running gateway lets in.

    Example: keycast device list
    """
    devices = ask(config, None, "device.list")
    if as_json:
        show_json(devices)
        return
    table = Table("PNE", "session", "Service Groups")
    for device in devices:
        table.add_row(device["pne_id"], "yes" if device["session"] else "no", ", ".join(device["groups"]) or "-")
    console.print(table)


@app.command()
def provision(
    pne: PneArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="New file for the record, a script if it ends in .py; it is secret.")
    ],
    group: Annotated[str | None, typer.Option(help="Service Group it will mostly be in: a place in the tree.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the identity that the board has.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make an identity for a board, let it in at the running gateway, and write the record for its flash.

    The private key is made here and stands in the file only. A script saves the record on the board: mpremote run
    porch.py. Example: keycast device provision lamp.porch -o porch.py
    """
    from device_agent.provisioning import RECORD
    from message_plane import credentials
    from tools.provisioning import Trust, flash_script, new_board

    told: dict[str, Any] = ask(config, None, "trust")
    if not replace and pne in [device["pne_id"] for device in ask(config, None, "device.list")]:
        complain(f"{pne} is let in already. To end the identity that it has, and its memberships: add --replace.")
        raise typer.Exit(1)
    with sentences():
        trust = Trust(
            credentials.parse(bytes.fromhex(told["credential"]), "gateway"),
            bytes.fromhex(told["signing_key"]),
            told["signing_epoch"],
            told["pn"],
            told["address"],
        )
        record, credential = new_board(pne, trust)
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        complain(f"cannot write {out}: {error.strerror}. Name a new file with -o.")
        raise typer.Exit(1) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(flash_script({RECORD: record}).encode() if out.suffix == ".py" else record)
    try:
        ask(config, None, "device.register", credential=credential.ccs.hex(), group=group)
    except BaseException:
        out.unlink()  # nobody would let that board in
        raise
    console.print(f"{pne} is let in; its record for the flash is {out}.")
    if out.suffix == ".py":
        console.print(f"With the board on USB: mpremote run {out}. Then delete it.")


@app.command()
def pair(
    secret: Annotated[str, typer.Argument(help="The 16 characters that the board shows.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Let in the board that shows this secret; waits up to five minutes.

    Example: keycast device pair ABCD-EFGH-IJKL-MNOP
    """
    console.print("Waiting for the board ...")
    console.print(f"{ask(config, None, 'device.pair', secret=secret)} is paired and let in.")


@app.command()
def retire(pne: PneArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """A board is lost, sold or stolen: its slot and session end, it leaves every group, the groups get new keys.

    Example: keycast device retire lamp.porch
    """
    exposed = ask(config, None, "device.retire", pne_id=pne)
    console.print(f"{pne} is out of the PN.")
    for sg in exposed:
        console.print(f"{sg} counts as exposed until its members have a newer key: see keycast status")
    console.print("It still knows the Wi-Fi password, if it was ever told: change that if it left your hands.")


@app.command()
def release(pne: PneArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a board join and leave again that did so too often.

    Example: keycast device release lamp.porch
    """
    ask(config, None, "device.release", pne_id=pne)
    console.print(f"{pne} may join and leave again.")
