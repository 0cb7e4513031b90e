"""`keycast update status`: what is offered, and how far each board is."""

from typing import Any

from keycast.commands.update.offer import to_whom
from keycast.terminal.dates import local
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, console
from keycast.terminal.tables import show_table

_OFFER = ("update", "what", "number", "for", "offered", "on the air", "boards that have it")
_BOARD = ("board", "agent", "firmware", "is offered", "what it does", "pieces missing", "because", "since")


def command(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Show what is offered, which board has which number, what it waits for, and why one went back.

    Example: keycast update status
    """
    seen = ask(config, None, "update.status")
    answer(seen, lambda: _show(seen))


def _show(seen: dict[str, Any]) -> None:
    if not seen["offers"]:
        console.print("No update is offered. Offer one: keycast update offer FILE")
    else:
        show_table(console, _OFFER, map(_offer, seen["offers"]))
    rows = [
        (
            each["pne_id"],
            str(each["agent_number"] or ""),
            str(each["firmware_number"] or ""),
            str(each["offered_number"] or ""),
            each["text"],
            str(each["missing_count"] or ""),
            each["reason"],
            local(each["since"]),
        )
        for each in seen["boards"]
    ]
    if rows:
        show_table(console, _BOARD, rows)


def _offer(each: dict[str, Any]) -> tuple[str, ...]:
    if not each["is_broadcast"]:
        aired = ""
    elif each["problem"]:
        aired = f"waits: {each['problem']}"
    else:
        aired = "done" if each["aired_percent"] == 100 else f"{each['aired_percent']} %"
    return (
        each["update_id"],
        each["kind"],
        str(each["number"]),
        to_whom(each),
        local(each["offered_at"]),
        aired,
        f"{each['updated_count']} of {each['boards_count']}",
    )
