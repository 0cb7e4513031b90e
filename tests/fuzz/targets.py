"""One fuzz target for each parser of octets or text that come from outside.

A target takes any octets and ends normally or with an error that its callers expect; anything else is a finding.
"""

from tests.fuzz import datagrams, files, servers, updates, val_clients, virtual_boards

TARGETS = (
    *datagrams.TARGETS,
    *files.TARGETS,
    *servers.TARGETS,
    *updates.TARGETS,
    *val_clients.TARGETS,
    *virtual_boards.TARGETS,
)
