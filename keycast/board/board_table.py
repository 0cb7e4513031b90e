"""A table of boards that are provisioned one after another: a CSV file with a line for each."""

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cpns import name_rule
from keycast.board.faults import ProvisioningFault

_COLUMNS = ("name", "port", "serial", "group")
_ROWS_MAX = 10_000
_OCTETS_MAX = 1 << 22
_PORT_MAX = 4096


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
        with open(path, "rb") as file:
            octets = file.read(_OCTETS_MAX + 1)
        if len(octets) > _OCTETS_MAX or b"\0" in octets:
            raise ProvisioningFault(f"{path} is no CSV file, or too large for one.", step)
        lines = csv.DictReader(io.StringIO(octets.decode("utf-8-sig"), newline=""), skipinitialspace=True, strict=True)
        columns = lines.fieldnames or ()
        known = set(columns) <= set(_COLUMNS) and len(set(columns)) == len(columns)
        if not known or "name" not in columns or not {"port", "serial"} & set(columns):
            raise ProvisioningFault(f"{path} has the columns {ascii(', '.join(columns))[1:-1] or '(none)'}.", step)
        rows: list[Row] = []
        for line in lines:
            port = line.get("port") or line.get("serial")
            if not line["name"] or not port or None in line or len(rows) == _ROWS_MAX:
                raise ProvisioningFault(f"{path}, line {lines.line_num}, is not complete or has too much.", step)
            if wrong := name_rule.fault(line["name"]) or name_rule.fault(port, _PORT_MAX):
                raise ProvisioningFault(f"{path}, line {lines.line_num}: a name or port {wrong}.", step)
            rows.append(Row(line["name"], port, line.get("group") or None))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ProvisioningFault(f"{path} is no CSV file in UTF-8: {error}.", step) from None
    ports = [os.path.realpath(row.port) if "/" in row.port else row.port for row in rows]
    for column, values in (("name", [row.pne_id for row in rows]), ("port or serial", ports)):
        if twice := next((value for value, count in Counter(values).items() if count > 1), None):
            raise ProvisioningFault(f"{path} has the {column} {twice!r} twice.", "Each board has its own line.")
    if not rows:
        raise ProvisioningFault(f"{path} names no board.", step)
    return rows
