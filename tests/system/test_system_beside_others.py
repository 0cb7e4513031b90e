"""Demo and tests on a machine whose well-known ports are in use: by a gateway of the same user, and by one another."""

import json
import subprocess
import sys

import pytest

from keycast.virtual_board import loopback
from tests.privileges import needs_root
from tests.system.keycast_process import KEYCAST

# Has both ports on all addresses, as a gateway on 0.0.0.0 has the first, and runs two demos at once.
BESIDE = f"""
import json, socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
taken = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for sock, port in zip(taken, (5683, 5687)):
    sock.bind(("0.0.0.0", port))
words = [{str(KEYCAST)!r}, "demo", "--boards", "3", "--json"]
demos = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
print(json.dumps([(demo.communicate()[0], demo.returncode) for demo in demos]))
"""


@pytest.mark.long
@needs_root
def test_two_demos_at_once_beside_a_gateway_on_all_addresses():
    command = ["unshare", "--net", sys.executable, "-c", BESIDE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    for printed, code in json.loads(result.stdout):
        assert code == 0, printed
        figures = json.loads(printed)
        assert figures["excluded_could_read"] is False and figures["messages_heard"] == 1


def test_each_board_has_an_address_of_its_own():
    first = loopback.free_numbers(3)
    assert loopback.free_numbers(2) not in range(first, first + 3)
