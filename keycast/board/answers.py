"""What boards say, which may be broken or lie: text is made safe to show, and JSON is checked against its form."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter

TEXT_MAX = 4000
"""Characters of one text of a board that are shown."""


def shown(text: str) -> str:
    """Return the text of a board for a terminal: at most TEXT_MAX characters, "?" for each that is not printable.

    Among these are the escapes of terminals, and what turns the direction of writing.
    """
    return "".join(each if each.isprintable() else "?" for each in text[:TEXT_MAX].replace("\t", " "))


def read(printed: str, form: TypeAdapter[Any]) -> Any:
    """Return the JSON in the last line that a program on a board printed. Raises ValueError if it is not of the form.

    Nothing is converted: a number is no text, and true is no number. The error tells nothing of the answer.
    """
    try:
        return form.validate_json(printed.strip().rpartition("\n")[2], strict=True)
    except ValueError:
        raise ValueError("the answer of a board is of another form") from None


Text = Annotated[str, AfterValidator(shown)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


def _octets(digits: str) -> bytes:
    return bytes.fromhex(digits)


Octets = Annotated[str, Field(max_length=4096), AfterValidator(_octets)]
"""Octets in hexadecimal."""
