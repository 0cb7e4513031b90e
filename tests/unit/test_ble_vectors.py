"""The vectors of adverts in lines, which a board's heap can read, are those of the file that they were made from."""

import json
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "vectors"
FRAMES_IN_A_LINE = 8


def test_the_lines_are_those_of_the_file() -> None:
    whole = json.loads((VECTORS / "ble_frames.json").read_text())
    wanted = []
    for case in whole["cases"]:
        frames = [{name: frame[name] for name in ("index", "plain", "advert")} for frame in case.pop("frames")]
        for at in range(0, len(frames), FRAMES_IN_A_LINE):
            wanted.append({**case, "frames": frames[at : at + FRAMES_IN_A_LINE]})
    lines = (VECTORS / "ble_frames.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == wanted + whole["decodes"]
