"""The page of a gateway in this process, on a free port of loopback, without a section `[web]`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from gateway_agent.app import GatewayApp
from gateway_agent.observe.sight import Sight
from gateway_agent.web.application import application
from gateway_agent.web.log_in import LogIn
from key_servers.cpns_server.app import CpnsServer
from keycast.services.steering import commands, server_facts


def sight_of(app: GatewayApp, server: CpnsServer) -> Sight:
    """Return the sight of a running gateway with an embedded CPNS Server."""
    observer = app.observer(partial(server_facts, server))
    return Sight(
        config=app.config,
        config_path=None,
        stream=app.stream,
        snapshot=observer.snapshot,
        figures=observer.figures,
        health=app.health.view,
        set_alarm=app.gateway.administration.set_alarm,
        counters=app.counters,
        commands=commands(app, server, observer.snapshot),
    )


@asynccontextmanager
async def served(sight: Sight) -> AsyncIterator[tuple[str, Callable[[], str]]]:
    """Serve the page. Gives its URL without a last slash, and a function that returns a new link to log in by."""
    log_in = LogIn(sight.state_dir, 1)
    runner = web.AppRunner(application(sight, log_in, []), handler_cancellation=True)  # as http_door has it
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield url, lambda: f"{url}/log-in?token={log_in.sessions.new_link()}"
    finally:
        await runner.cleanup()
