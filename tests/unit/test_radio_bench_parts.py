"""The parts of the radio bench that need no guest; `make radio-test` runs the others (docs/radio_bench.md)."""

import json

import pytest

from tools.radio_bench import deliveries, image
from tools.radio_bench.errors import NoBench
from tools.radio_bench.layers import layer, run
from tools.radio_bench.on_guest.hci_relay import whole
from tools.radio_bench.suites import suite


def test_a_layer_is_made_once_and_replaces_those_of_other_inputs(tmp_path):
    made = []

    def make(path):
        path.mkdir()
        (path / "file").write_text("x")
        made.append(path)

    first = layer(tmp_path, "system", ["bookworm", b"1"], make)
    assert layer(tmp_path, "system", ["bookworm", b"1"], make) == first
    assert len(made) == 1 and (first / "file").exists()
    second = layer(tmp_path, "system", ["bookworm1"], make)
    assert second != first and len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == [second.name]


def test_a_layer_that_could_not_be_made_is_not_there(tmp_path):
    def make(path):
        path.write_text("half")
        run(["sh", "-c", "echo no room >&2; exit 1"])

    with pytest.raises(NoBench, match="no room"):
        layer(tmp_path, "system", ["1"], make)
    assert layer(tmp_path, "system", ["1"], lambda path: path.write_text("whole")).read_text() == "whole"


def test_what_is_missing_is_told_with_the_next_step(monkeypatch):
    monkeypatch.setattr(image.shutil, "which", lambda command, path: None)
    assert "sudo apt install busybox-static cpio" in image.missing()
    with pytest.raises(NoBench, match="mmdebstrap"):
        image.image(suite("trixie"))
    with pytest.raises(NoBench, match="bookworm, trixie"):
        suite("sarge")


@pytest.mark.parametrize(
    "packet",
    [b"\x01\x03\x0c\x00", b"\x01\x08\x20\x02ab", b"\x02\x40\x00\x03\x00abc", b"\x04\x0e\x04\x01\x03\x0c\x00"],
    ids=["command", "command with parameters", "data", "event"],
)
def test_hci_packets_are_cut_where_they_end(packet):
    assert whole(packet) == whole(packet + b"\x01") == len(packet)
    assert [whole(packet[:length]) for length in range(len(packet))] == [0] * len(packet)


def test_the_objects_of_the_bench_are_in_the_vectors():
    rows = {case["name"]: case["k"] for case in json.loads(deliveries.VECTORS.read_text())["cases"]}
    assert [rows[name] for name in deliveries.CASES] == [6, 11, 62]
