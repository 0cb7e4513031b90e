"""docs/messages.md agrees with the code, and docs/protocol.md names existing messages only."""

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
    assert set(sections) == {message_table.name(code) for code in message_table.MESSAGES} | {"Labels"}
    for code in message_table.MESSAGES:
        section = sections[message_table.name(code)]
        for row in message_table.rows(code):
            assert f"| {row.name}" in section and row.requirements in section


def test_the_labels_say_which_messages_have_them():
    text = message_reference.page().partition("\n## Labels\n")[2]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| [^|]+ \| ([\d, ]+) \|$", text, re.MULTILINE)
    on_failure = set(messages.ON_FAIL[1:])
    said = {int(label): {int(code) for code in codes.split(", ")} for label, name, codes in rows}
    assert said.keys() == {*messages.TYPES[::2], *messages.ELEMENTS}
    for label, codes in said.items():
        if label not in on_failure:
            assert codes == {code for code, shape in message_table.MESSAGES.items() if label in shape}
    assert all(said[label] == said[messages.RESULT] | said[messages.RETURN] for label in on_failure)


def test_the_protocol_page_names_no_message_that_there_is_not():
    """It tells the flows; codes, ways and fields stand in docs/messages.md only."""
    text = message_reference.PAGE.with_name("protocol.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b\w+(?:Request|Response)\b", text))
    assert named and named <= {message_table.name(code) for code in message_table.MESSAGES}
