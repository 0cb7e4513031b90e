"""The process that has a port, as /proc tells it."""

import os
import socket

import pytest

from message_plane.port_holder import holders, in_words, inodes_in

UDP = """\
 1534: 0100007F:1633 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 100 2 0 0
 1535: 00000000:1634 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 101 2 0 0
 1536: 0201A8C0:1633 0501A8C0:0035 01 00000000:00000000 00:00000000 00000000     0        0 102 2 0 0
"""
TCP6 = """\
   0: 00000000000000000000000000000000:20FB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 200 1 0 100
   1: 00000000000000000000000001000000:20FC 00000000000000000000000001000000:0000 0A 0:0 00:0 0 0 0 201 1 0 100
   2: 00000000000000000000000001000000:20FC 00000000000000000000000001000000:9000 01 0:0 00:0 0 0 0 202 1 0 100
"""


@pytest.mark.parametrize(
    ("table", "protocol", "host", "port", "found"),
    [
        (UDP, "udp", "127.0.0.1", 0x1633, {"100"}),
        (UDP, "udp", "192.168.1.2", 0x1633, {"102"}),
        (UDP, "udp", "0.0.0.0", 0x1633, {"100", "102"}),
        (UDP, "udp", "10.0.0.1", 0x1634, {"101"}),
        (UDP, "udp", "10.0.0.1", 0x1633, set()),
        (TCP6, "tcp", "127.0.0.1", 0x20FB, {"200"}),
        (TCP6, "tcp", "::1", 0x20FC, {"201"}),
    ],
)
def test_whatever_leaves_no_room_is_found(table, protocol, host, port, found):
    assert inodes_in(table.splitlines(), protocol, host, port) == found


@pytest.mark.parametrize(("protocol", "kind"), [("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)])
def test_the_process_that_has_a_port_is_named(protocol, kind):
    with socket.socket(socket.AF_INET, kind) as own:
        own.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            own.listen()
        port = own.getsockname()[1]
        assert [holder.pid for holder in holders(protocol, "127.0.0.1", port)] == [os.getpid()]
        assert f"(process {os.getpid()})" in in_words(protocol, "127.0.0.1", port)
    assert in_words(protocol, "127.0.0.1", port) == "another program"
