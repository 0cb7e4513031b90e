"""What a gateway answers to programs over HTTP without log-in, and without a name in it."""

from http import HTTPStatus

from aiohttp import web

from gateway_agent.observe.sight import Sight


def routes(sight: Sight) -> list[web.RouteDef]:
    """Return `/health/live` and `/health/ready`: 200 if all is well, else 503, with the reasons as JSON."""

    async def live(request: web.Request) -> web.Response:
        return _answer(sight.health().not_live)

    async def ready(request: web.Request) -> web.Response:
        health = sight.health()
        return _answer((*health.not_live, *health.not_ready))

    return [web.get("/health/live", live), web.get("/health/ready", ready)]


def _answer(reasons: tuple[str, ...]) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return web.json_response({"ok": not reasons, "reasons": list(reasons)}, status=status)
