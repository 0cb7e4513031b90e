"""Names that a person types: entity IDs, PN IDs and SG IDs. What comes over a link is checked by `cpns.messages`."""

from cpns import tuning
from cpns.errors import MalformedMessage


def checked(name: str, what: str) -> str:
    """Give `name` back if it can stand in a message as `what`: 1..64 octets of UTF-8 without control characters.

    Raises MalformedMessage.
    """
    if not name or not name.isprintable() or name != name.strip():
        raise MalformedMessage(f"the {what} must be printable text without blanks around it")
    if len(name.encode()) > tuning.ENTITY_ID_MAX:
        raise MalformedMessage(f"the {what} is longer than {tuning.ENTITY_ID_MAX} octets")
    return name
