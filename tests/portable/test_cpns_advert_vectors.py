"""The vectors of adverts, on both Pythons."""

from advert_world import decoded
from vector_files import unhex
from vmtest import req

from cpns import advert, advert_build
from cpns.crypto import keywrap


def read(name):
    """Yield the cases or decodes of tests/vectors/ble_frames.jsonl one at a time: all do not fit a board's heap."""
    import json

    with open("tests/vectors/ble_frames.jsonl") as file:
        for line in file:
            case = json.loads(line)
            if name in case:
                yield case


@req("SEC-10")
def test_the_vectors_of_frames():
    seen = 0
    for case in read("object"):
        signed, air, pn = unhex(case["object"]), unhex(case["air"]), case["pn_alias"]
        assert advert_build.to_air(signed, pn) == air, case["name"]
        rows = advert_build.rows_of(air)
        assert len(rows) == case["k"]
        assert advert.from_air(b"".join(rows), pn) == signed
        name, key = unhex(case["id"]), unhex(case["frame_key"])
        assert advert.identification(signed) == name
        for frame in case["frames"]:
            octets = advert_build.row_advert(key, name, rows, frame["index"])
            assert octets == unhex(frame["advert"]), (case["name"], frame["index"])
            assert keywrap.decipher(key, octets) == unhex(frame["plain"])
            seen += 1
    assert seen == 211


def test_the_vectors_of_receptions():
    airs, seen = {}, 0
    for case in read("object"):
        airs[case["name"]] = unhex(case["air"])
    for case in read("received"):
        source = advert_build.rows_of(airs[case["case"]])
        assert decoded(source, case["received"]) == b"".join(source)
        seen += 1
    assert seen == 28
