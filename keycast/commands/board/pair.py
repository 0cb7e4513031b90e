"""`keycast board pair`: let in a board that shows its pairing secret."""

from typing import Annotated, Any

import typer

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
    from gateway_agent.core.pairing_window import OPEN_S
    from keycast.services import pairing_secret

    point_out(pne, (board["pne_id"] for board in ask(config, None, "board.list")))
    shown = secret or typer.prompt("The 16 characters that the board shows", err=True)
    with sentences():
        pairing_secret.octets(shown)
    fingerprint = _server_fingerprint(ask(config, None, "trust"))
    if fingerprint:
        remark(
            f"{pne} will trust the CPNS Server {fingerprint} for end-to-end groups: compare that with what the board "
            "shows then, and with what `keycast server credential` prints at the Server."
        )
    try:
        with countdown(f"Waiting for {pne}", OPEN_S):
            ask(config, None, "board.pair", pne_id=pne, secret=shown, replace=replace)
    except KeyboardInterrupt:
        refuse(f"Cancelled: {pne} is not let in any more, as the window at the gateway is closed.", "cancelled")
    answer({"pne_id": pne, "server_fingerprint": fingerprint}, f"{pne} is paired and let in.")


def _server_fingerprint(trust: dict[str, Any]) -> str:
    """Return the fingerprint of the CPNS Server of which a running gateway tells boards, "" for none."""
    from cpns.fingerprint import fingerprint

    server = bytes.fromhex(trust.get("server_credential", ""))
    return str(fingerprint(server)) if server else ""
