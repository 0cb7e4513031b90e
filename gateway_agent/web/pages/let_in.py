"""The page that lets a board in: by the secret that it shows, or with a label for one on a cable."""

from http import HTTPStatus
from typing import Any, NamedTuple

import segno
from aiohttp import web
from markupsafe import Markup

from cpns import name_rule
from cpns.errors import NotAllowed
from gateway_agent import pairing_secret
from gateway_agent.observe.sight import Sight
from gateway_agent.web.log_in import asked_by_page
from gateway_agent.web.pages import frame
from gateway_agent.web.pages.pairing_desk import DESK
from gateway_agent.web.render import see_other


class _Waiting(NamedTuple):
    """The pairing that goes on. `is_ours`: the page has begun it and can stop it."""

    pne_id: str
    until: float
    is_ours: bool


class _Label(NamedTuple):
    """What is printed for a board: the code as SVG, the name, and the secret in fours."""

    code: Markup
    name: str
    secret: str


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the forms, or the pairing that goes on; begin or stop one; or make a label."""
    if request.method != "POST":
        return await _show(request, sight)
    fields = {name: str(value).strip() for name, value in (await request.post()).items()}
    do, pne_id, secret = (fields.get(name, "") for name in ("do", "pne", "secret"))
    desk = request.app[DESK]
    if do == "label":
        return await _label(request, sight, pne_id, secret)
    if do == "stop":
        await desk.stop()
    elif do == "pair":
        try:
            pairing_secret.octets(secret)
        except NotAllowed as error:
            return await _show(request, sight, problem=_sentence(error), typed=pne_id)
        await desk.begin(pne_id, secret, replace="replace" in fields, by=asked_by_page(request))
    else:
        raise web.HTTPBadRequest
    see_other("/let-in")


async def _show(request: web.Request, sight: Sight, **said: Any) -> web.Response:
    snapshot = sight.snapshot()
    desk, pairing = request.app[DESK], snapshot.pairing
    waiting = None if pairing is None else _Waiting(pairing.pne_id, pairing.until, desk.is_waiting)
    texts = {"problem": "", "typed": "", "label": None, "label_problem": ""} | said
    status = HTTPStatus.CONFLICT if texts["problem"] or texts["label_problem"] else HTTPStatus.OK
    return await frame.show(
        request, sight, "let_in.html", status=status, snapshot=snapshot, waiting=waiting, ended=desk.ended, **texts
    )


async def _label(request: web.Request, sight: Sight, pne_id: str, secret: str) -> web.Response:
    try:
        pairing_secret.octets(secret)
    except NotAllowed as error:
        return await _show(request, sight, label_problem=_sentence(error))
    if wrong := name_rule.fault(pne_id):
        return await _show(request, sight, label_problem=f"The PNE ID {wrong}.")
    characters = pairing_secret.characters(secret)
    code = segno.make(pairing_secret.qr_text(pne_id, characters), micro=False)
    drawn = Markup(code.svg_inline(border=2, omitsize=True, title=f"Code of {pne_id}"))
    return await _show(request, sight, label=_Label(drawn, pne_id, pairing_secret.in_fours(characters)))


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
