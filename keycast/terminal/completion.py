"""Names for the shell's tab completion, most of them asked of the running gateway or Server; none if that fails."""

import contextlib
from pathlib import Path
from typing import Any

import typer

from keycast.terminal.options import DEFAULT_CONFIG

_WITHIN_S = 1.0  # a person who presses the tab key does not wait longer


def groups(context: typer.Context, incomplete: str) -> list[str]:
    """Return the SG IDs that begin with `incomplete`."""
    return _known(context, "group.list", "sg_id", incomplete)


def boards(context: typer.Context, incomplete: str) -> list[str]:
    """Return the PNE IDs of the boards that a gateway lets in, as far as they begin with `incomplete`."""
    return _known(context, "board.list", "pne_id", incomplete)


def gateways(context: typer.Context, incomplete: str) -> list[str]:
    """Return the entity IDs of the PN GWs of a CPNS Server, as far as they begin with `incomplete`."""
    return _known(context, "server.gateways", "gateway_id", incomplete)


def hardware(incomplete: str) -> list[str]:
    """Return the names of the boards that can be bought, as far as they begin with `incomplete`."""
    from keycast.places import HW_CONFIGS

    names = (path.stem for path in (HW_CONFIGS / "boards").glob("*.toml"))
    return sorted(name for name in names if name.startswith(incomplete))


def _known(context: typer.Context, do: str, key: str, incomplete: str) -> list[str]:
    with contextlib.suppress(Exception):
        return sorted(row[key] for row in _ask(context, do) if row[key].startswith(incomplete))
    return []


def _ask(context: typer.Context, do: str) -> Any:
    from gateway_agent.config.load import load
    from gateway_agent.control_client import ask

    state = context.params.get("state")
    folder = load(Path(context.params.get("config") or DEFAULT_CONFIG)).gateway.state_dir if state is None else state
    return ask(Path(folder), do, "", _WITHIN_S)
