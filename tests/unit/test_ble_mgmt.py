"""The sender by the kernel's management socket, against a scripted kernel."""

import asyncio
from collections import Counter, deque

import pytest

from gateway_agent.radios import adapters, mgmt_instances, mgmt_socket
from gateway_agent.radios import mgmt_packets as packets
from gateway_agent.radios.ble_mgmt import MgmtSender
from gateway_agent.radios.ble_sender import PAYLOAD_LEN, NoSender
from tests.unit.scripted_kernel import LOW_ENERGY, ScriptedKernel

REMOVE, PARAMETERS, DATA, SET_POWERED = 0x3F, 0x54, 0x55, 0x05


@pytest.fixture
async def kernel():
    kernel = ScriptedKernel()
    yield kernel
    kernel.close()
    assert kernel.faults == []


class Frames:
    """What a medium is to a sender: `left` is handed out, `taken` was."""

    def __init__(self, count):
        self.left = deque(payload(number) for number in range(count))
        self.taken = []

    def take(self):
        if not self.left:
            return None
        self.taken.append(self.left.popleft())
        return self.taken[-1]


def payload(number):
    return bytes([PAYLOAD_LEN - 1, 0xFF, 0xFF, 0xFF]) + number.to_bytes(24, "big")


class Sending:
    """A started sender with its frames; `ups` has `up` at each news."""

    def __init__(self, kernel, count=0, adapter="auto"):
        self.frames = Frames(count)
        self.counters = Counter()
        self.restarted = []
        self.sender = MgmtSender(adapter, 0xFFFF, self.counters, open_it=kernel.open, restart=self.restarted.append)
        self.ups = []
        self.sender.start(self.frames.take, lambda: self.ups.append(self.sender.up))

    def give(self, count):
        known = len(self.frames.taken) + len(self.frames.left)
        self.frames.left.extend(payload(number) for number in range(known, known + count))
        self.sender.wake()


@pytest.fixture
async def sending(kernel):
    """Return a function that starts a sender on the kernel."""
    begun = []

    async def begin(count=0, adapter="auto", settle=0.5):
        begun.append(Sending(kernel, count, adapter))
        await asyncio.sleep(settle)
        return begun[-1]

    yield begin
    known = []
    for each in begun:
        await each.sender.close()
        known.append(list(each.ups))
    await asyncio.sleep(1)
    assert known == [each.ups for each in begun], "no news after the end"
    for controller in kernel.controllers.values():
        assert not set(controller.instances) & {3, 4, 5, 6}, "an own instance is left"


async def test_each_payload_is_on_air_forty_a_second_on_an_extended_controller(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending()
    began = asyncio.get_running_loop().time()
    it.give(62)
    await asyncio.sleep(5)
    assert set(adapter.payloads) == set(it.frames.taken) and len(it.frames.taken) == 62
    first = {data: at for at, _, data in reversed(adapter.on_air)}
    assert max(first.values()) - began < 62 * 0.027 + 0.2
    events = Counter(data for _, _, data in adapter.on_air)
    assert min(events.values()) >= 2 and it.counters["ble_sent"] == 62
    assert {number for _, number, _ in adapter.on_air} == {3, 4, 5, 6}, "number 1 is left to bluetoothd"
    assert (it.sender.adapter, it.sender.instances, it.sender.interval_ms, it.sender.frame_s) == ("hci0", 4, 20, 0.027)


async def test_an_update_is_a_transmission_on_a_4_x_controller(kernel, sending):
    adapter = kernel.plug_in(extended=False, instances=5)
    it = await sending()
    began = asyncio.get_running_loop().time()
    it.give(62)
    await asyncio.sleep(5)
    assert adapter.payloads[1:] == it.frames.taken and len(it.frames.taken) == 62, "the first says nothing"
    moments = [at for at, _, data in adapter.on_air if data == it.frames.taken[-1]]
    assert 61 * 0.04 <= moments[0] - began < 62 * 0.041 + 0.1
    assert (it.sender.instances, it.sender.interval_ms, it.sender.frame_s) == (1, 40, 0.040)


async def test_a_4_x_controller_sends_longer_than_the_life_of_an_instance(kernel, sending):
    adapter = kernel.plug_in(extended=False, instances=5)
    it = await sending(count=1200)
    await asyncio.sleep(60)
    assert adapter.payloads[1:] == it.frames.taken and len(it.frames.taken) == 1200


async def test_instances_are_renewed_before_their_timeout(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending(count=2400)
    await asyncio.sleep(70)
    assert set(adapter.payloads) == set(it.frames.taken) and len(it.frames.taken) == 2400
    assert it.counters["ble_refused"] == 0


async def test_nothing_stays_on_air_when_there_is_nothing_to_send(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending(count=6)
    await asyncio.sleep(1)
    assert adapter.instances == {} and set(adapter.payloads) == set(it.frames.taken)
    asked = len(kernel.asked)
    await asyncio.sleep(60)
    assert len(kernel.asked) == asked, "the sender rests"
    it.give(1)
    await asyncio.sleep(1)
    assert it.frames.taken[6] in adapter.payloads


@pytest.mark.req("SEC-38")
@pytest.mark.parametrize("extended", [True, False])
async def test_what_is_withdrawn_is_off_air_within_one_advert(kernel, sending, extended):
    adapter = kernel.plug_in(extended=extended)
    it = await sending(count=20, settle=0.3)
    it.frames.left.clear()
    before = len(kernel.asked)
    it.sender.withdraw()
    await asyncio.sleep(0)  # the kernel reads what has been written
    await asyncio.sleep(0)
    written = [opcode for opcode, _, _ in kernel.asked[before:]]
    assert written and set(written) == {REMOVE}
    at = asyncio.get_running_loop().time()
    await asyncio.sleep(10)
    assert [moment for moment, _, _ in adapter.on_air if moment > at + 0.03] == []


@pytest.mark.req("SEC-38")
async def test_a_payload_under_way_is_not_sent_after_its_withdrawal(kernel, sending):
    """At each of many moments, also between the two commands of an instance."""
    adapter = kernel.plug_in()
    it = await sending()
    for step in range(40):
        it.give(1)
        await asyncio.sleep(step * 0.0005)
        it.frames.left.clear()
        it.sender.withdraw()
        await asyncio.sleep(0.02)
        count = len(adapter.on_air)
        await asyncio.sleep(0.3)
        assert len(adapter.on_air) == count and adapter.instances == {}
    assert it.counters["ble_refused"] == 0


async def test_what_is_aired_right_after_a_withdrawal_is_on_air(kernel, sending):
    """Linux does not answer the parameters of an instance that it is about to remove."""
    adapter = kernel.plug_in()
    it = await sending()
    kernel.hci_s = 0.02
    for step in range(20):
        it.give(6)
        await asyncio.sleep(0.05 + step * 0.01)
        it.frames.left.clear()
        it.sender.withdraw()
        it.give(6)
        await asyncio.sleep(1)
        assert set(it.frames.taken[-6:]) <= set(adapter.payloads)
    assert it.ups == [True] and it.counters["ble_refused"] == 0


async def test_the_instances_of_another_program_stay(kernel, sending):
    adapter = kernel.plug_in()
    adapter.add(1, b"\x02\x0a\x00")
    adapter.add(2, b"\x02\x0a\x01")
    it = await sending(count=20)
    await asyncio.sleep(2)
    await it.sender.close()
    await asyncio.sleep(1)
    assert set(adapter.instances) == {1, 2}
    assert {number for _, number, _ in adapter.on_air} == {1, 2, 3, 4, 5, 6}


async def test_an_instance_that_another_program_takes_is_left_to_it(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending()
    adapter.add(5, b"\x02\x0a\x01")
    await asyncio.sleep(1)
    it.give(20)
    await asyncio.sleep(2)
    assert set(it.frames.taken) <= set(adapter.payloads)
    assert {data for _, number, data in adapter.on_air if number == 5} == {b"\x02\x0a\x01"}
    adapter.remove(5)


async def test_a_full_adapter_is_told_and_used_as_soon_as_it_has_room(kernel, sending):
    adapter = kernel.plug_in(instances=2)
    adapter.add(1, b"\x02\x0a\x00")
    adapter.add(2, b"\x02\x0a\x00")
    it = await sending(count=3)
    assert not it.sender.up and "all 2 adverts that hci0 can have are those of other programs" in it.sender.problem
    adapter.remove(2)
    await asyncio.sleep(2)
    assert it.sender.up and it.sender.instances == 1 and set(it.frames.taken) <= set(adapter.payloads)
    assert len(it.frames.taken) == 3


async def test_what_a_killed_process_left_ends_by_itself(kernel, sending):
    adapter = kernel.plug_in()
    killed = await sending(count=1000, settle=0.3)
    sender = killed.sender
    for task in (sender._watch, *sender._instances._tasks):
        task.cancel()
    sender._link.close()  # no Remove Advertising
    sender._instances = None
    await asyncio.sleep(1)
    assert len(adapter.instances) == 4
    successor = await sending(count=20)
    await asyncio.sleep(2)
    assert set(adapter.instances) == {3, 4}, "what the successor sees is not its own, and it does not touch that"
    assert set(successor.frames.taken) <= set(adapter.payloads) and len(successor.frames.taken) == 20
    await asyncio.sleep(mgmt_instances.TIMEOUT_S)
    assert adapter.instances == {}


async def test_bluetoothd_that_starts_removes_all_and_the_sender_goes_on(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending(count=200, settle=1)
    adapter.remove_all()
    await asyncio.sleep(6)
    assert it.sender.up and it.ups == [True]
    lost = set(it.frames.taken) - set(adapter.payloads)
    assert len(it.frames.taken) == 200 and len(lost) <= 4


async def test_bluetoothd_that_removes_all_while_instances_are_being_added(kernel, sending):
    """Linux does not answer the parameters of an instance that is removed meanwhile."""
    adapter = kernel.plug_in()
    it = await sending()
    kernel.hci_s = 0.02
    for step in range(30):
        it.give(6)
        await asyncio.sleep(step * 0.004)
        adapter.remove_all()
        await asyncio.sleep(1)
    assert it.ups == [True] and len(it.frames.taken) == 180
    assert len(set(it.frames.taken) - set(adapter.payloads)) <= 30


async def test_an_adapter_that_is_pulled_out_and_put_back(kernel, sending):
    kernel.plug_in()
    it = await sending(count=200, settle=1)
    kernel.pull_out()
    await asyncio.sleep(0.1)
    assert not it.sender.up and it.ups == [True, False]
    await asyncio.sleep(1)
    assert it.sender.problem == "there is no Bluetooth adapter. Next: plug one in" and it.sender.adapter == ""
    again = kernel.plug_in()
    await asyncio.sleep(8)
    assert it.sender.up and it.ups == [True, False, True] and again.payloads
    assert len(it.frames.taken) == 200


async def test_another_adapter_takes_over(kernel, sending):
    kernel.plug_in(0)
    second = kernel.plug_in(1, extended=False, instances=5)
    it = await sending(count=200, settle=1)
    assert it.sender.adapter == "hci0"
    kernel.pull_out(0)
    await asyncio.sleep(10)
    assert it.sender.up and it.sender.adapter == "hci1" and second.payloads and it.sender.frame_s == 0.040


async def test_only_the_named_adapter_is_used(kernel, sending):
    kernel.plug_in(0)
    it = await sending(count=3, adapter="hci1")
    assert it.sender.problem == "there is no adapter hci1. Next: plug it in, or change adapter in [ble]"
    second = kernel.plug_in(1)
    await asyncio.sleep(1)
    assert it.sender.up and set(second.payloads) == set(it.frames.taken) and not kernel.controllers[0].on_air


async def test_an_adapter_that_is_off_is_switched_on_at_the_start_only(kernel, sending):
    adapter = kernel.plug_in(on=False)
    it = await sending(count=3)
    assert it.sender.up and it.sender.adapter == "hci0"
    adapter.switch(False)
    await asyncio.sleep(5)
    assert it.sender.problem == "hci0 is switched off. Next: bluetoothctl power on", "somebody wants it off"
    adapter.switch(True)
    await asyncio.sleep(1)
    assert it.sender.up and it.ups == [True, False, True]


async def test_low_energy_that_is_switched_off_and_on(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending()
    adapter.settings &= ~LOW_ENERGY
    kernel.tell(0x06, 0, adapter.settings.to_bytes(4, "little"))
    await asyncio.sleep(1)
    assert it.sender.problem == "Low Energy is switched off on hci0. Next: btmgmt --index hci0 le on"
    adapter.settings |= LOW_ENERGY
    kernel.tell(0x06, 0, adapter.settings.to_bytes(4, "little"))
    await asyncio.sleep(1)
    assert it.sender.up


async def test_rfkill(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending(count=50)
    adapter.block()
    await asyncio.sleep(3)
    assert not it.sender.up
    await it.sender.steps[1].take()
    assert it.sender.problem == "hci0 is blocked by rfkill (airplane mode). Next: rfkill unblock bluetooth"
    adapter.is_blocked = False
    await it.sender.steps[1].take()
    assert it.sender.up and SET_POWERED in [opcode for opcode, _, _ in kernel.asked]


async def test_a_command_that_fails_once_is_tried_again_with_the_same_payload(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending()
    kernel.refusals = {DATA: [0x0A], PARAMETERS: [0x03]}
    it.give(20)
    await asyncio.sleep(2)
    assert it.sender.up and set(adapter.payloads) == set(it.frames.taken) and len(it.frames.taken) == 20
    assert it.counters["ble_refused"] == 2


async def test_data_that_are_refused_while_other_instances_are_being_added(kernel, sending):
    """Linux then drops the others without an answer."""
    adapter = kernel.plug_in()
    it = await sending()
    kernel.hci_s, kernel.refusals = 0.06, {DATA: [0x03]}
    it.give(20)
    await asyncio.sleep(4)
    assert it.ups == [True] and set(adapter.payloads) == set(it.frames.taken) and len(it.frames.taken) == 20


async def test_a_command_that_always_fails_takes_the_sender_down_until_it_is_registered_again(kernel, sending):
    kernel.plug_in()
    it = await sending()
    kernel.refusals = {DATA: [0x03] * 100}
    it.give(20)
    await asyncio.sleep(2)
    assert it.ups == [True, False]
    assert it.sender.problem.startswith("hci0 accepts no adverts: command 0x0055: failed. Next: ")
    kernel.refusals = {}
    await it.sender.steps[0].take()
    await asyncio.sleep(2)
    assert it.sender.up and not it.frames.left


@pytest.mark.parametrize("opcode", [DATA, PARAMETERS, REMOVE])
async def test_a_command_without_an_answer_takes_the_sender_down_and_a_new_socket_cures_it(kernel, sending, opcode):
    adapter = kernel.plug_in()
    it = await sending()
    kernel.mute.add(opcode)
    it.give(20)
    await asyncio.sleep(mgmt_socket.COMMAND_MAX_S + 3)
    assert it.ups == [True, False] and "no answer" in it.sender.problem
    kernel.mute.clear()
    await it.sender.steps[0].take()
    it.give(5)
    await asyncio.sleep(2)
    assert it.sender.up and it.frames.taken[-1] in adapter.payloads
    await asyncio.sleep(mgmt_instances.TIMEOUT_S)  # the end of what could not be removed


async def test_the_harsher_steps_of_recovery(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending(count=3)
    assert [step.what for step in it.sender.steps] == [
        "register its adverts again",
        "switch the adapter off and on",
        "reset the adapter",
    ]
    kernel.refusals = {DATA: [0x03] * 3}
    it.give(3)
    await asyncio.sleep(2)
    before = len(kernel.asked)
    await it.sender.steps[1].take()
    powered = [parameters for opcode, _, parameters in kernel.asked[before:] if opcode == SET_POWERED]
    assert powered == [b"\x00", b"\x01"] and it.sender.up
    await it.sender.steps[2].take()
    assert it.restarted == [0] and it.sender.up
    it.give(3)
    await asyncio.sleep(1)
    assert it.frames.taken[-1] in adapter.payloads


async def test_a_socket_that_the_kernel_closes(kernel, sending):
    kernel.plug_in()
    it = await sending(count=20)
    kernel.hang_up()
    await asyncio.sleep(1)
    assert it.sender.problem.startswith("the management socket of the kernel fails: the kernel has closed it.")
    await it.sender.steps[0].take()
    assert it.sender.up


async def test_another_programs_advert_on_a_4_x_controller_costs_no_payload(kernel, sending):
    """The kernel shows the other advert until its 2 s are over; the first payload waits for that."""
    adapter = kernel.plug_in(extended=False, instances=5)
    adapter.add(1, b"\x02\x0a\x00")
    it = await sending()
    it.give(30)
    await asyncio.sleep(8)
    assert set(it.frames.taken) <= set(adapter.payloads) and len(it.frames.taken) == 30
    adapter.remove(1)


async def test_events_that_are_no_events_change_nothing(kernel, sending):
    adapter = kernel.plug_in()
    it = await sending(count=20)
    for code, parameters in ((0x06, b""), (0x23, b""), (0x24, b""), (0x01, b"\x55"), (0xFFFF, bytes(300))):
        kernel.tell(code, 0, parameters)
    kernel._sockets[0].send(b"\x01")
    await asyncio.sleep(2)
    assert it.sender.up and set(it.frames.taken) == set(adapter.payloads)


async def test_a_medium_that_raises_takes_the_sender_down(kernel):
    kernel.plug_in()
    sender = MgmtSender("auto", 0xFFFF, Counter(), open_it=kernel.open)

    def take():
        raise RuntimeError("no frames today")

    sender.start(take, lambda: None)
    await asyncio.sleep(1)
    assert "no frames today" in sender.problem
    await sender.close()


def test_a_process_without_the_capability_is_told_how_to_get_it(real_kernel):
    with pytest.raises(NoSender, match=r"lacks the capability CAP_NET_ADMIN. Next: AmbientCapabilities=CAP_NET_ADMIN"):
        mgmt_socket.require(real_kernel(trusted=False))


def test_an_old_kernel_is_named(real_kernel):
    with pytest.raises(NoSender, match=r"Next: Linux 5.11 or later"):
        mgmt_socket.require(real_kernel(commands=(0x02, 0x03, 0x04, 0x05, 0x3D, 0x3F)))


def test_a_kernel_without_bluetooth_is_named():
    def refuse():
        raise OSError(97, "Address family not supported by protocol")

    with pytest.raises(NoSender, match="offers no Bluetooth sockets"):
        mgmt_socket.require(refuse)


def test_the_adapters_of_a_machine(real_kernel, tmp_path):
    def plug_in(kernel):
        kernel.plug_in(0, dual=True)
        kernel.plug_in(1, extended=False, instances=5, on=False)

    switch = tmp_path / "rfkill3"
    switch.mkdir()
    for name, value in (("name", "hci1"), ("type", "bluetooth"), ("hard", "0"), ("soft", "1")):
        (switch / name).write_text(value + "\n")
    opened = real_kernel(plug_in)
    first, second = adapters.look(opened, tmp_path)
    assert (first.name, first.address, first.version, first.is_dual) == ("hci0", "00:11:22:33:44:00", "5.0", True)
    assert (first.is_extended, first.instances, first.used, first.problem) == (True, 6, (), "")
    assert (second.is_extended, second.instances, second.is_powered, second.is_dual) == (False, 5, False, False)
    assert second.problem == "hci1 is blocked by software (airplane mode). Next: rfkill unblock bluetooth"


def test_without_the_capability_adapters_are_listed_without_their_instances(real_kernel):
    (adapter,) = adapters.look(real_kernel(lambda kernel: kernel.plug_in(), trusted=False))
    assert adapter.name == "hci0" and adapter.is_powered and adapter.instances is None and adapter.is_extended is None


@pytest.fixture
def real_kernel():
    """Return a function that starts a scripted kernel in a thread and returns how its sockets are opened."""
    import threading

    loops = []

    def start(prepare=lambda kernel: None, **options):
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        loops.append((loop, thread))

        async def make():
            kernel = ScriptedKernel(**options)
            prepare(kernel)
            return kernel

        def call(coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

        kernel = call(make())

        async def opened():
            return kernel.open()

        return lambda: call(opened())

    yield start
    for loop, thread in loops:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("octets", [b"", b"\x01", b"\x01\x00\xff\xff\x05\x00", b"\x01\x00\xff\xff\x00\x00\x00"])
def test_packets_that_are_too_short_or_too_long(octets):
    with pytest.raises(packets.MalformedPacket):
        packets.event(octets)


def test_layouts_of_the_protocol():
    assert (
        packets.advertising_parameters(4, 20.0, 30).hex() == "04" + "00600000" + "0000" + "1e00" + "20000000" * 2 + "7f"
    )
    assert packets.command(0x55, 1, packets.advertising_data(4, b"\x02\x0a\x00")).hex() == "550001000600040300020a00"
    with pytest.raises(ValueError, match="numbered from 1"):
        packets.remove_advertising(0)
