"""Versions of Group Keys for people: a number of 32 bits, its epoch above its count.

In JSON `version` is that number, which only grows; `version_text` beside it is what people see.
"""


def version_text(version: int) -> str:
    """The version as "epoch.count", "-" for none."""
    return f"{version >> 16}.{version & 0xFFFF}" if version else "-"
