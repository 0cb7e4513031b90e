"""`keycast group`: Service Groups at the CPNS Server, embedded in a gateway or on its own."""

from typing import Annotated, Any

import typer
from rich.table import Table

from tools.keycast.options import DEFAULT_CONFIG, ConfigOption, JsonOption, StateOption, ask, console, show_json

app = typer.Typer(no_args_is_help=True)

SgArgument = Annotated[str, typer.Argument(metavar="SG", help="SG ID of the Service Group.")]
PneArgument = Annotated[str, typer.Argument(metavar="PNE", help="PNE ID of the board.")]


@app.command()
def create(
    sg: SgArgument,
    open_to: Annotated[list[str] | None, typer.Option(help="PN whose boards may join; may be repeated.")] = None,
    listed: Annotated[bool, typer.Option("--listed", help="Only boards that are permitted one by one.")] = False,
    protection: Annotated[str | None, typer.Option(help="sealed or authenticated messages.")] = None,
    period: Annotated[int | None, typer.Option(help="Seconds between periodic updates of the key.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Create a Service Group and its first key.

    Example: keycast group create home/lights --open-to home
    """
    how = {"open_to": open_to or [], "policy": "listed" if listed else None, "protection": protection}
    view = ask(config, state, "group.create", sg_id=sg, period_s=period, **how)
    console.print(f"{view['sg_id']}: version {view['version_text']}")


@app.command("list")
def list_groups(config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None, as_json: JsonOption = False) -> None:
    """List the Service Groups.

    Example: keycast group list
    """
    views = ask(config, state, "group.list")
    if as_json:
        show_json(views)
        return
    table = Table("Service Group", "version", "members", "state", "join", "protection")
    for view in views:
        joined = sum(member["state"] == "member" for member in view["members"])
        protection = {1: "authenticated", 2: "sealed"}[view["protection"]]
        table.add_row(view["sg_id"], view["version_text"], str(joined), view["state"], view["policy"], protection)
    console.print(table)


@app.command()
def show(
    sg: SgArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Show members, versions and deliveries of a Service Group; never a key.

    Example: keycast group show home/lights
    """
    view = ask(config, state, "group.show", sg_id=sg)
    if as_json:
        show_json(view)
        return
    console.print(f"{view['sg_id']}: version {view['version_text']}, {view['state']}, join {view['policy']}")
    members = Table("PNE", "PN", "is", "confirmed", "last report")
    for member in view["members"]:
        confirmed = f"{member['confirmed'] >> 16}.{member['confirmed'] & 0xFFFF}" if member["confirmed"] else "-"
        members.add_row(member["pne_id"], member["pn_id"], member["state"], confirmed, member["report"])
    console.print(members)
    deliveries = Table("PN GW", "PN", "delivery", "wants", "has", "failures")
    for each in view["deliveries"]:
        deliveries.add_row(
            each["gateway_id"],
            each["pn_id"],
            each["state"],
            str(each["wanted_version"] & 0xFFFF),
            str(each["accepted_version"] & 0xFFFF),
            str(each["failures"]),
        )
    console.print(deliveries)


@app.command()
def expel(sg: SgArgument, pne: PneArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Throw a board out of a Service Group; the others get a new key that it cannot read.

    Example: keycast group expel home/lights lamp.porch
    """
    ask(config, state, "group.expel", sg_id=sg, pne_id=pne)
    console.print(f"{pne} is out of {sg}; a new key is on its way to the others.")
    console.print("It still knows the Wi-Fi password, if it was ever told: change that if it left your hands.")


@app.command("open")
def open_to(
    sg: SgArgument,
    pn: Annotated[str, typer.Argument(metavar="PN", help="PN whose boards may join.")],
    config: ConfigOption = DEFAULT_CONFIG,
    state: StateOption = None,
) -> None:
    """Open a Service Group to one more PN: to all its boards, or of a listed group to those that are permitted.

    Example: keycast group open home/lights cabin
    """
    ask(config, state, "group.open", sg_id=sg, pn_id=pn)
    console.print(f"{sg} is open to {pn}.")


@app.command()
def permit(sg: SgArgument, pne: PneArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Let a board join: one of a listed group, or one that was expelled before.

    Example: keycast group permit home/lights lamp.porch
    """
    ask(config, state, "group.permit", sg_id=sg, pne_id=pne)
    console.print(f"{pne} may join {sg}.")


@app.command()
def update(sg: SgArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Start an update of the Group Key by hand. The key itself is drawn by the CPNS Server, never typed.

    Example: keycast group update home/lights
    """
    version: Any = ask(config, state, "group.update", sg_id=sg)
    console.print(f"{sg}: version {version >> 16}.{version & 0xFFFF} is on its way.")


@app.command()
def delete(sg: SgArgument, config: ConfigOption = DEFAULT_CONFIG, state: StateOption = None) -> None:
    """Delete a Service Group and its keys everywhere.

    Example: keycast group delete home/lights
    """
    ask(config, state, "group.delete", sg_id=sg)
    console.print(f"{sg} is deleted.")
