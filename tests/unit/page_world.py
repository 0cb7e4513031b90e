"""The page of a home that is made up: a snapshot as large as a test wants it, with no gateway behind it."""

import dataclasses
import time
from collections import Counter

from gateway_agent.config.load import load
from gateway_agent.core import events
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.figures import Figures
from gateway_agent.observe.health import HealthView
from gateway_agent.observe.log_lines import LogLines
from gateway_agent.observe.sight import Sight
from gateway_agent.observe.snapshot import (
    AlarmView,
    BoardView,
    DeliveryView,
    MemberView,
    NetworkView,
    ServiceGroupView,
    Snapshot,
    UplinkView,
)

HOSTILE = '<script>alert("x")</script>\u202egnp.exe'
"""A name with markup, and with a mark that turns the text after it around."""
ROOMS = ("hall", "kitchen", "porch", "garage", "attic", "cellar", "garden", "study")
STATIC_KINDS = ("lamp", "switch", "lock", "plug")


def board_name(number):
    """lamp.hall, lamp.kitchen, ... switch.hall, ..., then with numbers."""
    kind = STATIC_KINDS[number // len(ROOMS) % len(STATIC_KINDS)]
    again = number // (len(ROOMS) * len(STATIC_KINDS))
    return f"{kind}.{ROOMS[number % len(ROOMS)]}{again + 1 if again else ''}"


def snapshot(boards=12, groups=("home/lights", "home/locks"), *, hostile=False, alarmed=True):
    """A home in which most is well: one board was not reached, one key is on its way, one board was never heard."""
    now = int(time.time())
    names = [board_name(number) for number in range(boards)] + ([HOSTILE] if hostile else [])
    members = {
        sg_id: [_member(sg_id, name, place, now) for place, name in enumerate(names) if at == 0 or place % 3 == 0]
        for at, sg_id in enumerate(groups)
    }
    return Snapshot(
        at=now,
        event_number=0,
        version="0.1.0",
        started_at=now - 86400,
        gateway_id="gw.home",
        pn_id="home",
        pn_alias=1,
        uplink=UplinkView("embedded", "server", True, 0.0, ""),
        brokers=(),
        addresses=("192.168.1.10:5683",),
        networks=(
            NetworkView("wlan0", "192.168.1.255", 120, 0, "", False, ""),
            NetworkView("eth0", "10.0.0.255", 120, 0, "", False, ""),
        ),
        stopped="",
        withholds_keys=False,
        groups=tuple(_group(sg_id, of, now) for sg_id, of in members.items()),
        boards=tuple(_board(name, place, members, now) for place, name in enumerate(names)),
        alarms=(
            AlarmView(
                "network",
                "gw.home",
                "",
                now - 720,
                "No keys can be broadcast on wlan1: it has no IPv4 address. Give it one, or take it out of interfaces.",
            ),
        )
        if alarmed
        else (),
        held=(),
        pairing=None,
        counters={},
        commits=7,
        backed_up_at=now - 3 * 86400,
    )


def _member(sg_id, name, place, now):
    if place == 4:
        return MemberView(sg_id, name, "unreachable", 6, "0.6", "wifi", 1, now - 7200)
    if place == 7:
        return MemberView(sg_id, name, "sent", 0, "0.0", "", 0, 0)
    link = ("wifi", "wifi", "ble", "unicast")[place % 4]
    return MemberView(sg_id, name, "confirmed", 7, "0.7", link, 1 + place % 2, now - 12 - place)


def _group(sg_id, members, now):
    deliveries = tuple(
        DeliveryView(7 - at, f"0.{7 - at}", "finished" if at else "running", began, began, began + took if at else 0,
                     len(members), len(members) - (2 if at == 0 else 0), 1 if at == 0 else 0, len(members) // 2)
        for at, (began, took) in enumerate(
            [(now - 20, 0), (now - 7200, 2), (now - 90000, 1), (now - 180000, 4), (now - 280000, 1), (now - 360000, 2)]
        )
    )  # fmt: skip
    confirmed = sum(each.version == 7 for each in members)
    return ServiceGroupView(
        sg_id, 7, "0.7", "gateway", now - 20, confirmed, tuple(members), (), False, False, False, deliveries, ()
    )


def _board(name, place, members, now):
    heard = 0 if place == 7 else now - (12, 300, 11000, 190000)[place % 4]
    own = tuple(each for of in members.values() for each in of if each.pne_id == name)
    return BoardView(
        name, place != 7, heard, now - heard if heard else None, ("udp", "gatt")[place % 2] if heard else "",
        f"192.168.1.{20 + place}:5683" if heard else "", "0.1.0" if heard else "", place == 9, own,
    )  # fmt: skip


def happened(stream):
    """Tell a few events, one of them a warning."""
    stream(events.Paired("lamp.porch"))
    stream(events.Joined("lamp.porch", "home/lights"))
    stream(events.KeyArrived("home/lights", 7, 1))
    stream(events.KeyDelivered("home/lights", 7, 10, 12, 6, 1.2, ("lamp.attic", "lamp.study")))
    stream(events.Held("switch.kitchen"))
    stream(events.Left(HOSTILE, "home/lights"))


class MadeUp:
    """A made-up gateway: `shown` is its snapshot, `asked` the commands that came, `answers` what they return."""

    def __init__(self, folder, shown):
        self.shown = shown
        self.asked = []
        self.answers = {}
        self.stream = EventStream()
        self.log_lines = LogLines()
        path = folder / "keycast.toml"
        path.write_text(
            '[gateway]\nid = "gw.home"\npn = "home"\nstate_dir = "state"\n\n[delivery]\nunicast_up_to = 3\n'
        )
        path.with_name("state").mkdir(mode=0o700, exist_ok=True)
        names = ("update", "permit", "expel", "delete")
        commands = {f"group.{name}": self._command(f"group.{name}") for name in names}
        commands |= {name: self._command(name) for name in ("board.pair", "board.list")}
        self.sight = Sight(
            config=load(path),
            config_path=path,
            stream=self.stream,
            snapshot=lambda: dataclasses.replace(self.shown, at=int(time.time())),
            figures=lambda: Figures("0.1.0", (), {}, True, {}, 0, {}),
            health=lambda: HealthView((), (), 0.0),
            set_alarm=lambda kind, text, about="": None,
            counters=Counter(),
            commands=commands,
            log_lines=self.log_lines,
        )

    def _command(self, name):
        async def command(**arguments):
            self.asked.append((name, arguments))
            answer = self.answers.get(name)
            if callable(answer):
                answer = await answer(**arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return command
