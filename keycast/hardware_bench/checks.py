"""The checks that need a real board, as a table. docs/bench-checklist.md is made from it, `keycast bench hil` runs it.

Everything else about a board is tested without hardware: in the MicroPython VM, on a pseudo-terminal, with a simulated
boot ROM. What stands here was not run by that, and nothing of it is claimed until someone has run it.
"""

from dataclasses import dataclass

from keycast.hardware.board import Board


@dataclass(frozen=True)
class Check:
    """One check at the bench, for a board on the port PORT, of the file BOARD in `hw_configs/`.

    `do` says what the person does first. `command` is then run, with PORT, BOARD and IMAGE replaced, and must end with
    exit code 0; its first word is `keycast`, `esptool` or `mpremote`. Without a command the serial line is read. Each
    regular expression of `expect` must be found in a line, in this order, within `within_s` seconds. `ask` is a
    question that must be answered with yes, `measure` the unit of a number that the person reads from an instrument.
    `needs` names what the board must have, of `PARTS`.
    """

    name: str
    title: str
    minutes: int
    do: str
    command: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()
    within_s: int = 60
    ask: str = ""
    measure: str = ""
    needs: tuple[str, ...] = ()


PARTS = ("bridge", "native", "led", "boot button", "ble", "image")
"""What a check may need: a socket of that kind, a light, a BOOT button with a pin, a radio, a firmware image."""

_ESPTOOL = ("esptool", "--port", "PORT")
_START = "keycast: start"
_RUNNING = "keycast: running"
_HEAR = (
    "import bluetooth, time; ble = bluetooth.BLE(); ble.active(True); heard = []; "
    "ble.irq(lambda event, data: heard.append((time.ticks_ms(), bytes(data[4])[-24:])) "
    "if event == 5 and b'\\x1b\\xff\\xff\\xff' in bytes(data[4]) else None); "
    "ble.gap_scan(10000, 100000, 100000); time.sleep(11); "
    "gaps = sorted(time.ticks_diff(b[0], a[0]) for a, b in zip(heard, heard[1:])); "
    "print('interval', gaps[len(gaps) // 2] if gaps else 'unknown', 'adverts', len(heard), "
    "'payloads', len(set(each[1] for each in heard)))"
)
"""A program for a board: it prints what it hears of a gateway in ten seconds, with the company id 0xffff."""
_SWITCH = (
    "import bluetooth, time; ble = bluetooth.BLE(); ble.active(True); ble.irq(lambda event, data: None); "
    "ble.gap_scan(0, 100000, 100000); ble.gap_advertise(100000, bytes((2, 1, 6))); time.sleep(5); "
    "ble.active(False); ble.active(True); "
    'exec("try:\\n ended = ble.gap_disconnect(1)\\nexcept OSError as error:\\n ended = error.errno"); '
    "print('on again', ble.active(), ended)"
)
"""A program for a board: it switches Bluetooth off and on while adverts come in, and ends a connection that is none."""
_UPDATES = (
    "Stand beside the gateway, which has a section [ble], and let a second terminal run `keycast group update` for one "
    "of its groups again and again."
)

CHECKS = (
    Check(
        "auto-reset",
        "The tool gets the board into its boot loader without a hand on it",
        1,
        "Touch no button.",
        (*_ESPTOOL, "chip-id"),
        ("MAC:",),
    ),
    Check(
        "buttons",
        "The buttons lead into the boot loader, as the page of the board says",
        2,
        "Bring the board into its boot loader by its buttons: docs/boards.md says which.",
        (*_ESPTOOL, "--before", "no-reset", "chip-id"),
        ("MAC:",),
        needs=("boot button",),
    ),
    Check(
        "flash",
        "Firmware and files are written, and the board starts",
        5,
        "Press the reset button once if the board was left in its boot loader.",
        ("keycast", "board", "flash", "--port", "PORT", "--board", "BOARD", "--yes", "IMAGE"),
        within_s=300,
        needs=("image",),
    ),
    Check(
        "window",
        "After a reset the board waits for a tool before it starts the agent",
        1,
        "Press the reset button.",
        expect=(_START,),
        within_s=30,
    ),
    Check(
        "boot button",
        "A BOOT button that is held after the reset keeps the board in its REPL",
        1,
        "Press and release the reset button, and at once hold BOOT for three seconds.",
        expect=(_START, "keycast: waiting"),
        within_s=30,
        needs=("boot button",),
    ),
    Check(
        "usb comes back",
        "The port of the chip's own USB comes back after a reset",
        1,
        "Press the reset button; the port goes away and comes back, maybe under another name.",
        expect=(_START,),
        within_s=30,
        needs=("native",),
    ),
    Check(
        "first key",
        "A board that was provisioned over USB has its first Group Key",
        5,
        "In another terminal provision the board (keycast board provision NAME --wifi SSID), after that press Enter.",
        expect=(_RUNNING,),
        within_s=120,
        ask="Was it less than ten minutes since you took the board out of its bag?",
    ),
    Check(
        "wrong password",
        "The board says that the password of the Wi-Fi is wrong",
        3,
        "Change the password at the access point, then press the reset button.",
        expect=(_START, "keycast: wrong-password"),
        within_s=120,
        ask="Do the blinks of the light match the table in docs/board_start.md?",
        needs=("led",),
    ),
    Check(
        "no access point",
        "The board says that the access point is not there, as with one at 5 GHz only",
        3,
        "Put the password right, switch the 2.4 GHz radio of the access point off, and press the reset button.",
        expect=(_START, "keycast: no-access-point"),
        within_s=120,
    ),
    Check(
        "power cuts",
        "The board comes back with its keys after each of 20 power cuts",
        15,
        "Switch the access point on. Pull the board's plug 20 times, at any moment, while a second terminal runs "
        "`keycast group update` for one of its groups again and again. Then leave it plugged in.",
        expect=(_RUNNING,),
        within_s=300,
        ask="Did the board have its newest key each time within a minute (keycast status)?",
    ),
    Check(
        "brownout",
        "A supply that is too weak is named",
        10,
        "Feed the board from a laboratory supply, lower the voltage until it resets, and raise it again.",
        expect=("rst:0xf|[Bb]rownout",),
        within_s=300,
    ),
    Check(
        "random numbers",
        "The chip's random numbers are not biased while a radio is on",
        2,
        "Press the reset button, and within two seconds Enter.",
        (
            "mpremote",
            "connect",
            "PORT",
            "exec",
            "import network, os; network.WLAN(network.STA_IF).active(True); "
            "ones = sum(bin(each).count('1') for _ in range(256) for each in os.urandom(256)); "
            "print('fair' if abs(ones - 262144) < 1450 else 'biased', ones)",
        ),
        ("^fair",),
        within_s=120,
    ),
    Check(
        "dtim",
        "A broadcast reaches a sleeping station at DTIM 1 and at DTIM 3",
        5,
        "Set the access point to DTIM 1 and run `keycast group update` ten times; then the same with DTIM 3.",
        measure="seconds, the longest until the key was stored at DTIM 3",
    ),
    Check(
        "radio memory",
        "The radio keeps its memory with eight groups",
        70,
        "Let the board join eight groups, update each of them ten times, and leave it alone for an hour.",
        ("keycast", "board", "list", "--ask", "--json"),
        ("radio_lowest",),
        ask="Is the lowest value 4,096 octets or more?",
    ),
    Check(
        "current",
        "The current of a member that waits for a key",
        5,
        "Put an ammeter into the supply, with no USB data line connected; wait a minute.",
        measure="mA, mean over a minute",
    ),
    Check(
        "light",
        "The light is on the pin, and of the kind, that the file of the board says",
        1,
        "Look at the light while the board runs.",
        ask="Is it as the table in docs/board_start.md says for a running board?",
        needs=("led",),
    ),
    Check(
        "times",
        "The times of a board: session, GKDK, join, re-key",
        5,
        "Press the reset button and read the time stamps of `keycast board monitor`.",
        expect=(_START, _RUNNING),
        within_s=120,
        measure="seconds from start to running",
    ),
    Check(
        "advert interval",
        "The gateway's adverts are on the air as often as it says",
        2,
        _UPDATES,
        ("mpremote", "connect", "PORT", "exec", _HEAR),
        ("^interval (\\d|[12]\\d|30) ",),
        ask="Is the interval at most that of `keycast radios`, and 10 ms more, divided by its number at a time?",
        needs=("ble",),
    ),
    Check(
        "duplicate filter",
        "No controller takes adverts of one address, or of one payload, for the same one",
        5,
        f"{_UPDATES} Press Enter; when the numbers are there, press the reset button, and go on updating for a minute.",
        ("mpremote", "connect", "PORT", "exec", _HEAR),
        ("adverts \\d+ payloads \\d+",),
        ask="Were there more adverts than payloads, if the controller has extended advertising? And does `keycast "
        "group show` say `confirmed` for each key, with the board's Wi-Fi out of range?",
        needs=("ble",),
    ),
    Check(
        "instances",
        "The controller of the gateway shows as many payloads at a time as it says",
        2,
        "Stop the gateway. Repeat this with each controller that you have, and write down its name.",
        ("keycast", "radios", "--try"),
        ("advertise by mgmt",),
        measure="payloads at a time",
        needs=("ble",),
    ),
    Check(
        "updates",
        "On a 4.x controller each update of an advert is one transmission",
        5,
        f"Put a 4.x controller into the gateway. {_UPDATES} Note `ble_adverts_sent` of `keycast status` before and "
        "after.",
        ("mpremote", "connect", "PORT", "exec", _HEAR),
        ("payloads \\d+",),
        ask="Are the payloads heard at least nine in ten of those that `keycast status` counted in these ten seconds?",
        needs=("ble",),
    ),
    Check(
        "scan duty",
        "A board that is in a Wi-Fi hears the adverts of a key all the same",
        15,
        "Set `interfaces = []` in [broadcast] of the gateway, so that keys go by adverts only, and start it. Let the "
        "board download something over Wi-Fi, and run `keycast group update` twenty times.",
        measure="seconds, the second longest until the key was stored",
        needs=("ble",),
    ),
    Check(
        "off and on",
        "Bluetooth can be switched off and on while adverts come in, and says that a connection is none",
        1,
        "Let some other device advertise beside the board.",
        ("mpremote", "connect", "PORT", "exec", _SWITCH),
        ("on again True (False|-?128|107)",),
        needs=("ble",),
    ),
    Check(
        "memory of both",
        "Wi-Fi and Bluetooth together leave memory to the radios",
        10,
        "Provision the board for a gateway with a section [ble], let it join a group, and run `keycast group update` a "
        "few times. Then send `keycast: who` to it on the serial line. A board that has memory for one radio at a time "
        "is provisioned with --no-wifi.",
        measure="octets, the `radio_lowest` that it tells",
        needs=("ble",),
    ),
    Check(
        "failed connections",
        "A board to which a connection could not be made is connected to again",
        15,
        "Provision the board with --no-wifi. Go away with it until the gateway cannot connect to it any more; come "
        "back. Do so ten times.",
        ask="Did it say `running` within a minute each time, without a start in between?",
        needs=("ble",),
    ),
    Check(
        "crowd",
        "Adverts of many other devices do not slow a board down",
        5,
        "Go where at least fifty Bluetooth devices are, press the reset button, and read the time stamps of `keycast "
        "board monitor`.",
        expect=(_START, _RUNNING),
        within_s=120,
        measure="seconds from start to running",
        needs=("ble",),
    ),
    Check(
        "wear",
        "The flash wears as slowly as docs/flash.md says",
        5,
        "Note the highest page number of `nvs` (docs/flash.md says how it is read), now and after a week of use.",
        measure="pages erased a week",
    ),
)


def parts_of(board: Board, image: bool) -> set[str]:
    """Return which of `PARTS` a board has; `image` says whether a firmware image for it is at hand."""
    parts: set[str] = {socket.kind for socket in board.sockets}
    parts.update(board.radios)
    if board.leds:
        parts.add("led")
    if any(each.does == "boot" for each in board.buttons):
        parts.add("boot button")
    if image:
        parts.add("image")
    return parts.intersection(PARTS)


def checks_for(parts: set[str]) -> tuple[Check, ...]:
    """Return the checks of the table that a board with `parts` can do, in order."""
    return tuple(each for each in CHECKS if parts.issuperset(each.needs))
