"""`keycast update offer`: offer a signed update to the boards of a gateway."""

import base64
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from keycast.commands.update.show import TAKE_ANOTHER
from keycast.terminal import completion
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, asked, refuse, sentences

_UNVERIFIED = (
    "Nobody has verified its signature: the gateway has no update key, and boards without one refuse the update. Name "
    "the public file of keycast update key in [update], and restart the gateway."
)
_OF_THE_FILE = {
    "malformed-message": TAKE_ANOTHER,
    "not-authentic": "Whether a key has signed it, says: keycast update show FILE --key FILE.pub",
}
"""Codes of refusals for what is in the file, with the next step."""


def command(
    path: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The update, from keycast update sign.")],
    board: Annotated[
        list[str] | None,
        typer.Option(metavar="BOARD", help="Only to this board; may be repeated.", autocompletion=completion.boards),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="SG", help="Only to the members of this Service Group.", autocompletion=completion.groups),
    ] = None,
    broadcast: Annotated[
        bool, typer.Option("--broadcast", help="Broadcast it to all boards; they pull only what they miss.")
    ] = False,
    sealed: Annotated[
        str | None,
        typer.Option(
            metavar="SG",
            help="With --broadcast: only the members of this Service Group get it, and can read it.",
            autocompletion=completion.groups,
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Offer an update to boards: to all, which pull it one after another, or to those that are named.

    The gateway checks the file, keeps it, and goes on after a restart. A newer update takes the place of an older one;
    one that was offered to a few is offered to more by the same command. Boards restart into it by themselves.

    Examples: keycast update offer agent.suit --board lamp.porch; later keycast update offer agent.suit --broadcast
    """
    from gateway_agent.errors import Refused
    from keycast.updates import file

    if broadcast and (board or group):
        refuse("a broadcast is for all boards, or --sealed for a group: leave out --board and --group", "usage", 2)
    if sealed is not None and not broadcast:
        refuse("only a broadcast is sealed, as the sessions with boards are: add --broadcast", "usage", 2)
    if "" in (sealed, *(board or ()), *(group or ())):  # as a shell gives for a variable that is not set
        refuse(
            "the name of a board or a group is empty, which does not stand for all: leave the option out", "usage", 2
        )
    how = {"boards": board or [], "groups": group or [], "broadcast": broadcast, "sealed": sealed or ""}
    with sentences():
        octets = base64.b64encode(file.octets(path)).decode()
        try:
            offered = asked(config, None, "update.offer", file=octets, **how)
        except Refused as refused:  # by a gateway, which does not know the name of the file
            if refused.code not in _OF_THE_FILE:
                raise
            raise Refused(f"{path}: {refused}. {_OF_THE_FILE[refused.code]}", refused.code) from None
    count = offered["boards_count"]
    has = "1 board that may run it" if count == 1 else f"{count} boards that may run it"
    for_none = f"No board that is let in takes it. For which boards it is: keycast update show {shlex.quote(str(path))}"
    way = f" by broadcast, sealed for {sealed}" if sealed else " by broadcast" if broadcast else ""
    answer(
        offered,
        f"{what(offered)} is offered to {to_whom(offered)}{way}: {has}",
        *([] if count else [for_none]),
        *_have_it(offered["updated_count"]),
        *([] if offered["is_verified"] else [_UNVERIFIED]),
        "How far they are: keycast update status",
    )


def _have_it(count: int) -> list[str]:
    """Return what to know of boards with this number or a higher one: for a number that is too low they are all."""
    if not count:
        return []
    have = "1 of them has" if count == 1 else f"{count} of them have"
    return [f"{have} this number or a higher one: no board takes a lower one than it has confirmed."]


def what(offered: dict[str, Any]) -> str:
    """Return the kind and the number of an offer, with its ID."""
    return f"{offered['kind']} update {offered['number']} ({offered['update_id']})"


def to_whom(offered: dict[str, Any]) -> str:
    """Return for which boards an offer is, in words."""
    groups = f"the members of {', '.join(offered['sg_ids'])}" if offered["sg_ids"] else ""
    return " and ".join(filter(None, (", ".join(offered["pne_ids"]), groups))) or "all boards"
