"""`keycast server`: a CPNS Server on its own, reached by PN GWs over UDP."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Annotated

import typer

from tools.keycast.options import console, sentences

app = typer.Typer(no_args_is_help=True)

StateFolder = Annotated[Path, typer.Option("--state", help="Folder for keys, sessions and inventory.")]
_STATE = Path("keycast-server-state")


@app.command()
def run(
    state: StateFolder = _STATE,
    server: Annotated[str, typer.Option("--id", help="Entity ID of the Server.")] = "server.local",
    listen: Annotated[list[str] | None, typer.Option(help="IP address to listen on; may be repeated.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port.")] = 5685,
) -> None:
    """Run the Server until it is interrupted.

    Example: keycast server run --state server-state
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with sentences(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(state, server, listen or ["0.0.0.0"], port))


async def _run(state: Path, server_id: str, listen: list[str], port: int) -> None:
    from gateway_agent.control import ControlSocket
    from key_servers.cpns_server.app import CpnsServer
    from key_servers.cpns_server.config import ServerConfig
    from tools.keycast.gateway import interrupted
    from tools.keycast.steering import server_commands

    server = await CpnsServer.open(state, ServerConfig(id=server_id, listen=listen, port=port))
    control = ControlSocket(state / "control.sock", server_commands(server))
    try:
        await control.open()
        console.print(f"{server_id} listens on {', '.join(listen)}, UDP port {port}")
        await interrupted()
    finally:
        await control.close()
        await server.close()


@app.command()
def credential(state: StateFolder = _STATE) -> None:
    """Print the running Server's credential, for gateways to register.

    Example: keycast gateway trust-server $(keycast server credential --state server-state)
    """
    from gateway_agent.control import ask

    with sentences():
        typer.echo(ask(state, "server.credential"))


@app.command("add-gateway")
def add_gateway(
    gateway: Annotated[str, typer.Argument(help="Entity ID of the PN GW.")],
    pn: Annotated[str, typer.Argument(help="PN it serves.")],
    credential: Annotated[str, typer.Argument(help="Its credential: keycast gateway credential")],
    state: StateFolder = _STATE,
) -> None:
    """Let a PN GW serve a PN.

    Example: keycast server add-gateway gw.home home $(keycast gateway credential)
    """
    from gateway_agent.control import ask

    with sentences():
        ask(state, "server.add-gateway", gateway_id=gateway, pn_id=pn, credential=credential)
    console.print(f"{gateway} serves {pn}.")
