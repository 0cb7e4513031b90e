"""`keycast seal`: show group master keys (GMK) by MIKEY-SAKKE in a demo; provision and list boards that get them."""

import asyncio
import datetime
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from keycast.commands.group import BoardArgument
from keycast.terminal import extras
from keycast.terminal.json_option import Answering
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

app = typer.Typer(
    cls=Answering, no_args_is_help=True, help="Group master keys by MIKEY-SAKKE: KMS, GMS, CMS and VAL clients."
)


@app.command()
def demo(
    val_board: Annotated[
        bool,
        typer.Option(
            "--val-board", help="Run a home too: a gateway, a board that is a VAL client, and one that is not."
        ),
    ] = False,
) -> None:
    """Key three users of a group, remove one, change the key, and let another GMS try. All over HTTPS on loopback.

    The exit code is 0 only if every step had the result that it must have.

    Example: keycast seal demo
    """
    extras.require("seal", *(("gateway", "boards") if val_board else ()))
    from keycast.demo.seal_story import SealFigures, play, table
    from keycast.micropython_vm.vm import NoVm

    figures = SealFigures()
    with sentences(), tempfile.TemporaryDirectory(prefix="keycast-seal-") as folder:
        try:
            asyncio.run(play(Path(folder), figures, remark, val_board=val_board))
        except NoVm as problem:
            refuse(str(problem))
        except TimeoutError as error:
            refuse(f"The demo waited for a minute, in vain, for {error}.", "timeout")
    answer(asdict(figures), lambda: console.print(table(figures)))
    if not figures.good:
        raise typer.Exit(1)


@app.command()
def board(
    pne: BoardArgument,
    kms_token_file: Annotated[
        Path, typer.Option(readable=False, help="File of mode 0600 with the board's token at the KMS.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="New folder for the board's files; they hold its keys.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Fetch the keys of a board that is a VAL client itself, and write the files for its flash.

    The configuration must name the board in `[[seal.boards]]`; it holds no token for the board's keys. Repeat this
    before its key period ends.

    Example: keycast seal board lamp.porch --kms-token-file lamp.token -o lamp-val
    """
    from gateway_agent.config.load import load
    from keycast.provisioning.val_client import SCRIPT, fetch
    from private_store import files

    with sentences():
        seal = load(config).seal
        found = next((each for each in seal.boards if each.pne == pne), None) if seal else None
        if found is None:
            refuse(f"{pne} is no VAL client in {config}. Add it there: [[seal.boards]], see docs/gms.md.", "unknown")
        token = files.read(kms_token_file).decode("ascii", "replace").strip()
        access = seal.kms.model_copy(update={"user_uri": found.user_uri, "token": SecretStr(token)})
        made = asyncio.run(fetch(access, found.cms, lambda: int(time.time())))
        caches = made.write(out)
    served = {each.gms_uri for each in found.gms}
    answer(
        {
            "pne_id": pne,
            "user": found.user_uri,
            "groups": [{"group": group, "gms_uri": gms} for group, gms in made.client.groups.items()],
            "keys_end": made.until,
            "folder": str(out),
        },
        *(
            f"{group} of {gms}{'' if gms in served else ': this GMS is missing in [[seal.boards]]'}"
            for group, gms in made.client.groups.items()
        ),
        f"{out} holds the keys of {found.user_uri} until {_date(made.until)}. With {pne} on USB:",
        f"  mpremote run {out / SCRIPT}",
        "  mpremote fs mkdir :/val",
        f"  mpremote fs cp {' '.join(str(path) for path in caches)} :/val/",
        f"Then delete {out}: it is as secret as the board. The board's application starts ValService.",
    )


@app.command()
def boards(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the boards that are VAL clients behind a running gateway, and the date until which each has keys.

    Example: keycast seal boards
    """
    found = ask(config, None, "seal.boards")
    answer([each | {"heard": each["keys_end"] is not None} for each in found], lambda: _show_boards(found))


def _show_boards(found: list[dict[str, Any]]) -> None:
    rows = []
    for each in found:
        end = each["keys_end"]
        until = "not heard yet" if end is None else _date(end) if end else "no keys"
        rows.append((each["pne_id"], each["user"], "yes" if each["there"] else "no", until))
    show_table(console, ("board", "user", "there", "keys until"), rows)


def _date(unix_time: int) -> str:
    return f"{datetime.datetime.fromtimestamp(unix_time, datetime.UTC):%Y-%m-%d %H:%M} UTC"
