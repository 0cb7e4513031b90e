"""A home network of its own: each machine in a network namespace, all of them on one bridge. Needs root and `ip`.

Loss needs nothing more: it is made by programs of ours on the wires (`lossy_wires`), so that it is there on machines
whose kernel or packages have no loss to offer (netem, nftables).
"""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tools.virtual_board.board import Network

PREFIX_LENGTH = 24
NETMASK = "255.255.255.0"

_LOSSY_WIRES = Path(__file__).with_name("lossy_wires.py")
_END_S = 10


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
    """10.77.0.0/24. Machine n has the address 10.77.0.n; `words(n)` start a program on it.

    `loss`: the probability that an IP packet does not come from the bridge to a machine, drawn for each machine by
    itself; `seed` of the draws.
    """

    def __init__(self, machines: int, loss: float = 0.0, seed: int = 1) -> None:
        self._name = f"kc-{secrets.token_hex(3)}"
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


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _try(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
