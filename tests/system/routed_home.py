"""A home network behind a router of the kernel that translates addresses, and a machine beyond it (`namespaces`)."""

import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Iterator

from tests.system.namespaces import PREFIX_LENGTH, HomeNetwork, _run, _try, missing

_CLONE_NEWNET = 0x40000000  # sched.h


def missing_router() -> str:
    """Why there can be no router that translates addresses, "" if there can."""
    if why_not := missing():
        return why_not
    if shutil.which("nft") is None:
        return "there is no `nft` command (package nftables)"
    try:
        with RoutedHome(1):
            return ""
    except (subprocess.CalledProcessError, OSError):
        return "this kernel does not translate addresses in network namespaces"


class RoutedHome(HomeNetwork):
    """A home behind a router that translates addresses and forgets a UDP flow after `FORGETS_S` of silence.

    From the far machine, FAR_ADDRESS, the home is reached only where the router remembers that it spoke first.
    """

    FAR_ADDRESS = "203.0.113.1"
    FORGETS_S = 1

    @contextlib.contextmanager
    def inside(self, machine: int | None) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are on that machine of the home, None: on the far one."""
        name = self._far if machine is None else self._machine(machine)
        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{name}") as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    @property
    def _router(self) -> str:
        return f"{self._name}-router"

    @property
    def _far(self) -> str:
        return f"{self._name}-far"

    def _build(self) -> None:
        super()._build()
        router, far = self._router, self._far
        _run("ip", "netns", "add", router)
        _run("ip", "netns", "add", far)
        self._link("router", "type", "veth", "peer", "name", "home", "netns", router)
        self._link_up("router", "master", "br0")
        _run("ip", "-n", router, "link", "add", "world", "type", "veth", "peer", "name", "eth0", "netns", far)
        for name, device, address in (
            (router, "home", self.address(254)),
            (router, "world", "203.0.113.254"),
            (far, "eth0", self.FAR_ADDRESS),
        ):
            _run("ip", "-n", name, "address", "add", f"{address}/{PREFIX_LENGTH}", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")
        for machine in range(1, self._machines + 1):
            _run("ip", "-n", self._machine(machine), "route", "add", "default", "via", self.address(254))
        _run("ip", "netns", "exec", router, "nft", _TRANSLATE)
        for setting, value in (
            ("net.ipv4.ip_forward", 1),
            ("net.netfilter.nf_conntrack_udp_timeout", self.FORGETS_S),
            ("net.netfilter.nf_conntrack_udp_timeout_stream", self.FORGETS_S),
        ):
            _run("ip", "netns", "exec", router, "sysctl", "-w", f"{setting}={value}")

    def _remove(self) -> None:
        super()._remove()
        for name in (self._router, self._far):
            _try("ip", "netns", "delete", name)


_TRANSLATE = """
table ip translation {
    chain out { type nat hook postrouting priority 100; oifname "world" masquerade; }
    chain through {
        type filter hook forward priority 0;
        iifname "world" ct state established,related accept
        iifname "world" drop
    }
}
"""


def _enter(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
