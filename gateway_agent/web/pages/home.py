"""The first page: what the gateway sees and does."""

from aiohttp import web

from gateway_agent.observe.sight import Sight
from gateway_agent.web.render import render


async def handle(request: web.Request, sight: Sight) -> web.Response:
    """Show the groups and boards."""
    return await render(request, "home.html", snapshot=sight.snapshot())
