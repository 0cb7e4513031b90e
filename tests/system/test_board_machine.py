"""A virtual board behaves as an ESP32 in everything that the agent depends on: flash, air, watchdog.

Everything here runs in the MicroPython VM with the modules that go to a board.
"""

import subprocess
import textwrap
from itertools import count
from pathlib import Path

import pytest

from device_agent import provisioning
from device_agent.cose import Credential
from device_agent.key_store import KeyStore
from keycast.micropython_vm import compile, vm
from keycast.virtual_board import board
from keycast.virtual_board.loopback import board_port, broadcast_port
from keycast.virtual_board.nvs_folder import SIZE, NvsFolder
from tests.unit import nvs_generator

addresses = (f"127.0.9.{last}" for last in count(1))


@pytest.fixture(scope="module", autouse=True)
def built():
    board.build()


class OneBoard:
    """A VM with a board's modules that runs a script instead of `main.py`."""

    def __init__(self, flash: Path):
        flash.mkdir()
        self.flash = flash
        self.address = next(addresses)

    def popen(self, script, heap_kib=96, **environment):
        program = f"import power_on\n{compile.program_for_board(textwrap.dedent(script))}"
        files = {"BOARD_ROM": str(compile.BOARD_IMAGE), "BOARD_HARDWARE": str(board.HARDWARE_IMAGE)}
        ports = {"BOARD_PORT": str(board_port()), "BOARD_BROADCAST_PORT": str(broadcast_port())}
        return subprocess.Popen(
            vm.ensure().command("-c", program, heap_kib=heap_kib),
            env={
                "MICROPYPATH": f"{board.ON_VM_TREE}:.frozen",
                "BOARD_NVS": str(self.flash),
                "BOARD_ADDRESS": self.address,
            }
            | files
            | ports
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script, expect=0, heap_kib=96, **environment):
        process = self.popen(script, heap_kib, **environment)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == expect, output
        return output.split()


@pytest.fixture
def one_board(tmp_path):
    return OneBoard(tmp_path / "nvs")


SAVE_SIX_STATES = """
    from nvs_store import NvsStore
    from device_agent.key_store import KeyStore
    store = KeyStore(NvsStore())
    old = store.load("state")
    for state in range(int(old) + 1 if old else 1, 7):
        store.save("state", str(state).encode())
        print(state)
"""


@pytest.mark.req("SEC-22")
@pytest.mark.parametrize("how", ["before", "torn", "after"])
@pytest.mark.parametrize("write", range(1, 13))
def test_the_power_goes_at_any_write_and_the_old_or_the_new_state_is_found(one_board, how, write):
    returned = one_board.run(SAVE_SIX_STATES, expect=board.POWER_CUT_CODE, BOARD_POWER_CUT=f"{write}:{how}")
    found = one_board.run(
        "from nvs_store import NvsStore\n"
        "from device_agent.key_store import KeyStore\n"
        "print((KeyStore(NvsStore()).load('state') or b'0').decode())"
    )
    last = int(returned[-1]) if returned else 0
    assert int(found[0]) in (last, last + 1)
    # two writes a state: in the first half of a state the old one may be found, never anything older
    assert last == (write - (how != "after")) // 2 - (how == "after" and write % 2 == 0)
    assert one_board.run(SAVE_SIX_STATES)[-1] == "6" if int(found[0]) < 6 else True


def test_the_host_reads_and_writes_the_flash_of_a_board(one_board):
    KeyStore(NvsFolder(one_board.flash)).save("state", b"41")
    assert one_board.run(SAVE_SIX_STATES.replace("7", "43"))[-1] == "42"
    assert KeyStore(NvsFolder(one_board.flash)).load("state") == b"42"


def test_a_board_reads_an_image_of_esp_idfs_generator(one_board):
    blobs = {"prov0": bytes(range(200)), "wifi0": b"a", "gkdk0": bytes(range(256)) * 7}
    rows = [("keycast",), *((key, nvs_generator.BINARY, value) for key, value in blobs.items())]
    (one_board.flash / "nvs.bin").write_bytes(nvs_generator.image(one_board.flash, rows, SIZE))
    script = "from nvs_store import NvsStore\nfor name in %r:\n    print(bytes(NvsStore().get(name)).hex())"
    assert one_board.run(script % list(blobs)) == [value.hex() for value in blobs.values()]


def test_what_was_set_is_in_the_flash_without_a_commit_and_what_it_replaced_stays_there(one_board):
    script = (
        "import esp32\nnvs = esp32.NVS('keycast')\nnvs.set_blob('a', b'an old key')\nnvs.set_blob('a', b'a new key')"
    )
    one_board.run(script)
    flash = NvsFolder(one_board.flash)
    assert flash.get("a") == b"a new key"
    assert b"an old key" in flash.octets()


@pytest.mark.req("CPNS-GKM-77")
def test_the_board_clears_what_its_nvs_leaves_behind(one_board):
    one_board.run("import esp32\nesp32.NVS('keycast').set_blob('a', b'an old key')")
    told = one_board.run("""
        from nvs_store import NvsStore
        store = NvsStore()
        store.set("a", b"a new key")
        store.commit()
        store.delete("a")
        store.commit()
        print(store.cleared)
    """)
    assert told == ["True"]
    octets = NvsFolder(one_board.flash).octets()
    assert b"an old key" not in octets and b"a new key" not in octets


def test_the_host_does_not_write_to_the_flash_of_a_board_that_runs(one_board):
    running = one_board.popen("import esp32, time\nprint('runs')\ntime.sleep(60)")
    try:
        assert running.stdout.readline() == "runs\n"
        with pytest.raises(BlockingIOError):
            NvsFolder(one_board.flash).set("a", b"1")
    finally:
        running.kill()
        running.communicate()


def test_flash_errors_are_those_of_the_esp32(one_board):
    told = one_board.run("""
        import esp32
        nvs = esp32.NVS('keycast')
        def told(function, *arguments):
            try:
                function(*arguments)
            except OSError as error:
                print(error.errno)
        told(nvs.get_blob, 'nothing', bytearray(4))
        told(nvs.erase_key, 'nothing')
        told(nvs.set_blob, 'sixteen_letters_', b'')
        nvs.set_blob('a', b'12345')
        told(nvs.get_blob, 'a', bytearray(4))
    """)
    assert [hex(-int(number)) for number in told] == ["0x1102", "0x1102", "0x1109", "0x110c"]


ON_AIR = """
    import asyncio, network, os, wifi, air
    from cpns import cborlite
    from device_agent.key_store import KeyStore
    from device_agent.links.udp import UdpLink
    from nvs_store import NvsStore
    go = []  # whatever lies in the folder that says so
    store = NvsStore()
    KeyStore(store).save("wifi", cborlite.encode([1, "virtual", ""]))
    station = wifi.Station()
    station.switch_on()
    station.load(store)

    async def told(link, unicast):
        while True:
            if unicast:
                address, datagram = await link.recv()
                print(address[0], datagram.decode())
            else:
                print((await link.hear(None)).decode())

    async def main():
        asyncio.create_task(station.keep_connected())
        link = UdpLink("0.0.0.0", "127.255.255.255", hear="0.0.0.0")
        asyncio.create_task(told(link, True))
        asyncio.create_task(told(link, False))
        while not station.connects:
            await asyncio.sleep_ms(10)
        print("listens")
        while not go:
            await asyncio.sleep_ms(10)
            go.extend(os.listdir("{go}"))
        for n in range({sends}):
            link.air(air.ADDRESS.encode() + b" to-all")
            link.send(("{peer}", 5683), b"to-one")
            await asyncio.sleep_ms(20)
        while air.counts["received"] + air.counts["lost"] < {until}:
            await asyncio.sleep_ms(10)
        await asyncio.sleep_ms(300)  # in which nothing more is to come
        print("lost", air.counts["lost"])
    asyncio.run(main())
"""


def test_boards_hear_each_other_and_not_themselves(tmp_path):
    a, b, c = (OneBoard(tmp_path / name) for name in "abc")
    go = tmp_path / "go"
    go.mkdir()
    until = {a: 6, b: 12, c: 6}  # datagrams that each is to hear
    running = [one.popen(ON_AIR.format(sends=3, peer=b.address, until=until[one], go=go)) for one in (a, b, c)]
    for process in running:
        assert process.stdout.readline() == "listens\n"
    (go / "all_listen").touch()
    heard = [process.communicate(timeout=240)[0].splitlines() for process in running]
    assert sorted(heard[0]) == sorted([f"{b.address} to-all", f"{c.address} to-all"] * 3 + ["lost 0"])
    unicast = [f"{a.address} to-one", f"{c.address} to-one"] * 3
    assert sorted(heard[1]) == sorted([f"{a.address} to-all", f"{c.address} to-all"] * 3 + unicast + ["lost 0"])


def test_the_air_loses_what_it_is_told_to_lose_and_counts_it(tmp_path):
    a, b = OneBoard(tmp_path / "a"), OneBoard(tmp_path / "b")
    script = textwrap.dedent(ON_AIR)
    listening = script.format(sends=0, peer="", until=100, go="/")
    receiver = b.popen(listening, BOARD_LOSS="0.3", BOARD_SEED="7")
    assert receiver.stdout.readline() == "listens\n"
    sender = a.popen(script.format(sends=100, peer="127.0.8.200", until=0, go="/"))
    heard = receiver.communicate(timeout=240)[0].splitlines()
    sender.communicate(timeout=240)
    lost = int(heard[-1].split()[1])
    received = heard.count(f"{a.address} to-all")
    assert received + lost == 100
    assert 20 <= lost <= 40


RECEIVE = """
    import air, gc, socket
    air.connected = True
    ear, mouth = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "12"]
    ear.setblocking(False)
    ear.bind(("0.0.0.0", socket.PORT))
    mouth.bind(("127.0.9.250", 0))
    def send(octets):
        mouth.sendto(octets, (air.ADDRESS, socket.PORT))
    def received(limit):
        try:
            return len(ear.recvfrom(limit)[0])
        except MemoryError:
            return "no-room"
        except OSError as error:
            return error.errno
"""


def test_a_datagram_takes_the_room_of_the_longest_one_and_waits_where_there_is_none(one_board):
    """As on an ESP32: in one piece, not twice, and before the datagram leaves its queue."""
    script = """
    datagram, told, pieces, count = bytes(1044), [0] * 3, [None] * 1000, 0
    try:
        while True:
            pieces[count] = bytearray(100)  # 128 octets with its head
            count += 1
    except MemoryError:
        pass
    for index in range(count - 200, count - 100, 2):  # room for what is small
        pieces[index] = None
    for index in range(count - 50, count - 40):  # and for one datagram
        pieces[index] = None
    send(datagram)
    told[0] = received(1500)
    told[1] = received(1152)
    told[2] = received(1152)
    for index in range(len(pieces)):
        pieces[index] = None
    print(*told)
    """
    assert one_board.run(textwrap.dedent(RECEIVE) + textwrap.dedent(script)) == ["no-room", "1044", "11"]


def test_datagrams_are_received_one_by_one_and_cut_at_the_limit(one_board):
    script = """
    for octets in (b"one", b"three", b"of four"):
        send(octets)
    print(*[received(4) for _ in range(4)])
    """
    assert one_board.run(textwrap.dedent(RECEIVE) + textwrap.dedent(script)) == ["3", "4", "4", "11"]


def test_a_socket_that_has_received_an_empty_datagram_reads_nothing_any_more(one_board):
    """It returns at once each time: MicroPython on the ESP32 takes a datagram for the end of a connection."""
    script = """
    send(b"")
    send(b"datagram")
    print(*[received(100) for _ in range(3)])
    """
    assert one_board.run(textwrap.dedent(RECEIVE) + textwrap.dedent(script)) == ["0", "0", "0"]


def test_a_watchdog_that_is_fed_too_late_resets_the_board(one_board):
    script = "import machine, time\ndog = machine.WDT(timeout=50)\ntime.sleep_ms({})\ndog.feed()\nprint('alive')"
    assert one_board.run(script.format(1)) == ["alive"]
    assert "alive" not in one_board.run(script.format(200), expect=board.RESET_CODE)


@pytest.mark.req("SEC-17")
def test_the_first_random_octets_are_asked_for_when_the_radio_is_on(one_board):
    """The generator of an ESP32 is good for keys only then."""
    ccs = Credential.of("lamp", bytes(31) + b"\1").ccs
    identity = provisioning.Provisioning("lamp", bytes(31) + b"\3", ccs)
    KeyStore(NvsFolder(one_board.flash)).save(provisioning.RECORD, identity.pack())
    script = """
        import os, sys
        import air
        class Watching:
            def urandom(self, n):
                print("radio", air.radio_on)
                raise SystemExit
            def __getattr__(self, name):
                return getattr(os, name)
        sys.modules["os"] = Watching()
        print("radio", air.radio_on)
        import board
        board.run()
    """
    assert one_board.run(script) == ["radio", "False", "radio", "True"]


def test_there_is_no_bluetooth_radio(one_board):
    script = "import bluetooth\ntry:\n  bluetooth.BLE().active(True)\nexcept OSError as error:\n  print(error.errno)"
    assert one_board.run(script) == ["19"]
