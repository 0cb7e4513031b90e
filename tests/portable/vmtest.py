"""What a portable test may use, on CPython under pytest and in the MicroPython VM alike.

A portable test is a plain function `test_*` with `assert`, in a file of this folder that imports nothing
but this module, the portable packages and what both Pythons have. The same file runs under pytest and,
compiled to .mpy, inside the VM with a 96 KiB heap (`tests/portable/test_on_vm.py`).
"""

import sys

ON_VM = sys.implementation.name == "micropython"

if ON_VM:

    def req(*ids):
        """Mark a test with the requirements it shows; on the VM the marks have no effect."""
        return lambda function: function

else:
    import pytest

    req = pytest.mark.req


class raises:
    """`with raises(SomeError) as caught:` as in pytest; `caught.value` is the exception."""

    def __init__(self, expected):
        self.expected = expected
        self.value = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        assert kind is not None, "%s was not raised" % self.expected.__name__
        self.value = value
        return issubclass(kind, self.expected)
