"""A resource that no product has, for the tests of the contract: notes in plain text, which are answered in capitals.

The board's end of `tests/integration/notes_resource.py`.
"""

from device_agent.coap import message as coap
from device_agent.coap.blocks import Blocks

PATH = "house/notes"
TEXT_PLAIN = 0  # in the option: no octets
SIZE = 5000
OPTIONS = [(coap.URI_PATH, b"house"), (coap.URI_PATH, b"notes"), (coap.CONTENT_FORMAT, b"")]


def _in_capitals(body):
    return body.upper()
    yield


NOTES = Blocks(_in_capitals, TEXT_PLAIN, SIZE).answer
