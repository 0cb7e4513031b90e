"""Fixtures that the tests of this folder share."""

import pytest

from tests.integration.plane_world import KINDS, Links


@pytest.fixture(params=KINDS)
def each_link(request, monkeypatch):
    """The kind of link that all parties, wires and strangers of a test meet on (`plane_world`)."""
    monkeypatch.setattr(Links, "on", staticmethod(KINDS[request.param]()))
    return request.param
