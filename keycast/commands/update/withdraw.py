"""`keycast update withdraw`: offer an update no more."""

from typing import Annotated

import typer

from keycast.commands.update.offer import what
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, refuse


def command(
    update: Annotated[
        str | None,
        typer.Argument(
            metavar="[UPDATE]", show_default=False, help="Its number or ID; not needed if it is the only one."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Offer an update no more, and stop its broadcast at once.

    Boards that have begun with it drop it. Those that run it keep it: to bring them back, sign the files of before with
    a higher number.

    Example: keycast update withdraw
    """
    if update == "":  # as a shell gives for a variable that is not set
        refuse("the number or ID of the update is empty: leave it out for the only one", "usage", 2)
    gone = ask(config, None, "update.withdraw", update=update)
    has = gone["updated_count"]
    they = "board runs it already, and keeps" if has == 1 else "boards run it already, and keep"
    remark = f"{has} {they} it." if has else ""
    answer(gone, f"{what(gone)} is withdrawn.", *filter(None, [remark]))
