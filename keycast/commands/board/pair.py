"""`keycast board pair`: let in a board that shows its pairing secret."""

from typing import Annotated

import typer

from keycast.terminal.look_alikes import point_out
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, remark


def command(
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
