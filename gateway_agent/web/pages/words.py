"""Sentences and figures as pages show them. Templates know this module as `words`."""

import datetime
from urllib.parse import urlencode

from cpns import delivery_report
from gateway_agent.machine_watch import is_yet_to_come
from gateway_agent.observe.snapshot import BoardView, DeliveryView, MemberView, ServiceGroupView, Snapshot

_LINKS = {
    delivery_report.UNICAST: "its session",
    delivery_report.WIFI: "Wi-Fi",
    delivery_report.BLE: "Bluetooth",
    delivery_report.END_TO_END: "its session, end-to-end",
    "udp": "Wi-Fi",
    "gatt": "Bluetooth",
    "mqtt": "MQTT",
}
_SILENT_S = 2 * 86400
"""After this a board counts as silent: each one asks for its keys once a day at least."""


def ago(seconds: float) -> str:
    """Return a time span for a person: "12 s ago", "5 min ago", "3 h ago", "9 days ago"; live.js has the same words."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def iso(unix: float) -> str:
    """Return a moment (Unix seconds) for programs: "2026-07-01T18:30:00+00:00"."""
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC).isoformat()


def local(unix: float) -> str:
    """Return a moment (Unix seconds) by the clock of this machine: "2026-07-01 20:30:00"."""
    return datetime.datetime.fromtimestamp(int(unix), datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(seconds: float) -> str:
    """Return the rest of a time as "4:07"."""
    left = max(0, round(seconds))
    return f"{left // 60}:{left % 60:02}"


def link(word: str) -> str:
    """Return how a person calls a link; a word of a later release is shown as it is."""
    return _LINKS.get(word, word or "a link that is not known")


def count(number: int, thing: str) -> str:
    """Return "1 board" or "7 boards"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def times(tries: int) -> str:
    """Return "1 try" or "2 tries"."""
    return "1 try" if tries == 1 else f"{tries} tries"


def with_page(query: list[tuple[str, str]], page: int) -> str:
    """Return the query of another page of the same list."""
    return "?" + urlencode([(name, value) for name, value in query if name != "page"] + [("page", str(page))])


def outstanding(group: ServiceGroupView, member: MemberView) -> str:
    """Return where the newest key of a group is for a member that has not confirmed it."""
    if not group.version:
        return "the group has no key yet"
    if member.state == "unreachable":
        return f"{group.version_text} did not reach it"
    if group.held or group.waiting:
        return f"{group.version_text} is not sent to it: the group waits"
    return f"{group.version_text} is on its way, not confirmed yet"


def remark(group: ServiceGroupView) -> str:
    """Return what a person should know of a group, "" for nothing."""
    if group.held:
        return f"held until a person has looked at its members: keycast server confirm-members {group.sg_id}"
    if group.exposed:
        return "a board that is no member any more knows this key; a new one is due"
    return "waits for a new key" if group.waiting else ""


def delivery(of: DeliveryView) -> str:
    """Return how a delivery went: "6 of 7 in 1 s"."""
    ended = f" in {_span(of)}" if of.ended_at and of.began_at else ""
    return f"{of.confirmed} of {of.members}{ended}"


def took(of: DeliveryView, now: float) -> str:
    """Return how long a delivery took, or where it stands."""
    if of.phase == "waiting":
        return "waits"
    if of.ended_at and of.began_at:
        return _span(of)
    if of.phase == "running" and of.began_at:
        return f"under way for {max(0, int(now - of.began_at))} s"
    return "a newer version came first" if of.phase == "superseded" else "not known"


def _span(of: DeliveryView) -> str:
    seconds = of.ended_at - of.began_at
    return f"{seconds} s" if seconds > 0 else "less than 1 s"


def software(board: BoardView) -> str:
    """Return what a board runs, and what it does about updates if it does anything: "version 1.2, update 5"."""
    parts = [f"version {board.software}"] if board.software else []
    if (update := board.update) is not None:
        parts += [f"update {update.agent_number}"] if update.agent_number else []
        parts += [f"firmware {update.firmware_number}"] if update.firmware_number else []
        if update.offered_number and not update.reason:
            missing = f": {count(update.missing_count, 'piece')} missing" if update.missing_count else ""
            parts += ["an update is offered" if update.state == "idle" else f"{update.text}{missing}"]
    return ", ".join(parts)


def failed_update(board: BoardView) -> str:
    """Return from which update a board went back, or which it refused, and why; "" for none."""
    update = board.update
    return f"{update.text}, because {update.reason}" if update is not None and update.reason else ""


def is_behind(board: BoardView, versions: dict[str, int]) -> bool:
    """Return True if a person should look at a board. `versions`: the newest one of each group."""
    is_silent = board.age_s is not None and board.age_s > _SILENT_S
    if board.held or is_silent or failed_update(board):
        return True
    return any(each.version != versions[each.sg_id] for each in board.memberships)


def summary(snapshot: Snapshot) -> str:
    """Return the state of the home in one sentence."""
    if snapshot.alarms:
        return f"{count(len(snapshot.alarms), 'alarm')}: something needs you"
    if snapshot.stopped or snapshot.withholds_keys:
        return "No keys go out now"
    open_ = sum(len(each.members) - each.confirmed for each in snapshot.groups if each.version)
    if open_:
        return f"No alarm. {count(open_, 'confirmation')} still to come"
    if not any(each.members for each in snapshot.groups):
        return "No alarm. No board is in a group yet"
    return "No alarm. Every board has confirmed its newest keys"


def boards(snapshot: Snapshot) -> str:
    """Return how many boards there are, and how many have a session."""
    sessions = sum(board.session for board in snapshot.boards)
    return f"{count(len(snapshot.boards), 'board')} let in, {sessions} with a session"


def ways(snapshot: Snapshot) -> str:
    """Return where boards reach the gateway, where keys go, and where the CPNS Server is."""
    keys = ", ".join(f"{each.interface} ({each.broadcast})" for each in snapshot.networks if not each.problem)
    reach = ", ".join(snapshot.addresses)
    sentences = [f"Boards reach it at {reach}."] if reach else []
    sentences.append(f"Keys go out on {keys}." if keys else "Keys go out on no network.")
    uplink = snapshot.uplink
    if uplink.kind == "embedded":
        sentences.append("The CPNS Server is in this gateway.")
    else:
        heard = "has not answered yet" if uplink.age_s is None else f"answered {ago(uplink.age_s)}"
        sentences.append(f"The CPNS Server {uplink.server_id} {heard}.")
    kept = snapshot.backed_up_at
    if is_yet_to_come(kept, snapshot.at):
        sentences.append(f"The last backup is dated {local(kept)}, which is yet to come.")
    else:
        sentences.append(f"Last backup {ago(snapshot.at - kept)}." if kept else "No backup is known.")
    return " ".join(sentences)


def remarks(snapshot: Snapshot) -> list[str]:
    """Return what a person should know besides the alarms."""
    found = []
    if snapshot.stopped:
        found.append(f"Broadcasts are stopped: {snapshot.stopped}")
    if snapshot.withholds_keys:
        found.append("No key is given out until the CPNS Server answers.")
    found += [f"No keys go out on {each.interface}: {each.problem}" for each in snapshot.networks if each.problem]
    found += [f"No boards are heard on {each.interface}: {each.deaf}" for each in snapshot.networks if each.deaf]
    found += [f"Broker {each.url}: {each.problem}" for each in snapshot.brokers if each.problem]
    return found
