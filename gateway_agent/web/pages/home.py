"""The first page: alarms, groups with their keys, boards with what they have confirmed."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway_agent.observe.sight import Sight
from gateway_agent.observe.snapshot import BoardView, ServiceGroupView
from gateway_agent.web.pages import frame, words

_GROUPS_SHOWN = 12
_OUTSTANDING_SHOWN = 2
"""Keys that a board has not confirmed and that stand in its row; its own page has all."""


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the home. The query may name a part of a board's name (`find`), `look` for those behind, and a page."""
    snapshot = sight.snapshot()
    groups = {each.sg_id: each for each in snapshot.groups}
    versions = {each.sg_id: each.version for each in snapshot.groups}
    find, look = request.query.get("find", "").strip(), request.query.get("look", "")
    found = [
        board
        for board in snapshot.boards
        if find.casefold() in board.pne_id.casefold() and (not look or words.is_behind(board, versions))
    ]
    piece = frame.piece(request, found)
    rows = [_row(board, groups) for board in piece.rows]
    shown_groups = snapshot.groups if "all" in request.query else snapshot.groups[:_GROUPS_SHOWN]
    return await frame.show(
        request,
        sight,
        "home.html",
        snapshot=snapshot,
        remarks=words.remarks(snapshot),
        groups_shown=shown_groups,
        boards=rows,
        per_page=frame.PER_PAGE,
        find=find,
        look=look,
        request_query=list(request.query.items()),
        **_numbers(piece),
    )


def _row(board: BoardView, groups: Mapping[str, ServiceGroupView]) -> dict[str, Any]:
    """Return what stands in the row of a board: the keys that it has not confirmed, or the one it confirmed last."""
    pairs = [(groups[each.sg_id], each) for each in board.memberships]
    outstanding = [(group, member) for group, member in pairs if member.version != group.version]
    newest = sorted(pairs, key=lambda pair: -pair[1].confirmed_at)
    shown = outstanding[:_OUTSTANDING_SHOWN] or newest[:1]
    others = words.count(len(pairs) - len(shown), "other group")
    rest = f"not confirmed in all of {others}" if len(outstanding) > len(shown) else f"confirmed in {others}, too"
    return {"board": board, "shown": shown, "more": len(pairs) > 1, "rest": rest if len(pairs) > len(shown) else ""}


def _numbers(piece: frame.Piece) -> dict[str, Any]:
    return {"page": piece.page, "last_page": piece.last_page, "first": piece.first, "found": piece.found}
