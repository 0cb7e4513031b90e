"""docs/messages.md says what the code does."""

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
