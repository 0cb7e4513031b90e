"""The check of this machine's firewall: whether it lets in what boards send."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.packet_filter import Datagram, Fate, fate
from keycast.doctor.surroundings import Surroundings

_SERVICES = ("nftables", "ufw", "firewalld")
_MDNS = 5353
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_PAGE = "docs/gateway.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield for each network and port whether a datagram from a board comes in."""
    if here.config is None:
        return
    nft = shutil.which("nft", path=_PATH)
    if nft is None:
        yield _without_nft()
        return
    if os.geteuid() != 0:
        yield _of_services("only root can read its rules: sudo keycast doctor")
        return
    ruleset = _ruleset(nft)
    if ruleset is None:
        yield warning("The rules of the firewall cannot be read.", "Look yourself: nft list ruleset", _PAGE)
        return
    wanted = {here.config.message_plane.port: "CoAP of the boards"}
    if here.config.message_plane.discovery:
        wanted[_MDNS] = "mDNS"
    for interface in here.interfaces():
        for port, what in wanted.items():
            yield judged(ruleset, interface.device, port, what)


def judged(ruleset: dict[str, Any], interface: str, port: int, what: str) -> Finding:
    """Return the finding about datagrams from `interface` to a UDP port, `what` stands for in words."""
    becomes, chain = fate(ruleset, Datagram(port, interface))
    named = f"UDP port {port} ({what}) on {interface}"
    family, table, _ = (chain or "inet filter input").split(" ", 2)
    step = f"Let it pass, for example: nft insert rule {chain or f'{family} {table} input'} udp dport {port} accept"
    if becomes is Fate.DROPPED:
        return bad(f"The firewall (chain {chain}) drops what comes in for {named}.", step, _PAGE)
    if becomes is Fate.PERHAPS:
        return warning(
            f"The firewall (chain {chain}) lets {named} in for some senders, or by rules that are not understood here.",
            "Look yourself: nft list ruleset",
            _PAGE,
        )
    return good(f"the firewall lets {named} in")


def _without_nft() -> Finding:
    if shutil.which("iptables", path=_PATH) is None:
        return good("neither nft nor iptables is installed: no firewall is known here")
    return _of_services("its rules are not read without the program nft: sudo apt install nftables")


def _of_services(why: str) -> Finding:
    active = [name for name in _SERVICES if _is_active(name)]
    if active:
        return warning(f"A firewall is active ({', '.join(active)}), and {why}.", "Look at its rules.", _PAGE)
    return good(f"no service of a firewall is active ({why})")


def _is_active(name: str) -> bool:
    try:
        return subprocess.run(["systemctl", "is-active", "--quiet", name], timeout=5, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _ruleset(nft: str) -> dict[str, Any] | None:
    try:
        said = subprocess.run([nft, "--json", "list", "ruleset"], capture_output=True, timeout=10, check=False)
        return dict(json.loads(said.stdout)) if said.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
