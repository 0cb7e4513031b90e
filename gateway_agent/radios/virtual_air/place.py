"""Where the air of a user's virtual boards is."""

from pathlib import Path

from private_store import folders


def default_socket() -> Path:
    """Return the socket at which virtual boards look for an air (`boards`), unless they are told another one."""
    return folders.of_run() / "air"
