"""The values of tests/vectors, for tests that run in a board's heap too."""

import json

unhex = bytes.fromhex


def part(name, *keys):
    """Return what `keys` lead to in the file `name`; the rest of the file does not stay in the heap."""
    with open("tests/vectors/%s.json" % name) as file:
        found = json.load(file)
    for key in keys:
        found = found[key]
    return found
