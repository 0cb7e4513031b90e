"""What docs/gateway.md says of Bluetooth and end-to-end groups is what the program says: error texts, senders."""

import re

from gateway_agent.config.load import parse
from gateway_agent.radios.ble_sender import SENDERS
from tools import PROJECT

PAGE = (PROJECT / "docs" / "gateway.md").read_text()
BLUETOOTH = PAGE[PAGE.index("\n## Bluetooth\n") : PAGE.index("\n## Boards\n")]
SOURCES = [
    *(PROJECT / "gateway_agent" / "radios").glob("*.py"),
    PROJECT / "gateway_agent" / "app.py",
    PROJECT / "keycast" / "services" / "radio_survey.py",
]


def first_cells(heading: str) -> list[str]:
    """The first cell of each row of the table under this first cell of its head."""
    rows = BLUETOOTH[BLUETOOTH.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip().strip("`") for row in rows]


def test_each_error_text_in_the_table_is_one() -> None:
    texts = [re.sub(r'"\s*f?"', "", path.read_text().replace("\n", " ")) for path in SOURCES]
    texts = [re.sub(r"[\"']\s+f?[\"']", "", text) for text in texts]
    cells = first_cells("| `keycast radios`,")
    assert len(cells) > 8
    for cell in cells:
        assert any(cell in text for text in texts), cell


def test_each_text_about_end_to_end_groups_is_one() -> None:
    rooms = ("key_servers/cpns_server/*.py", "device_agent/*.py")
    texts = [path.read_text() for room in rooms for path in PROJECT.glob(room)]
    texts = [re.sub(r"[\"']\s+f?[\"']", "", text).replace("{present.trust}", "gateway") for text in texts]
    rows = PAGE[PAGE.index("\n### What it says of these groups") : PAGE.index("\n## As a service\n")].splitlines()
    quoted = [cell for row in rows if row.startswith("|") for cell in re.findall("`([^`]+)`", row.split("|")[1])]
    assert len(quoted) > 8
    for cell in quoted:
        if not cell.startswith("keycast "):
            assert any(cell in text for text in texts), cell


def test_the_senders_are_those_of_the_table() -> None:
    assert set(first_cells("| `sender` |")) == {*SENDERS, "off"}


def test_the_section_is_understood() -> None:
    block = re.search(r"```toml\n(.*?)```", BLUETOOTH, re.DOTALL)
    assert block is not None
    config = parse(f'[gateway]\nid = "gw"\npn = "home"\nstate_dir = "state"\n{block[1]}'.encode())
    assert config.ble.sender == "auto"  # type: ignore[attr-defined]
