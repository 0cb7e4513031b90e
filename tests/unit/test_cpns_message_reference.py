"""docs/messages.md and docs/protocol.md say what the code does."""

import re

from cpns import message_table, messages
from tools import message_reference


def test_the_page_is_current():
    assert message_reference.PAGE.read_text(encoding="utf-8") == message_reference.page(), (
        "run: python -m tools.message_reference"
    )


def test_the_page_has_every_message_field_and_requirement():
    text = message_reference.page()
    sections = {part.split("\n")[0]: part for part in text.split("\n## ")[1:]}
    assert set(sections) == {message_table.name(code) for code in messages.MESSAGES}
    for code in messages.MESSAGES:
        section = sections[message_table.name(code)]
        for row in message_table.rows(code):
            assert f"| {row.name}" in section and row.requirements in section


PROTOCOL = message_reference.PAGE.with_name("protocol.md")


def test_the_protocol_page_names_every_message_with_its_codes():
    rows = re.findall(
        r"^\| (\d+), (\d+) \| (\w+)Request / Response", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE
    )
    named = {int(request): f"{name}Request" for request, response, name in rows if int(response) == int(request) + 1}
    assert named == {code: message_table.name(code) for code in message_table.PAIRS}


def test_the_protocol_page_says_of_every_field_which_messages_have_it():
    where: dict[int, set[int]] = {}
    for code, shape in messages.MESSAGES.items():
        for label in shape:
            if not isinstance(label, str):
                where.setdefault(label, set()).add(code)
    said = {}
    row = r"^\| (\d+) \| [^|]*\| [^|]*\w[^|]*\| ([\d., ]+)(?:; as extension in (\d+))? \|$"
    for label, codes, extension in re.findall(row, PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE):
        ranges = re.findall(r"(\d+)(?:\.\.(\d+))?", f"{codes} {extension}")
        said[int(label)] = {code for first, last in ranges for code in range(int(first), int(last or first) + 1)}
    assert len(said) >= 30, "the page has another form than this test reads"
    assert said == {label: where[label] for label in said}
