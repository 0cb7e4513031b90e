"""`keycast board retire`: end a board that is lost, sold or stolen."""

from keycast.commands.group import BoardArgument
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask


def command(pne: BoardArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
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
