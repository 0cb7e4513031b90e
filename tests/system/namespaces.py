"""A home network of its own: each machine in a network namespace, all of them on one bridge. Needs root and `ip`.

Loss needs nothing more: it is made by programs of ours on the wires (`lossy_wires`), so that it is there on machines
whose kernel or packages have no loss to offer (netem, nftables).
"""

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from keycast.virtual_board.board import Network
from tests.privileges import MISSING

PREFIX_LENGTH = 24
NETMASK = "255.255.255.0"

_LOSSY_WIRES = Path(__file__).with_name("lossy_wires.py")
_END_S = 10


def missing() -> str:
    """Why there can be no namespaces here, "" if there can."""
    if MISSING:
        return MISSING
    if shutil.which("ip") is None:
        return "needs the command `ip` (Debian: sudo apt install iproute2)"
    probe = f"kc-{secrets.token_hex(3)}"
    made = _try("ip", "netns", "add", probe) and _try("ip", "-n", probe, "link", "add", "br0", "type", "bridge")
    _try("ip", "netns", "delete", probe)
    return "" if made else "this kernel gives no network namespaces or no bridges"


class HomeNetwork:
    """10.77.0.0/24. Machine n has the address 10.77.0.n; `words(n)` start a program on it.

    `first`: the address of machine 1 where it is to be another one, such as 192.168.1.10; the others follow it.
    `loss`: the probability that an IP packet does not come from the bridge to a machine, drawn for each machine by
    itself; `seed` of the draws.
    """

    def __init__(self, machines: int, loss: float = 0.0, seed: int = 1, first: str = "10.77.0.1") -> None:
        self._name = f"kc-{secrets.token_hex(3)}"
        self._first = IPv4Address(first)
        self._machines = machines
        self._switch = f"{self._name}-switch"
        self._loss = loss
        self._seed = seed
        self._wires: subprocess.Popen[str] | None = None

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

    def address(self, machine: int) -> str:
        """The machine's IPv4 address."""
        return str(self._first + machine - 1)

    def words(self, machine: int) -> list[str]:
        """What to put before a command so that it runs on that machine."""
        return ["ip", "netns", "exec", self._machine(machine)]

    def board(self, machine: int) -> Network:
        """The machine as the place of a virtual board."""
        return Network(self.address(machine), NETMASK, self.words(machine))

    def lost(self) -> int:
        """Packets lost until now. Only with `loss`."""
        assert self._wires is not None and self._wires.stdin is not None and self._wires.stdout is not None
        print("lost?", file=self._wires.stdin, flush=True)
        return int(self._wires.stdout.readline())

    def _machine(self, machine: int) -> str:
        return f"{self._name}-{machine}"

    def _build(self) -> None:
        _run("ip", "netns", "add", self._switch)
        self._link("br0", "type", "bridge")
        self._link_up("br0")
        for machine in range(1, self._machines + 1):
            name, port = self._machine(machine), f"port{machine}"
            line = f"line{machine}" if self._loss else port
            _run("ip", "netns", "add", name)
            self._link(line, "type", "veth", "peer", "name", "eth0", "netns", name)
            if self._loss:
                self._link(port, "type", "veth", "peer", "name", f"wire{machine}")
                self._link_up(f"wire{machine}")
                self._link_up(line)
            self._link_up(port, "master", "br0")
            _run("ip", "-n", name, "address", "add", f"{self.address(machine)}/{PREFIX_LENGTH}", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
        if self._loss:
            self._start_wires()

    def _link(self, name: str, *how: str) -> None:
        _run("ip", "-n", self._switch, "link", "add", name, *how)

    def _link_up(self, name: str, *how: str) -> None:
        _run("ip", "-n", self._switch, "link", "set", name, *how, "up")

    def _start_wires(self) -> None:
        wires = [f"line{machine}:wire{machine}" for machine in range(1, self._machines + 1)]
        command = [sys.executable, str(_LOSSY_WIRES), str(self._loss), str(self._seed), *wires]
        self._wires = subprocess.Popen(
            ["ip", "netns", "exec", self._switch, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._wires.stdout is not None
        if self._wires.stdout.readline() != "ready\n":
            raise RuntimeError("the lossy wires did not start; what they printed stands above")

    def _remove(self) -> None:
        if self._wires is not None:
            self._wires.communicate(timeout=_END_S)
        for machine in range(1, self._machines + 1):
            _try("ip", "netns", "delete", self._machine(machine))
        _try("ip", "netns", "delete", self._switch)


class Cards:
    """A machine with several network cards, each on a cable of its own to a listener; `words` start a program on it.

    `cards`: name -> its addresses with prefix length, the listener's end of the cable having no address at all.
    """

    def __init__(self, cards: Mapping[str, Sequence[str]]) -> None:
        self._machine = f"kc-{secrets.token_hex(3)}"
        self._outside = f"{self._machine}-out"
        self._cards = cards

    def __enter__(self) -> "Cards":
        try:
            for name in (self._machine, self._outside):
                _run("ip", "netns", "add", name)
                _run("ip", "-n", name, "link", "set", "lo", "up")
            for card, addresses in self._cards.items():
                self.plug(card, addresses)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def words(self) -> list[str]:
        """What to put before a command so that it runs on the machine."""
        return ["ip", "netns", "exec", self._machine]

    @property
    def outside(self) -> list[str]:
        """The same for a program that hears all cables, each on the device with the card's name."""
        return ["ip", "netns", "exec", self._outside]

    def plug(self, card: str, addresses: Sequence[str]) -> None:
        """Put a card with its cable in, and wait until it runs. `addresses` may have a label: "10.0.0.2/24 eth0:1"."""
        _run(
            "ip", "-n", self._machine, "link", "add", card, "type", "veth", "peer", "name", card, "netns", self._outside
        )
        for address in addresses:
            address, _, label = address.partition(" ")
            _run(
                "ip", "-n", self._machine, "address", "add", address, "dev", card, *(["label", label] if label else [])
            )
        _run("ip", "-n", self._machine, "link", "set", card, "up")
        self.connect(card)

    def pull(self, card: str) -> None:
        """Take a card out."""
        _run("ip", "-n", self._machine, "link", "delete", card)

    def connect(self, card: str) -> None:
        """Put the cable in at the other end."""
        _run("ip", "-n", self._outside, "link", "set", card, "up")
        self._until(card, '"UP"')

    def disconnect(self, card: str) -> None:
        """Pull the cable: the card keeps its addresses and routes and has no carrier."""
        _run("ip", "-n", self._outside, "link", "set", card, "down")
        self._until(card, "NO-CARRIER")

    def give_outside(self, card: str, address: str) -> None:
        """Give the other end of a card's cable an address, for a board there."""
        _run("ip", "-n", self._outside, "address", "add", address, "dev", card)

    def _until(self, card: str, state: str) -> None:
        while state not in subprocess.check_output(["ip", "-n", self._machine, "-j", "link", "show", card], text=True):
            time.sleep(0.01)

    def _remove(self) -> None:
        for name in (self._machine, self._outside):
            _try("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _try(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
