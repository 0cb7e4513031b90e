"""The GMS over HTTPS, for users: authorisation, affiliation, subscription, notifications and their answers.

| Request | Meaning |
|---|---|
| POST /gms/v1/authorisation | authorise the user for group management services |
| PUT, DELETE /gms/v1/groups/{group}/affiliation | the user takes part in the group; the user leaves it |
| PUT /gms/v1/groups/{group}/subscription | subscribe to updates of the group |
| GET /gms/v1/notifications?wait=25 | *Notify group configuration requests*, as soon as there are some; 204: none |
| POST /gms/v1/responses | a *Notify group configuration response*, or an error |

Bodies are those of `mikey_sakke.group_configuration`; {group} is the percent-encoded URI.
"""

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web

from key_servers.errors import NotPossible
from key_servers.gms import tuning
from key_servers.gms.courier import NoticeCourier, ResponseRefused
from key_servers.gms.management import GroupManagement, NotPermitted
from key_servers.https.door import body
from key_servers.https.json_door import JsonDoor, json_body, wait_s
from mikey_sakke.group_configuration import decode_response, encode_requests

ROOT_PATH = "/gms/v1/"


def door(
    management: GroupManagement, courier: NoticeCourier, clock: Callable[[], int], counters: Counter[str]
) -> JsonDoor:
    """Return the users' door of a GMS, not yet open."""
    made = JsonDoor(
        management.token,
        clock,
        {
            NotPermitted: HTTPStatus.FORBIDDEN,
            NotPossible: HTTPStatus.NOT_FOUND,
            ResponseRefused: HTTPStatus.CONFLICT,
        },
        counters,
        "gms",
    )

    async def authorise(user: str, request: web.Request) -> web.Response:
        return web.json_response({"until": await management.authorise(user)})

    async def affiliate(user: str, request: web.Request) -> web.Response:
        await management.affiliate(user, request.match_info["group"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def leave(user: str, request: web.Request) -> web.Response:
        await management.leave(user, request.match_info["group"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def subscribe(user: str, request: web.Request) -> web.Response:
        await management.subscribe(user, request.match_info["group"])
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def notifications(user: str, request: web.Request) -> web.Response:
        found = await courier.fetch(user, wait_s(request, tuning.LONG_POLL_MAX_S))
        return json_body(encode_requests(found)) if found else web.Response(status=HTTPStatus.NO_CONTENT)

    async def responses(user: str, request: web.Request) -> web.Response:
        await courier.answered(user, decode_response(await body(request)))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    made.answer("POST", f"{ROOT_PATH}authorisation", authorise)
    made.answer("PUT", f"{ROOT_PATH}groups/{{group}}/affiliation", affiliate)
    made.answer("DELETE", f"{ROOT_PATH}groups/{{group}}/affiliation", leave)
    made.answer("PUT", f"{ROOT_PATH}groups/{{group}}/subscription", subscribe)
    made.answer("GET", f"{ROOT_PATH}notifications", notifications)
    made.answer("POST", f"{ROOT_PATH}responses", responses)
    return made
