"""`keycast doctor`: examines a gateway and its machine, and says what to do."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, console, sentences, wants_json

if TYPE_CHECKING:
    from keycast.doctor.examination import Checked

_INDENT = 22  # of what is said, behind the grade and the check
_NARROW_INDENT, _ROOMY = 2, 60  # below both on a terminal of fewer columns

_STYLES = {"good": "green", "warning": "yellow", "bad": "red"}


def command(
    config: ConfigOption = DEFAULT_CONFIG,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Write all that others need to help into this new file, without secrets and without names.",
        ),
    ] = None,
) -> None:
    """Examine the gateway and this machine: one line for each finding, with the next step where something is wrong.

    The gateway may run or not, and nothing is changed. As root more is seen: who has a port, the rules of the firewall.
    The exit code is 0 if all is good, 1 if there is a warning, 2 if something is bad.

    With --bundle the findings, the configuration, counters and the end of the log go into one file. Secrets are taken
    out of it, and names and addresses replaced by the same word each time.

    Examples: keycast doctor, keycast doctor --bundle doctor.zip
    """
    from keycast.doctor import bundle as bundles
    from keycast.doctor.examination import examine, worst
    from keycast.doctor.surroundings import look_around

    here = look_around(config)
    found = []
    for each in examine(here):
        found.append(each)
        if not wants_json():
            _show(each)
    grade = worst(found)
    if bundle is not None:
        with sentences():
            bundles.write(bundle, here, found)
    answer(
        {"grade": str(grade), "findings": [_plain(each) for each in found]}
        | ({} if bundle is None else {"bundle": str(bundle)}),
        f"{len(found)} findings; {_summary(found)}",
        *([] if bundle is None else [f"{bundle} is written. Read it before you give it to others."]),
    )
    if grade.exit_code:
        raise typer.Exit(grade.exit_code)


def _plain(each: "Checked") -> dict[str, Any]:
    finding = each.finding
    return {
        "check": each.check,
        "grade": str(finding.grade),
        "text": finding.text,
        "next_step": finding.next_step,
        "page": finding.page,
    }


def _show(each: "Checked") -> None:
    finding = each.finding
    said = [finding.text, *([f"{finding.next_step} ({finding.page})"] if finding.next_step else [])]
    head = Text.assemble((f"{finding.grade:8}", _STYLES[finding.grade]), f"{each.check:14}")
    lines = [line for sentence in said for line in _broken(sentence)]
    if _indent() == _INDENT:
        head.append(lines.pop(0))
    console.print(head)
    for line in lines:
        console.print(f"{'':{_indent()}}{line}")


def _broken(sentence: str) -> list[str]:
    """Return the lines of a sentence: on a terminal they end between words, elsewhere it is one line for `grep`."""
    if not console.is_terminal:
        return [sentence]
    width = max(console.width - _indent(), 1)
    return textwrap.wrap(sentence, width, break_long_words=False, break_on_hyphens=False)


def _indent() -> int:
    return _NARROW_INDENT if console.is_terminal and console.width < _ROOMY else _INDENT


def _summary(found: "list[Checked]") -> str:
    bad, warnings = (sum(each.finding.grade == grade for each in found) for grade in ("bad", "warning"))
    told = [f"{bad} bad"] if bad else []
    if warnings:
        told.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    return ", ".join(told) or "all is good"
