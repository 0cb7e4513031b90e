"""What programs read of a gateway over HTTP without a log-in: /health/live, /health/ready, /metrics if it is wanted.

No answer about health has a name in it.
"""

import ipaddress

from aiohttp import web

from gateway_agent.observe.sight import Sight
from gateway_agent.store.errors import StoreFailed

_NO_STORE = {"Cache-Control": "no-store"}


def for_all(config: object) -> tuple[str, ...]:
    """Return the beginnings of the paths that may be read under any host name: their answers are for everybody."""
    section = getattr(config, "metrics", None)
    return ("/health/", "/metrics") if section is not None and section.open else ("/health/",)


def routes(sight: Sight) -> list[web.RouteDef]:
    """Return the routes that a configuration asks for; that of /metrics only if it has `[metrics]`."""

    async def live(_: web.Request) -> web.Response:
        health = sight.health()
        return _health(health.live, health.not_live)

    async def ready(_: web.Request) -> web.Response:
        health = sight.health()
        return _health(health.ready, (*health.not_live, *health.not_ready))

    found = [web.get("/health/live", live), web.get("/health/ready", ready)]
    section = getattr(sight.config, "metrics", None)
    if section is None:
        return found
    from gateway_agent.observe.metrics import Metrics

    metrics = Metrics(sight.stream, sight.figures)

    async def figures(request: web.Request) -> web.Response:
        if not (section.open or _is_here(request.remote or "")):
            return web.Response(
                status=403,
                text="Metrics are for programs on this machine, unless the configuration says open = true under "
                "[metrics].\n",
            )
        try:
            octets, content_type = metrics.text(request.headers.get("Accept", ""))
        except StoreFailed:
            return web.Response(status=503, text="The store cannot be read.\n", headers=_NO_STORE)
        return web.Response(body=octets, headers={"Content-Type": content_type, **_NO_STORE})

    return [*found, web.get("/metrics", figures)]


def _health(is_well: bool, reasons: tuple[str, ...]) -> web.Response:
    told = {"ok": is_well, "reasons": list(reasons)}
    return web.json_response(told, status=200 if is_well else 503, headers=_NO_STORE)


def _is_here(peer: str) -> bool:
    """Return True for an address of this machine's loopback, an IPv4 address in an IPv6 one included."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None)
    return (inner or address).is_loopback
