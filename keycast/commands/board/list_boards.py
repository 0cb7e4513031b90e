"""`keycast board list`: the boards that a running gateway lets in."""

from typing import Any

from keycast.terminal.dates import ago
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, console
from keycast.terminal.tables import show_table


def command(config: ConfigOption = DEFAULT_CONFIG) -> None:
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
