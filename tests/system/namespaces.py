"""A home network of its own: each machine in a network namespace, all of them on one bridge. Needs root and `ip`."""

import os
import secrets
import shutil
import subprocess
from types import TracebackType

from tools.virtual_board.board import Network

PREFIX_LENGTH = 24
NETMASK = "255.255.255.0"


def missing() -> str:
    """Why there can be no namespaces here, "" if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` command (package iproute2)"
    probe = f"kc-{secrets.token_hex(3)}"
    made = _try("ip", "netns", "add", probe) and _try("ip", "-n", probe, "link", "add", "br0", "type", "bridge")
    _try("ip", "netns", "delete", probe)
    return "" if made else "this kernel gives no network namespaces or no bridges"


class HomeNetwork:
    """10.77.0.0/24. Machine n has the address 10.77.0.n; `words(n)` start a program on it."""

    def __init__(self, machines: int) -> None:
        self._name = f"kc-{secrets.token_hex(3)}"
        self._machines = machines
        self._switch = f"{self._name}-switch"

    def __enter__(self) -> "HomeNetwork":
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @staticmethod
    def address(machine: int) -> str:
        """The machine's IPv4 address."""
        return f"10.77.0.{machine}"

    def words(self, machine: int) -> list[str]:
        """What to put before a command so that it runs on that machine."""
        return ["ip", "netns", "exec", self._machine(machine)]

    def board(self, machine: int) -> Network:
        """The machine as the place of a virtual board."""
        return Network(self.address(machine), NETMASK, self.words(machine))

    def lose(self, percent: int) -> None:
        """Let the bridge drop frames at random, broadcasts at each receiver for itself. Needs `nft`."""
        rules = f"""
            table bridge air {{
                chain lose {{
                    type filter hook forward priority 0; policy accept;
                    ether type ip numgen random mod 100 < {percent} counter drop
                }}
            }}
        """
        subprocess.run(["ip", "netns", "exec", self._switch, "nft", "-f", "-"], input=rules, text=True, check=True)

    def dropped(self) -> int:
        """Frames that `lose` has dropped."""
        listing = subprocess.run(
            ["ip", "netns", "exec", self._switch, "nft", "list", "ruleset"], capture_output=True, text=True, check=True
        ).stdout.split()
        return int(listing[listing.index("packets") + 1])

    def _machine(self, machine: int) -> str:
        return f"{self._name}-{machine}"

    def _build(self) -> None:
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "br0", "up")
        for machine in range(1, self._machines + 1):
            name, port = self._machine(machine), f"port{machine}"
            _run("ip", "netns", "add", name)
            _run("ip", "-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "-n", self._switch, "link", "set", port, "master", "br0", "up")
            _run("ip", "-n", name, "address", "add", f"{self.address(machine)}/{PREFIX_LENGTH}", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        for machine in range(1, self._machines + 1):
            _try("ip", "netns", "delete", self._machine(machine))
        _try("ip", "netns", "delete", self._switch)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _try(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
