"""`keycast board pair`: let in a board that shows its pairing secret."""

from typing import Annotated

import typer

from keycast.commands.board.end_to_end_options import admission_line, told_of
from keycast.terminal.countdown import countdown
from keycast.terminal.look_alikes import point_out
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, refuse, remark, sentences


def command(
    pne: Annotated[str, typer.Argument(metavar="BOARD", help="Name of the board, its PNE ID.")],
    secret: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECRET]",
            help="The 16 characters that the board shows, or what its QR code says; asked for if it is not given.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the identity that has this name now.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Let in the board that shows this secret, and wait for it for up to five minutes.

    A new board takes this name. One that has a gateway already must have it. Only that board is let in, and only while
    this command runs. Example: keycast board pair lamp.porch ABCD-EFGH-IJKL-MNOP
    """
    from cpns.fingerprint import fingerprint
    from gateway_agent import pairing_secret
    from gateway_agent.core.pairing_window import OPEN_S

    point_out(pne, (board["pne_id"] for board in ask(config, None, "board.list")))
    shown = secret or typer.prompt("The 16 characters that the board shows", err=True)
    with sentences():
        pairing_secret.octets(shown)
    told = ask(config, None, "trust")
    server = bytes.fromhex(told.get("server_credential", ""))
    if server:
        remark(
            f"{pne} will trust the CPNS Server {fingerprint(server)} for end-to-end groups: compare that with what the "
            "board shows then, and with what `keycast server credential` prints at the Server."
        )
    try:
        with countdown(f"Waiting for {pne}", OPEN_S):
            name = ask(config, None, "board.pair", pne_id=pne, secret=shown, replace=replace)
    except KeyboardInterrupt:
        refuse(f"Cancelled: {pne} is not let in any more, as the window at the gateway is closed.", "cancelled")
    ccs = {board["pne_id"]: board["credential"] for board in ask(config, None, "board.list")}[name]
    same = f"Its own credential is {fingerprint(bytes.fromhex(ccs))}: compare that, too, with what the board shows."
    at_server = [same, admission_line(pne, told["pn"], bytes.fromhex(ccs))] if server else []
    answer({"pne_id": pne} | told_of(bytes.fromhex(ccs), server), f"{pne} is paired and let in.", *at_server)
