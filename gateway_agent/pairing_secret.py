"""The pairing secret of a board as people handle it: 16 characters, printed in fours, and the text of a QR code.

A scanned QR code is typed or pasted in place of the characters. It begins with `QR_HEAD`, so that it is not taken for
anything else, and has the name that the board has from its maker: nobody needs that, and it tells labels apart.
"""

import base64

from cpns.errors import NotAllowed

CHARACTERS = 16
OCTETS = 10
QR_HEAD = "KEYCAST:"


def octets(text: str) -> bytes:
    """Return the 10 octets of the secret in `text`: 16 base32 characters with blanks or hyphens, or a QR code's text.

    Raises NotAllowed for other text; the sentence does not repeat it.
    """
    letters = characters(text)
    try:
        secret = base64.b32decode(letters)
    except ValueError:  # binascii.Error is one; letters outside of ASCII are another
        secret = b""
    if len(letters) != CHARACTERS or len(secret) != OCTETS:
        raise NotAllowed("a pairing secret is 16 characters of A-Z and 2-7")
    return secret


def characters(text: str) -> str:
    """Return the characters of the secret in `text`, which may not be one, without what only people and codes need."""
    typed = text.strip().upper()
    if typed.startswith(QR_HEAD):
        typed = typed.rpartition(":")[2]
    return "".join(typed.split()).replace("-", "")


def in_fours(characters: str) -> str:
    """Return the 16 characters as they are printed: ABCD-EFGH-IJKL-MNOP."""
    return "-".join(characters[at : at + 4] for at in range(0, len(characters), 4))


def qr_text(board: str, characters: str) -> str:
    """Return the text of the QR code for the board called `board` with this secret, for `octets`.

    It has characters of the QR code's alphanumeric mode only, if the name has.
    """
    return f"{QR_HEAD}{board.upper()}:{characters}"
