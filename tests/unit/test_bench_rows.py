"""The rows of `make bench` mean what they say; no test here depends on a time."""

import itertools
import json
import re
import time

import pytest

from tools import PROJECT
from tools.bench import board_profiles, board_steps, mls_peer, octets, schemes
from tools.bench.processor import side_by_side_ms
from tools.bench.rows import Row, Skipped, as_json, plain, write


def test_a_cost_is_better_the_less_it_is():
    row = Row("octets", 100, "octets", "peer", 250, target=130)
    assert row.ratio == 2.5
    assert row.held is True
    assert Row("octets", 131, "octets", target=130).held is False


def test_a_rate_is_better_the_more_it_is():
    row = Row("speed", 2000, "confirmations/s", "peer", 500, target=1000)
    assert row.ratio == 4
    assert row.held is True
    assert Row("speed", 999, "confirmations/s", target=1000).held is False


@pytest.mark.parametrize(
    "row",
    [Row("a", 1, "ms"), Row("a", 0, "ms", "peer", 5), Row("a", 5, "ms", "peer", 0), Row("a", 5, "x/s", "peer", 0)],
)
def test_without_something_to_compare_there_is_no_ratio(row):
    assert row.ratio is None
    assert row.held is None


def test_a_line_names_the_peer_and_the_verdict():
    assert (
        plain(Row("work", 0.18, "ms", "MLS", 1101, 0.25)) == "work: 0.18 ms  MLS 1,101  ratio 6,117  target 0.25 held"
    )
    assert plain(Row("work", 0.3, "ms", target=0.25)).endswith("MISSED")
    assert plain(Row("work", 0.3, "ms", target=0.25, yardstick_us=0.5)).endswith("MISSED (SHA-256 0.5 us)")
    assert plain(Skipped("MLS", "no node on this machine")) == "MLS: skipped, no node on this machine"


def test_works_take_turns_and_each_counts_in_its_quickest_pass():
    calls = []

    def spend(name, milliseconds):
        calls.append(name)
        ends = time.process_time() + milliseconds / 1000
        while time.process_time() < ends:
            pass

    slow_moment = iter([20, 20, 20, 2, 2, 2])  # the machine is slow while the first pass goes on
    (one, other), yardstick = side_by_side_ms(
        [lambda: spend("first", next(slow_moment)), lambda: spend("other", 5)], rounds=2, prepare=lambda: None, passes=2
    )
    assert calls == ["first"] * 3 + ["other"] * 3 + ["first"] * 3 + ["other"] * 3
    assert 2 <= one < 20 and other >= 5
    assert yardstick > 0


def test_the_file_has_a_row_for_each_value_and_a_reason_for_each_that_is_missing(tmp_path):
    path = tmp_path / "build" / "bench.json"
    write([Row("work", 2.0, "ms", "MLS", 8.0, 1.0, "median"), Skipped("board", "no VM")], path)
    written = json.loads(path.read_text())
    assert written["rows"] == [
        {
            "name": "work",
            "value": 2.0,
            "unit": "ms",
            "peer": "MLS",
            "peer_value": 8.0,
            "target": 1.0,
            "note": "median",
            "ratio": 4.0,
            "held": False,
            "yardstick_us": None,
        }
    ]
    assert written["skipped"] == [{"name": "board", "reason": "no VM"}]
    assert set(written["machine"]) == {"python", "machine", "system", "processors", "load"}
    assert as_json([])["rows"] == []


def leaves_under(node, slots):
    if node >= slots:
        return {node - slots}
    return leaves_under(2 * node, slots) | leaves_under(2 * node + 1, slots)


@pytest.mark.parametrize("count", range(5))
def test_complete_subtrees_hold_exactly_the_members_and_cannot_be_fewer(count):
    slots = 8
    for outside in itertools.combinations(range(slots), count):
        nodes = schemes.complete_subtree_nodes(slots, frozenset(outside))
        held = [leaf for node in nodes for leaf in leaves_under(node, slots)]
        assert sorted(held) == sorted(set(range(slots)) - set(outside))
        siblings = [node for node in nodes if node > 1 and node ^ 1 in nodes]
        assert not siblings, "two subtrees that could be one"
        assert schemes.complete_subtree(slots, frozenset(outside)) == len(nodes)


def test_the_counted_schemes_are_right_on_a_small_tree():
    assert schemes.per_member_list(8) == 7
    # on the leaver's path the root and two inner nodes are new: two children each, but only a sibling at the bottom
    assert schemes.logical_key_hierarchy(8) == 5
    assert schemes.logical_key_hierarchy(1024) == 19
    assert schemes.logical_key_hierarchy(1) == 0
    assert schemes.complete_subtree(1024, frozenset({5})) == 10
    assert schemes.octets(19) == 342


def test_more_wraps_than_an_object_holds_take_another_frame():
    assert octets.framed(1, 111) == 111 + 18
    assert octets.framed(70, 111) == 111 + 70 * 18
    assert octets.framed(71, 111) == 2 * 111 + 71 * 18


def test_a_unicast_exchange_is_counted_with_all_that_protects_it():
    ask, answer = octets.key_and_confirmation()
    counted = octets.unicast_exchange(ask, answer)
    # two tags of 8 octets, two CoAP headers of 4, two tokens of 4, and the code under OSCORE in each
    assert counted > len(ask) + len(answer) + 2 * (8 + 4 + 4 + 1)
    assert octets.unicast_exchange(ask + b"x", answer) == counted + 1


def test_the_octets_in_the_readme_are_those_of_the_bench(monkeypatch):
    def too_slow_for_a_test(slots):
        raise mls_peer.NotAvailable("MLS takes half a minute")

    monkeypatch.setattr(mls_peer, "remove_one", too_slow_for_a_test)
    readme = (PROJECT / "README.md").read_text()
    lines = octets.measure(lambda text: None)
    rows = [line for line in lines if isinstance(line, Row) and line.name == "one of 1,024 leaves, signed object"]
    told = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) \|$", readme, re.MULTILINE))
    assert told["keycast, one signed datagram"] == f"{rows[0].value:,}"
    beside = {row.peer: f"{row.peer_value:,}" for row in rows}
    assert told["logical key hierarchy, in the same signed datagram"] == beside["LKH"]
    assert told["one message to each board under OSCORE, with its answer"] == beside["unicast, OSCORE"]


def test_the_costs_on_each_board_are_those_of_its_memory_profile():
    """Code in the flash takes less than half of the heap that it takes there, which is less than a board has."""
    lines = {line.name: line for line in board_profiles.measure(lambda step: None)}
    on_c3, on_s3 = (
        lines[f"{name}: heap, agent loaded"] for name in ("ESP32-C3-DevKitM-1", "ESP32-S3-DevKitC-1 (N8R8)")
    )
    assert on_c3.held and on_s3.held
    assert 2 * on_c3.value < on_s3.value


def test_the_steps_of_a_board_run_in_the_vm(tmp_path):
    steps = board_steps.BoardSteps(tmp_path)
    assert steps.milliseconds("accept", 1) > 0
    assert steps.milliseconds("protect", 1) > 0
