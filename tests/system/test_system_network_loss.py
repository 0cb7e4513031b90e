"""A home network whose wires lose packets: gateway and boards on machines (network namespaces) of their own."""

import subprocess
import sys

import pytest

from tests.system.namespaces import HomeNetwork
from tests.system.test_system_network import HINTS_WITH_LOSS, WHY_NOT, home, story

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

HEAR = """
import socket
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: nothing is lost here
ear.bind(("", 7777))
print("ready", flush=True)
while (datagram := ear.recv(100)) != b"end":
    print(datagram.decode())
"""
SAY = """
import socket, sys, time
mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for number in range(2000):
    mouth.sendto(b"%d" % number, (sys.argv[1], 7777))
    time.sleep(0.0005)  # so that no queue overflows: nothing else shall lose packets
for _ in range(50):
    mouth.sendto(b"end", (sys.argv[1], 7777))
"""


def test_lossy_wires_lose_as_much_as_they_are_told_and_for_each_machine_by_itself():
    with HomeNetwork(3, 0.2) as network:

        def words(machine, program, *arguments):
            return [*network.words(machine), sys.executable, "-c", program, *arguments]

        ears = [subprocess.Popen(words(machine, HEAR), stdout=subprocess.PIPE, text=True) for machine in (2, 3)]
        assert [ear.stdout.readline() for ear in ears] == ["ready\n"] * 2
        subprocess.run(words(1, SAY, "10.77.0.255"), check=True, timeout=240)
        heard = [set(map(int, ear.communicate(timeout=240)[0].split())) for ear in ears]
        assert all(1500 < len(numbers) < 1700 for numbers in heard)
        assert 1180 < len(heard[0] & heard[1]) < 1380  # four fifths of four fifths
        assert network.lost() >= 2 * 2000 - sum(map(len, heard))


@pytest.mark.req("CPNS-GKM-63", "CPNS-GKM-75")
async def test_everybody_is_keyed_although_the_network_itself_loses_every_fifth_packet(tmp_path):
    async with home(tmp_path, network_loss=0.2, hints=HINTS_WITH_LOSS) as (gateway, boards, network):
        await story(gateway, boards)
        assert network.lost() > 10
