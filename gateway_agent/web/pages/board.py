"""The page of one board: its groups, its session, what happened to it."""

from aiohttp import web

from gateway_agent.observe.plain import plain
from gateway_agent.observe.sight import Sight
from gateway_agent.web.pages import frame

_HISTORY = 100


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the board that the query names."""
    snapshot = sight.snapshot()
    board = snapshot.board(request.query.get("pne", ""))
    if board is None:
        frame.missing("board")
    groups = {each.sg_id: each for each in snapshot.groups}
    history = [each for each in map(plain, reversed(sight.stream.recent())) if _concerns(each, board.pne_id)]
    return await frame.show(
        request,
        sight,
        "board.html",
        snapshot=snapshot,
        board=board,
        memberships=[(groups[each.sg_id], each) for each in board.memberships],
        history=history[:_HISTORY],
    )


def _concerns(event: dict[str, object], pne_id: str) -> bool:
    missing = event.get("missing")
    return event.get("pne_id") == pne_id or (isinstance(missing, list) and pne_id in missing)
