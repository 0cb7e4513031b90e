"""A table of boards that are provisioned one after another: a CSV file with a line for each."""

import csv
from dataclasses import dataclass
from pathlib import Path

from keycast.board.faults import ProvisioningFault

_COLUMNS = ("name", "port", "serial", "group")
_ROWS_MAX = 10_000


@dataclass(frozen=True)
class Row:
    """One board: its PNE ID, where it is (the name of a port or the serial number of its USB device) and its group."""

    pne_id: str
    port: str
    group: str | None


def read(path: Path) -> list[Row]:
    """Return the rows of a file with the columns `name`, `port` or `serial`, and optionally `group`.

    Raises ProvisioningFault with the line that is wrong, OSError if the file cannot be read.
    """
    step = "Write the columns name, port (or serial) and, if you like, group; with a line for each board."
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = lines.fieldnames or ()
            if "name" not in columns or not {"port", "serial"} & set(columns) or set(columns) - set(_COLUMNS):
                raise ProvisioningFault(f"{path} has the columns {', '.join(columns) or '(none)'}.", step)
            rows: list[Row] = []
            for line in lines:
                port = line.get("port") or line.get("serial")
                if not line["name"] or not port or None in line or len(rows) == _ROWS_MAX:
                    raise ProvisioningFault(f"{path}, line {lines.line_num}, is not complete or has too much.", step)
                rows.append(Row(line["name"], port, line.get("group") or None))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ProvisioningFault(f"{path} is no CSV file in UTF-8: {error}.", step) from None
    for column, values in (("name", [row.pne_id for row in rows]), ("port or serial", [row.port for row in rows])):
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ProvisioningFault(f"{path} has the {column} {twice!r} twice.", "Each board has its own line.")
    if not rows:
        raise ProvisioningFault(f"{path} names no board.", step)
    return rows
