"""Write docs/bench-checklist.md from the table of checks that need hardware (`keycast/hardware_bench/checks.py`).

`python -m tools.bench_checklist` writes the page; a test says when it is out of date.
"""

import shlex
from collections.abc import Iterator

from keycast.hardware_bench.checks import CHECKS, Check
from tools import PROJECT

PAGE = PROJECT / "docs" / "bench-checklist.md"

_HEAD = """# What only hardware shows

<!-- Made from keycast/hardware_bench/checks.py by `python -m tools.bench_checklist`; do not edit. -->

Everything else about a board is tested without one: in the MicroPython VM, on a pseudo-terminal, against a simulated
boot ROM. The checks below were written and **not run** by us; if you have a board, run them and tell us the results:

```console
keycast bench hil --board esp32-devkitc --port /dev/ttyUSB0 --save results.json
```

It leads through the checks that fit the board, runs the commands, reads the serial line, and asks what only a person
sees. A check can be skipped. `--only NAME` runs one, `--list` shows them. PORT, BOARD and IMAGE stand for the options
of these names. A result has the last lines that were read, with pairing secrets covered.
"""

_GATEWAY = """

## A Raspberry Pi as the gateway

Not measured by us: an SD card, and the smallest Pi. Install the Debian package (operate.md), let some boards in, then:

* `keycast doctor` on a Pi with an SD card: the time of one fsync. Over 50 ms it says so; each key waits for a few.
* On a Pi Zero 2 W: `systemd-analyze blame | grep keycast-gateway` is the time from start to ready, `systemctl show
  keycast-gateway --property=MemoryPeak,MemoryCurrent` the memory (MemoryPeak needs systemd 256). The page, MQTT and
  metrics on, then off.
* `systemctl kill --signal=STOP keycast-gateway`: within WatchdogSec and RestartSec it is back, and boards keep their
  keys.
* Pull the plug while boards join, three times: it starts each time, and no board must be let in anew.
"""


def page() -> str:
    """Return the text of the page."""
    minutes = sum(check.minutes for check in CHECKS)
    whole = f"\nAll of them take about {minutes // 60} h {minutes % 60} min, most of it waiting.\n"
    return _HEAD + whole + "\n".join(line for check in CHECKS for line in _section(check)) + _GATEWAY


def _section(check: Check) -> Iterator[str]:
    needs = f"; needs: {', '.join(check.needs)}" if check.needs else ""
    yield f"\n## {check.title}\n"
    yield f"`{check.name}`, {check.minutes} min{needs}.\n"
    yield f"* Do: {check.do}"
    if check.command:
        yield f"* Runs: `{shlex.join(check.command)}`, which must end with exit code 0 within {check.within_s} s."
    for expected in check.expect:
        where = "It prints" if check.command else f"Within {check.within_s} s the serial line has"
        yield f"* {where} a line with `{expected}`."
    if check.ask:
        yield f"* Asks: {check.ask}"
    if check.measure:
        yield f"* Measure: {check.measure}."
    yield ""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
