"""A resource that no product has, for the tests of the contract: notes in plain text, which are answered in capitals.

They travel in blocks, also to and from boards.
"""

from message_plane.resource import Resource

PATH = "house/notes"
TEXT_PLAIN = 0
SIZE = 40_000


async def _in_capitals(peer, body):
    return body.upper()


NOTES = Resource(_in_capitals, {TEXT_PLAIN: b""}, SIZE, blocks=True)
