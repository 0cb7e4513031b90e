"""Ports for programs that bind them later: none that the kernel gives away, none twice, none that anybody has."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_agent.errors import GatewayError
from keycast import free_ports
from keycast.free_ports import first_assigned, free_port, ports_below
from keycast.virtual_board import loopback

MANY = 200  # of several blocks
ANOTHER_PROCESS = f"from keycast.free_ports import free_port; print(*[free_port() for _ in range({MANY})])"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The only ports to choose from."""
    ports = [free_port() for _ in range(3)]
    monkeypatch.setattr(free_ports, "ports_below", lambda _: ports)
    monkeypatch.setattr(free_ports, "_is_claimed", lambda _: True)
    free_ports._own_ports.cache_clear()
    yield ports
    free_ports._own_ports.cache_clear()


def test_a_port_is_none_that_the_kernel_assigns_and_is_given_once() -> None:
    ports = [free_port() for _ in range(MANY)]
    assert len(set(ports)) == MANY
    if ports_below(first_assigned())[-1] >= first_assigned():
        pytest.skip(f"this machine's kernel assigns nearly all ports: from {first_assigned()} on")
    assert max(ports) < first_assigned()


def test_two_processes_get_different_ports() -> None:
    ours = {free_port() for _ in range(MANY)}
    ended = subprocess.run([sys.executable, "-c", ANOTHER_PROCESS], capture_output=True, text=True, check=True)
    theirs = set(map(int, ended.stdout.split()))
    assert len(theirs) == MANY and not ours & theirs


def test_a_forked_process_gets_other_ports() -> None:
    ours = {free_port()}
    told, tells = os.pipe()
    goes_on, ends = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ends)
            os.write(tells, " ".join(str(free_port()) for _ in range(MANY)).encode())
            os.close(tells)
            os.read(goes_on, 1)  # its ports are its own until it ends
        finally:
            os._exit(0)
    os.close(tells)
    with open(told) as file:
        theirs = set(map(int, file.read().split()))
    ours |= {free_port() for _ in range(MANY)}
    os.close(ends)
    os.waitpid(child, 0)
    os.close(goes_on)
    assert len(theirs) == MANY and not ours & theirs


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "127.255.255.255", "0.0.0.0", "::1", "::"])
def test_a_port_that_a_program_has_at_any_address_is_passed_over(
    few: list[int], kind: socket.SocketKind, address: str
) -> None:
    if address == "127.255.255.255" and kind == socket.SOCK_STREAM:
        address = "127.0.0.250"  # nobody listens at an address of broadcasts
    if ":" in address and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address, few[1]))
        assert [free_port(), free_port()] == [few[0], few[2]]


def test_when_none_is_left_the_error_says_which_were_looked_at(few: list[int]) -> None:
    for port in few:
        assert free_port() == port
    with pytest.raises(GatewayError, match=f"No port from {few[0]} to {few[2]} is free"):
        free_port()


def test_a_reserved_port_is_nobody_elses(few: list[int]) -> None:
    reserved = loopback.own_port()
    assert reserved == few[0]
    free_ports._own_ports.cache_clear()
    assert free_port() == few[1]


@pytest.mark.parametrize(
    ("assigned", "ports"),
    [
        (32_768, range(20_000, 32_768)),
        (21_024, range(20_000, 21_024)),
        (21_023, range(1_024, 21_023)),
        (10_000, range(1_024, 10_000)),
        (2_047, range(20_000, 40_000)),
        (1_024, range(20_000, 40_000)),
    ],
)
def test_the_ports_lie_below_those_that_the_kernel_assigns(assigned: int, ports: range) -> None:
    assert ports_below(assigned) == ports


def test_the_range_of_the_kernel_is_read_and_not_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "range").write_text("9000\t65000\n")
    monkeypatch.setattr(free_ports, "_ASSIGNED", tmp_path / "range")
    free_ports._own_ports.cache_clear()
    try:
        assert 1_024 <= free_port() < 9_000
    finally:
        free_ports._own_ports.cache_clear()
