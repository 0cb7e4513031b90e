"""`keycast group`: make, show, change and delete Service Groups at a CPNS Server, in a gateway or on its own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cpns.in_words import version_text
from keycast.terminal import completion
from keycast.terminal.dates import local
from keycast.terminal.elsewhere import Elsewhere
from keycast.terminal.look_alikes import point_out
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, StateOption, answer, ask, console
from keycast.terminal.tables import show_table

app = typer.Typer(cls=Elsewhere, no_args_is_help=True)

NewSgArgument = Annotated[str, typer.Argument(metavar="SG", help="SG ID of the new Service Group.")]
SgArgument = Annotated[
    str, typer.Argument(metavar="SG", help="SG ID of the Service Group.", autocompletion=completion.groups)
]
BoardArgument = Annotated[
    str, typer.Argument(metavar="BOARD", help="Name of the board, its PNE ID.", autocompletion=completion.boards)
]
PeriodOption = Annotated[int | None, typer.Option(help="Seconds between periodic updates of the key, 0 = none.")]
RekeyOption = Annotated[
    bool | None,
    typer.Option("--rekey-on-join/--no-rekey-on-join", help="A newcomer gets a new key and cannot read the past."),
]


@app.command()
def create(
    sg: NewSgArgument,
    open_to: Annotated[list[str] | None, typer.Option(help="PN whose boards may join; may be repeated.")] = None,
    listed: Annotated[
        bool, typer.Option("--listed", help="Only boards may join that are permitted one by one: keycast group permit")
    ] = False,
    protection: Annotated[
        str | None, typer.Option(help="Protection of group messages: sealed (encrypted) or authenticated (readable).")
    ] = None,
    trust: Annotated[
        str | None, typer.Option(help="Trust: gateway (gateways know the key), end-to-end (they carry it unread).")
    ] = None,
    period: PeriodOption = None,
    rekey_on_join: RekeyOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Create a Service Group and its first key.

    Example: keycast group create home/lights --open-to home
    """
    how = {"open_to": open_to or [], "policy": "listed" if listed else None, "protection": protection, "trust": trust}
    point_out(sg, (view["sg_id"] for view in ask(config, state, "group.list")))
    view = ask(config, state, "group.create", sg_id=sg, period_s=period, rekey_on_join=rekey_on_join, **how)
    nobody = view["policy"] == "open" and not view["open_to"]
    hint = [f"No board may join it yet. Next: keycast group open {sg} PN"] if nobody else []
    trusted = ", end-to-end" if view["trust"] == "end-to-end" else ""  # also if the name was before, and nobody asked
    answer(view, f"{view['sg_id']}: version {view['version_text']}{trusted}", *hint)


@app.command("list")
def list_groups(config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """List the Service Groups.

    Example: keycast group list
    """
    views = ask(config, state, "group.list")
    answer(views, lambda: _show_list(views))


def _show_list(views: list[dict[str, Any]]) -> None:
    if not views:
        console.print("There is no Service Group. Make one: keycast group create SG_ID")
        return
    rows = []
    for view in views:
        joined = sum(member["state"] == "member" for member in view["members"])
        rows.append(
            (
                view["sg_id"],
                view["version_text"],
                str(joined),
                view["state"],
                view["policy"],
                view["protection"],
                view["trust"],
            )
        )
    show_table(console, ("Service Group", "version", "members", "state", "join", "protection", "trust"), rows)


@app.command()
def show(sg: SgArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Show members, versions and deliveries of a Service Group; never a key.

    Example: keycast group show home/lights
    """
    view = ask(config, state, "group.show", sg_id=sg)
    answer(view, lambda: _show(view))


def _show(view: dict[str, Any]) -> None:
    how = f"join {view['policy']}, trust {view['trust']}"
    console.print(f"{view['sg_id']}: version {view['version_text']}, {view['state']}, {how}")
    console.print(f"newest key made {local(view['key_made_at'])}")
    members = [
        (
            each["pne_id"],
            each["pn_id"],
            each["state"],
            local(each["since"]),
            version_text(each["confirmed"]),
            each["link"],
            local(each["confirmed_at"]),
            _last_report(each, view["version"]),
            str(each["tries"] or ""),
        )
        for each in view["members"]
    ]
    head = ("board", "PN", "state", "since", "confirmed", "by", "at", "last report", "tries")
    if members:
        show_table(console, head, members)
    else:
        console.print("No board is in it.")
    deliveries = [
        (
            each["gateway_id"],
            each["pn_id"],
            each["state"],
            version_text(each["wanted_version"]),
            version_text(each["accepted_version"]),
            str(each["failures"]),
        )
        for each in view["deliveries"]
    ]
    if deliveries:
        show_table(console, ("PN GW", "PN", "delivery", "wants", "has", "failures"), deliveries)
    if view["trust"] == "end-to-end":
        _show_pne_deliveries(view["pne_deliveries"])


def _last_report(member: dict[str, Any], version: int) -> str:
    """Return the last report of a member, "not confirmed" for one that is about an older version than the newest."""
    is_behind = member["state"] == "member" and member["confirmed"] < version
    return "not confirmed" if is_behind and member["report"] in ("", "confirmed") else str(member["report"])


def _show_pne_deliveries(deliveries: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["pne_id"],
            each["pn_id"],
            each["way"],
            each["state"],
            version_text(each["wanted_version"]),
            version_text(each["accepted_version"]),
            local(each["confirmed_at"]),
            str(each["tries"]),
            each["returned"],
        )
        for each in deliveries
    ]
    show_table(console, ("board", "PN", "way", "delivery", "wants", "has", "proved", "tries", "return"), rows)


@app.command()
def expel(
    sg: SgArgument, board: BoardArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None
) -> None:
    """Throw a board out of a Service Group; the others get a new key that it cannot read.

    Example: keycast group expel home/lights lamp.porch
    """
    _point_out_member(config, state, sg, board)
    was = ask(config, state, "group.expel", sg_id=sg, pne_id=board)
    lines = [f"{board} was no member of {sg}, and may not join any more."]
    if was == "member":
        lines = [
            f"{board} is out of {sg}; a new key is on its way to the others.",
            "It still knows the Wi-Fi password, if it was ever told: change that if it left your hands.",
        ]
    answer({"sg_id": sg, "pne_id": board, "state": "expelled", "was": was}, *lines)


@app.command("open")
def open_to(
    sg: SgArgument,
    pn: Annotated[str, typer.Argument(metavar="PN", help="PN whose boards may join.")],
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Open a Service Group to one more PN: all its boards may join, or in a listed group those that are permitted.

    Example: keycast group open home/lights cabin
    """
    ask(config, state, "group.open", sg_id=sg, pn_id=pn)
    answer({"sg_id": sg, "pn_id": pn}, f"{sg} is open to {pn}.")


@app.command()
def permit(
    sg: SgArgument, board: BoardArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None
) -> None:
    """Let a board join a group that is listed, or a group from which it was expelled before.

    Example: keycast group permit home/lights lamp.porch
    """
    _point_out_member(config, state, sg, board)
    ask(config, state, "group.permit", sg_id=sg, pne_id=board)
    answer({"sg_id": sg, "pne_id": board, "state": "permitted"}, f"{board} may join {sg}.")


@app.command()
def policy(
    sg: SgArgument,
    period: PeriodOption = None,
    rekey_on_join: RekeyOption = None,
    batching: Annotated[
        float | None, typer.Option(help="Joins and leaves within this many seconds make one update.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Change how a Service Group is re-keyed, and show how it is; what you leave out stays.

    Example: keycast group policy home/lights --period 86400 --no-rekey-on-join
    """
    how = {"period_s": period, "rekey_on_join": rekey_on_join, "batching_s": batching}
    if all(each is None for each in how.values()):
        view = ask(config, state, "group.show", sg_id=sg)
    else:
        view = ask(config, state, "group.policy", sg_id=sg, **how)
    shown = {name: view[name] for name in ("sg_id", *how)}
    answer(shown, lambda: _show_policy(shown))


def _show_policy(policy: dict[str, Any]) -> None:
    period = f"every {policy['period_s']} s" if policy["period_s"] else "none"
    batching = "as the Server is configured" if policy["batching_s"] is None else f"{policy['batching_s']:g} s"
    console.print(f"{policy['sg_id']}: periodic updates {period}")
    console.print(f"new key when a board joins: {'yes' if policy['rekey_on_join'] else 'no'}")
    console.print(f"joins and leaves make one update within: {batching}")


@app.command()
def update(sg: SgArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Start an update of the Group Key by hand. The key itself is drawn by the CPNS Server, never typed.

    Example: keycast group update home/lights
    """
    version: int = ask(config, state, "group.update", sg_id=sg)
    text = version_text(version)
    answer({"sg_id": sg, "version": version, "version_text": text}, f"{sg}: version {text} is on its way.")


@app.command()
def delete(sg: SgArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Delete a Service Group and its keys everywhere.

    Example: keycast group delete home/lights
    """
    ask(config, state, "group.delete", sg_id=sg)
    answer({"sg_id": sg, "state": "deleted"}, f"{sg} is deleted.")


def _point_out_member(config: Path, state: Path | None, sg: str, board: str) -> None:
    """Point out boards of the group whose names look like that of `board`."""
    view = ask(config, state, "group.show", sg_id=sg)
    point_out(board, (member["pne_id"] for member in view["members"]))
