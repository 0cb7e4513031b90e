"""`keycast status`: show what a running gateway sees and does."""

import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from keycast.terminal.dates import ago, begun, local
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, console, sentences
from keycast.terminal.tables import show_table

LIVES_WITHIN_S = 2.0
_NAMED_MAX = 8  # boards in one line


def command(
    config: ConfigOption = DEFAULT_CONFIG,
    health: Annotated[
        bool, typer.Option("--health", help="Say only whether it lives and is ready, and why not.")
    ] = False,
) -> None:
    """Show groups, versions, deliveries, boards, networks, alarms and counters of the running gateway.

    The exit code is 2 if broadcasts are stopped, an alarm stands, or a group waits for a key or for a person; with
    --health if the gateway does not live or is not ready.

    Examples: keycast status, keycast status --health
    """
    if health:
        _health(config)
        return
    state = ask(config, None, "status")
    answer(state, lambda: _show(state))
    if state["stopped"] or state["alarms"] or state["held"] or any(group["waiting"] for group in state["groups"]):
        raise typer.Exit(2)


def _health(config: Path) -> None:
    """Show what `/health/live` and `/health/ready` answer. A gateway that says nothing in two seconds does not live."""
    from gateway_agent.config.load import load
    from gateway_agent.control_client import ask as over_socket

    with sentences():
        try:
            told = over_socket(load(config).gateway.state_dir, "health", "keycast gateway run", LIVES_WITHIN_S)
        except TimeoutError:
            reason = f"the gateway does not answer within {LIVES_WITHIN_S:.0f} s"
            told = {"live": False, "ready": False, "reasons": [reason]}
    words = [f"{'' if told[each] else 'not '}{each}" for each in ("live", "ready")]
    answer(told, f"{', '.join(words)}{''.join(f'; {reason}' for reason in told['reasons'])}")
    if not (told["live"] and told["ready"]):
        raise typer.Exit(2)


def show_brokers(brokers: list[dict[str, Any]]) -> None:
    """Show each broker: since when it is connected or not, and what is wrong with it."""
    for each in brokers:
        since = f"since {local(each['since'])}"
        if each["connected"]:
            console.print(f"broker {each['url']}: connected {since}{_but(each)}")
        elif each["problem"]:
            console.print(f"broker {each['url']}: not connected {since}{_but(each)}")
        else:
            console.print(f"broker {each['url']}: not connected, not needed now")


def _but(broker: dict[str, Any]) -> str:
    """Return what is wrong with a broker, after its URL; "" for nothing."""
    problem = broker["problem"].replace(f"the broker {broker['url']} ", "it ", 1)
    return f": {problem}" if problem else ""


def _is_silent(board: dict[str, Any]) -> bool:
    """Return True for a board that was not heard for two days: each asks for its keys once a day at least.

    A board that was never heard does not count as silent: it may not be installed yet.
    """
    return board["age_s"] is not None and board["age_s"] > 2 * 86400


def _carried_states(group: dict[str, Any]) -> Counter[str]:
    """Return how many of the boards of an end-to-end group are in each state."""
    return Counter(each["state"] for each in sorted(group["carried"], key=lambda each: str(each["state"])))


def _show_carried(groups: list[dict[str, Any]]) -> None:
    """Show what the gateway has carried to each board of each end-to-end group since its start."""
    rows = []
    for group in groups:
        for each in group["carried"]:
            how = (each["state"], str(each["try_count"]), each["returned"], local(each["changed_at"]))
            rows.append((group["sg_id"], each["pne_id"], each["version_text"], *how))
    if rows:
        show_table(console, ("end-to-end", "board", "version", "state", "tries", "Return", "since"), rows)


def _uplink(state: dict[str, Any]) -> str:
    """Return where the CPNS Server is, and when it was heard: it is asked every quarter of an hour."""
    if state["uplink"] == "embedded":
        return "the CPNS Server is in it"
    heard = "has not answered yet" if state["server_age_s"] is None else f"answered {ago(state['server_age_s'])}"
    problem = f" ({state['server_problem']})" if state["server_problem"] else ""
    return f"the CPNS Server (uplink {state['uplink']}) {heard}{problem}"


def _show(state: dict[str, Any]) -> None:
    sessions = sum(board["session"] for board in state["devices"])
    console.print(f"{state['gateway_id']} serves {state['pn_id']}, {_uplink(state)}")
    show_brokers(state["brokers"])
    keys = [f"{each['interface']} {each['broadcast']}" for each in state["networks"] if not each["problem"]]
    where = ", ".join(state["addresses"]) or "no address"
    console.print(f"boards reach it at {where}; keys go to {', '.join(keys) or 'no network'}")
    for network in state["networks"]:
        problem = f"; no keys go out on it: {network['problem']}" if network["problem"] else ""
        deaf = f"; no boards are heard on it: {network['deaf']}" if network["deaf"] and not network["problem"] else ""
        sent = f"{network['sent']} broadcasts sent, {network['failed']} failed"
        console.print(f"{network['interface']}: {sent}{problem}{deaf}")
    console.print(f"let in: {len(state['devices'])}, with a session: {sessions}")
    if state["backed_up_at"]:
        console.print(f"last backup: {_made(state['backed_up_at'])}")
    silent = [f"{each['pne_id']} ({ago(each['age_s'])})" for each in state["devices"] if _is_silent(each)]
    if silent:
        more = [f"and {len(silent) - _NAMED_MAX} more"] if len(silent) > _NAMED_MAX else []
        console.print(f"not heard for two days: {', '.join(silent[:_NAMED_MAX] + more)}")
    if state["stopped"]:
        console.print(Text.assemble(("stopped:", "red"), " ", state["stopped"]))
    if state["is_withholding"]:
        console.print(Text.assemble(("no key is given out", "red"), " until the CPNS Server answers (stale_after_s)"))
    for sg in state["held"]:
        console.print(
            Text.assemble(("held:", "red"), f" {sg}. Look at its members: keycast server confirm-members {sg}")
        )
    rows = []
    for group in state["groups"]:
        delivery = ", ".join(f"{each['member_count']} {each['state']}" for each in group["states"])
        remarks = ["end-to-end"] if group["trust"] == "end-to-end" else []
        remarks += ["exposed"] if group["exposed"] else ["waits for a key"] if group["waiting"] else []
        delivery = delivery or ", ".join(f"{count} {state}" for state, count in _carried_states(group).items())
        rows.append((group["sg_id"], group["version_text"], str(group["member_count"]), delivery, ", ".join(remarks)))
    if rows:
        show_table(console, ("Service Group", "version", "members", "newest delivery", "remark"), rows)
    if state["empty_sg_ids"]:
        console.print(f"no board is in: {', '.join(state['empty_sg_ids'])}")
    _show_carried(state["groups"])
    for alarm in state["alarms"]:
        console.print(Text.assemble(("alarm:", "red"), f" {begun(alarm['since'])}{alarm['text']}"))
    if state["counters"]:
        console.print("counted since it started:")
    for name, count in state["counters"].items():
        console.print(f"{count:8} {name}")


def _made(at: int) -> str:
    from gateway_agent.machine_watch import is_yet_to_come

    now = time.time()
    return f"dated {local(at)}, which is yet to come" if is_yet_to_come(at, now) else ago(max(0.0, now - at))
