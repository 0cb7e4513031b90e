"""The page put together: which path is answered by what, and what every request passes before."""

from collections import Counter
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway_agent.observe import http
from gateway_agent.observe.sight import Sight
from gateway_agent.web import addresses, api, entrance, guard, tuning
from gateway_agent.web.live import Live
from gateway_agent.web.log_in import LOG_IN, LogIn
from gateway_agent.web.page import Handler
from gateway_agent.web.pages import PAGES
from gateway_agent.web.pages.pairing_desk import DESK, PairingDesk
from gateway_agent.web.render import STATIC, TEMPLATES, environment
from gateway_agent.web.static_files import StaticFiles
from http_door.log import DoorLog

LOG = web.AppKey("LOG", DoorLog)


def application(sight: Sight, log_in: LogIn, names: Collection[str]) -> web.Application:
    """Return the application of the page and of what programs read.

    `names`: the host names and addresses under which it may be opened, besides those that it listens on.
    """
    log = DoorLog(Counter())
    made = _application(
        log,
        [
            guard.only_ours(names, log, http.for_all(sight.config)),
            guard.errors_in_words(log),
            guard.only_logged_in(log),
        ],
        sight,
    )
    static = StaticFiles()
    made[DESK] = PairingDesk(sight)
    made.on_cleanup.append(made[DESK].close)
    made[LOG_IN], made[STATIC], made[TEMPLATES] = log_in, static, environment(static)

    def answer(method: str, path: str, handler: Handler) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request, sight)

        made.router.add_route(method, path, handle)

    for page in PAGES:
        answer("GET", page.path, page.handle)
        if page.forms:
            answer("POST", page.path, page.handle)
    live = Live()
    answer("GET", "/live", live.answer)
    answer("GET", "/live/log", live.answer_log)
    answer("GET", "/api/snapshot", api.snapshot)
    answer("GET", "/api/events", api.events)
    answer("GET", "/api/openapi.json", api.document)
    made.router.add_get("/static/{digest}/{name:.+}", static.answer)
    made.router.add_get(addresses.LOG_IN, entrance.show)
    made.router.add_post(addresses.LOG_IN, entrance.submit)
    made.router.add_post("/log-out", entrance.leave)
    return made


def bare_application(sight: Sight, names: Collection[str] = ()) -> web.Application:
    """Return the application for a gateway without page: health and metrics only."""
    log = DoorLog(Counter())
    return _application(log, [guard.only_ours(names, log, http.for_all(sight.config))], sight)


def _application(log: DoorLog, middlewares: list[Middleware], sight: Sight) -> web.Application:
    made = web.Application(client_max_size=tuning.FORM_MAX, middlewares=middlewares)
    made.on_response_prepare.append(guard.add_headers)
    made[LOG] = log
    made.add_routes(http.routes(sight))
    return made
