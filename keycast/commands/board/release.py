"""`keycast board release`: let a board join and leave again that was held back."""

from keycast.commands.group import BoardArgument
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask


def command(pne: BoardArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a board join and leave again after the gateway held it back because it had done so too often.

    Example: keycast board release lamp.porch
    """
    ask(config, None, "board.release", pne_id=pne)
    answer({"pne_id": pne}, f"{pne} may join and leave again.")
