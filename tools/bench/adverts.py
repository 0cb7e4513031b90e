"""Group Keys as Bluetooth LE adverts: what they cost a board, how many must be sent, and how soon all boards have one.

The number of adverts comes from simulated losses (`ble_codes`), the times with it from the pace of each sender. What a
board does is measured in the MicroPython VM. The 95th percentile of all sizes is drawn in `build/adverts.svg`.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keycast.micropython_vm.vm import NoVm
from tools import PROJECT
from tools.bench import advert_steps
from tools.bench.ble_codes import (
    CODES,
    EVENT_S,
    LOSSES,
    Heard,
    Loss,
    percentile,
    reed_solomon,
    repetition,
    sent_until_decoded,
    until_the_last,
)
from tools.bench.curves import chart
from tools.bench.rows import Line, Row, Skipped, Tell

PICTURE = PROJECT / "build" / "adverts.svg"
SMALL, LARGE = 6, 62  # adverts of an object with 1 and with 60 entries
LARGE_OCTETS = 1192
DRAWN = (6, 11, 20, 30, 45, 62, 72)
BOARDS, BOARDS_BESIDE, BOARDS_DRAWN = 20_000, 1_000, 200  # with our code, with others, in the picture
HOMES = (1, 8, 32, 256, 1024)

# Adverts sent until decoded, for each row of the object: (rows, losses) -> at most, for half and for 95 % of boards.
# That of 60 rows when 75 % are lost is of a code with rows without end; ours has 256 and needs 4.92.
TARGETS: dict[tuple[int, str], tuple[float | None, float | None]] = {
    (6, "10 % lost"): (1.00, 1.33),
    (6, "30 % lost"): (1.33, 2.00),
    (6, "50 % lost"): (2.00, 3.00),
    (6, "75 % lost"): (3.83, 6.67),
    (6, "30 % lost in bursts of 8"): (None, 4.5),
    (6, "half of each 102 ms heard"): (None, 2.9),
    (60, "10 % lost"): (1.10, 1.20),
    (60, "30 % lost"): (1.42, 1.60),
    (60, "50 % lost"): (2.00, 2.32),
    (60, "75 % lost"): (3.98, 4.77),
    (60, "30 % lost in bursts of 8"): (None, None),
    (60, "half of each 102 ms heard"): (None, 2.9),
}
# Seconds until the last of 1 and of 1,024 boards has the object: (rows, losses) -> at most
TARGETS_S = {
    (SMALL, "10 % lost"): (0.18, 0.31),
    (SMALL, "half of each 102 ms heard"): (0.35, 0.64),
    (LARGE, "10 % lost"): (1.9, 2.2),
    (LARGE, "half of each 102 ms heard"): (3.7, 4.4),
}

_UNICAST_S = 1.0  # to connect by GATT and to deliver one key
_DBUS_S = 0.2  # from payload to payload over D-Bus; each is on air in about 7 events meanwhile
_MESH_KBIT_S = 1.0  # Bluetooth Mesh BLOB transfer, under ideal conditions, by its own documentation
_MESH_SEGMENTS = 2  # of a NetKey Update: opcode 2, index 2, key 16, MIC 4 octets, 12 in a segment

_NOTE = f"{BOARDS:,} simulated boards, {BOARDS_BESIDE:,} for the peer"


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the costs of a board, the distribution of adverts beside other codes, and times; draw PICTURE."""
    yield from _board(tell)
    yield from _distribution(tell)
    yield from _times(tell)
    tell("the picture")
    draw()


def _board(tell: Tell) -> Iterator[Line]:
    tell("decoding in the VM")
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = advert_steps.measure(Path(folder))
    except NoVm as why:
        yield Skipped("adverts in the VM", str(why))
        return
    note = "quickest of 40, in the VM on this machine"
    yield Row("adverts VM: decode 6, all sources lost", found["decode_6"] / 1000, "ms", target=0.2, note=note)
    yield Row("adverts VM: decode 62, half lost", found["decode_62_half"] / 1000, "ms", target=5, note=note)
    yield Row("adverts VM: decode 62, all sources lost", found["decode_62"] / 1000, "ms", target=40, note=note)
    yield Row("adverts VM: open one advert", found["open"], "us", target=16, note=note)
    yield Row("adverts VM: rows of 62 adverts", found["rows"], "octets", target=4096, note="of the heap")
    yield Row("adverts VM: heap growth over 10,000 adverts", found["growth"], "octets", target=0)


def _distribution(tell: Tell) -> Iterator[Line]:
    for k in (6, 60):
        for losses, loss in LOSSES.items():
            tell(f"{k} adverts, {losses}")
            ours = sent_until_decoded(reed_solomon, k, loss, BOARDS)
            beside = {
                name: sent_until_decoded(code, k, loss, BOARDS_BESIDE)
                for name, code in CODES.items()
                if code is not reed_solomon
            }
            half, most = TARGETS[k, losses]
            for share, target, peers in ((0.5, half, ["GF(2)"]), (0.95, most, list(beside))):
                name = f"adverts sent, {k} needed, {losses}: until {share:.0%} of boards have it"
                for peer in peers:
                    value, theirs = (round(percentile(sent, share) / k, 2) for sent in (ours, beside[peer]))
                    yield Row(name, value, f"times {k}", peer, theirs, target, _NOTE)


def _times(tell: Tell) -> Iterator[Line]:
    for (k, losses), (first, last) in TARGETS_S.items():
        tell(f"times of {k} adverts, {losses}")
        loss = LOSSES[losses]
        ours = sent_until_decoded(reed_solomon, k, loss, BOARDS)
        targets = {HOMES[0]: first, HOMES[-1]: last}
        for boards in HOMES:
            name = f"{k} adverts, {losses}: last of {boards:,} boards"
            value = float(f"{until_the_last(ours, boards) * EVENT_S:.2g}")
            yield Row(name, value, "s", "GATT, one board after the other", boards * _UNICAST_S, targets.get(boards))
        repeated = sent_until_decoded(repetition, k, loss, BOARDS_BESIDE)
        for peer, theirs in (("repetition", repeated), ("adverts over D-Bus", _over_dbus(k, loss))):
            yield Row(name, value, "s", peer, until_the_last(theirs, boards) * EVENT_S, last)
    yield Row(
        "one of 1,024 leaves: adverts that bring the others a new key",
        SMALL,
        "adverts",
        "Bluetooth Mesh key refresh, new key to each remaining node",
        _MESH_SEGMENTS * 1023,
        SMALL,
        "without what is lost; theirs without acknowledgements, and it goes on without nodes that sleep meanwhile; "
        "a board that has slept needs only the newest key",
    )
    for losses, target in (("10 % lost", 4.0), ("50 % lost", 2.0)):
        sent = sent_until_decoded(reed_solomon, LARGE, LOSSES[losses], BOARDS)
        seconds = until_the_last(sent, HOMES[-1]) * EVENT_S
        yield Row(
            f"to all of {HOMES[-1]:,} boards at once, {losses}",
            LARGE_OCTETS * 8 / 1000 / seconds,
            "kbit/s",
            "Bluetooth Mesh BLOB transfer, as documented",
            _MESH_KBIT_S,
            target,
            f"an object of {LARGE_OCTETS:,} octets; theirs under ideal conditions",
        )


def _over_dbus(k: int, loss: Loss) -> list[int]:
    """Return, in events, when boards have the object if a payload stays for several events and is heard in any."""
    events = round(_DBUS_S / EVENT_S)

    def heard(chance: random.Random) -> Heard:
        each = loss(chance)
        while True:
            yield sum(next(each) for _ in range(events)) > 0

    return [(sent - 1) * events + 1 for sent in sent_until_decoded(reed_solomon, k, heard, BOARDS_BESIDE)]


def draw(path: Path = PICTURE) -> None:
    """Write the chart: of each code the adverts sent until 95 % of the boards have the object, by size and losses."""
    panels = {
        losses: {
            name: [percentile(sent_until_decoded(code, k, loss, BOARDS_DRAWN), 0.95) / k for k in DRAWN]
            for name, code in CODES.items()
        }
        for losses, loss in LOSSES.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(chart(panels, DRAWN, "rows k of the object", "adverts sent / k, 95 % of boards"))
