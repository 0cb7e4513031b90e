"""The page of one group: members, versions, deliveries, and what a person can do with it."""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from cpns.errors import CpnsError
from gateway_agent.errors import GatewayError
from gateway_agent.observe.sight import Sight
from gateway_agent.observe.snapshot import ServiceGroupView, Snapshot
from gateway_agent.web.log_in import asked_by_page
from gateway_agent.web.pages import frame, words
from gateway_agent.web.render import see_other
from message_plane.errors import PlaneError

_NAMES_MAX = 200
"""Boards that the browser offers while a person types a name."""


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the group that the query names, ask before something final, or carry out what a form says."""
    snapshot = sight.snapshot()
    group = snapshot.group(request.query.get("sg", ""))
    if group is None:
        frame.missing("group")
    if request.method == "POST":
        return await _act(request, sight, snapshot, group)
    ask, pne_id = request.query.get("ask", ""), request.query.get("pne", "")
    if ask == "expel" and pne_id:
        return await _question(request, sight, snapshot, group, "expel", pne_id)
    if ask == "delete":
        return await _question(request, sight, snapshot, group, "delete", "")
    return await _show(request, sight, snapshot, group)


async def _show(
    request: web.Request,
    sight: Sight,
    snapshot: Snapshot,
    group: ServiceGroupView,
    *,
    problem: str = "",
    typed: str = "",
) -> web.Response:
    members = sorted(group.members, key=lambda each: (each.version == group.version, each.pne_id))
    piece = frame.piece(request, members)
    inside = {each.pne_id for each in members}
    others = [board.pne_id for board in snapshot.boards if board.pne_id not in inside][:_NAMES_MAX]
    return await frame.show(
        request,
        sight,
        "group.html",
        status=HTTPStatus.CONFLICT if problem else HTTPStatus.OK,
        snapshot=snapshot,
        group=group,
        members=piece.rows,
        page=piece.page,
        last_page=piece.last_page,
        first=piece.first,
        found=piece.found,
        request_query=[each for each in request.query.items() if each[0] == "sg"],
        others=others,
        steerable=snapshot.uplink.kind == "embedded",
        done=_done(request, group),
        problem=problem,
        typed=typed,
    )


async def _question(
    request: web.Request, sight: Sight, snapshot: Snapshot, group: ServiceGroupView, do: str, pne_id: str
) -> web.Response:
    sg_id = group.sg_id
    if do == "expel":
        title, yes = f"Expel {pne_id} from {sg_id}?", f"Expel {pne_id}"
        sentences = [
            f"{pne_id} keeps what it knows of the past; it reads nothing from now on.",
            f"The others get a new key at once. {pne_id} joins again only if it is permitted.",
        ]
    else:
        title, yes = f"Delete {sg_id}?", "Delete the group"
        boards = f" and on its {words.count(len(group.members), 'board')}" if group.members else ""
        sentences = [
            f"Its keys are erased here{boards}; what was sent under them cannot be read any more.",
            "This cannot be taken back.",
        ]
    how: dict[str, Any] = {"title": title, "sentences": sentences, "yes": yes, "do": do, "pne_id": pne_id}
    return await frame.show(request, sight, "question.html", snapshot=snapshot, sg_id=sg_id, **how)


async def _act(request: web.Request, sight: Sight, snapshot: Snapshot, group: ServiceGroupView) -> web.Response:
    fields = await request.post()
    do, pne_id = str(fields.get("do", "")), str(fields.get("pne", "")).strip()
    arguments = {"sg_id": group.sg_id} | ({"pne_id": pne_id} if do in ("permit", "expel") else {})
    if do not in ("update", "permit", "expel", "delete"):
        raise web.HTTPBadRequest
    try:
        await sight.command(f"group.{do}", by=asked_by_page(request), **arguments)
    except (GatewayError, CpnsError, PlaneError) as error:
        return await _show(request, sight, snapshot, group, problem=_sentence(error), typed=pne_id)
    if do == "delete":
        see_other("/")
    see_other("/group?" + urlencode({"sg": group.sg_id, "done": do} | ({"pne": pne_id} if pne_id else {})))


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:1].upper() + text[1:]


def _done(request: web.Request, group: ServiceGroupView) -> str:
    """Return what the form before has done: the sentence of a word in the query, so that a link cannot say anything."""
    pne_id = request.query.get("pne", "")
    is_member = any(each.pne_id == pne_id for each in group.members)
    match request.query.get("done", ""):
        case "update":
            return "A new key is on its way to all members."
        case "permit" if pne_id:
            return f"{pne_id} may join."
        case "expel" if pne_id and is_member:  # until the Server has told the gateway
            return f"{pne_id} is being expelled."
        case "expel" if pne_id:
            return f"{pne_id} is out; a new key is on its way to the others."
    return ""
