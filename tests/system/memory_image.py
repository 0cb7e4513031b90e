"""Images of the writable memory of another process, and the search for secrets in them."""

import base64
import mmap
import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ *(.*)")
_NO_MEMORY = ("[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]")
_PIECE = 1 << 22
_WORD = 8
_FORM_MIN = 2 * _WORD - 1  # so many octets hold an aligned word, wherever they begin


def take(pid: int, path: Path) -> None:
    """Write all memory that the process `pid` may write to into the file `path`. The process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, path.open("wb") as image:
            for start, end in _writable(pid):
                for place in range(start, end, _PIECE):
                    image.write(os.pread(memory.fileno(), min(_PIECE, end - place), place))
    finally:
        os.kill(pid, signal.SIGCONT)


def found(path: Path, secrets: Iterable[bytes]) -> set[bytes]:
    """Return those of `secrets` that an image holds as they are, as hexadecimal digits or in base64.

    One pass over the image looks for the aligned words that a form may have in it. A form is searched for only if one
    of its words is there. Raises ValueError for a secret that is too short for this.
    """
    where: dict[int, set[tuple[bytes, bytes]]] = {}  # word -> the secrets, each with a form, that may have it
    for secret in secrets:
        for form in forms(secret):
            if len(form) < _FORM_MIN:
                raise ValueError("a secret of fewer than 15 octets has no word of its own at each place")
            for at in range(_WORD):
                word = int.from_bytes(form[at : at + _WORD], sys.byteorder)
                where.setdefault(word, set()).add((secret, form))
    with path.open("rb") as image, mmap.mmap(image.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        with memoryview(octets) as view, view.cast("Q") as words:
            seen = where.keys() & words
        may_be = set().union(*(where[word] for word in seen))
        return {secret for secret, form in may_be if octets.find(form) >= 0}


def forms(secret: bytes) -> list[bytes]:
    """Return the octets by which a text or a structure may hold a secret, wherever in it the secret begins."""
    texts = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret)
        own = text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]  # the digits of which no other octet is part
        texts += [own, own.translate(bytes.maketrans(b"+/", b"-_"))]
    return list(dict.fromkeys(texts))


def _writable(pid: int) -> Iterable[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        start, end, rights, name = _LINE.match(line).groups()  # type: ignore[union-attr] - the kernel's own form
        if rights.startswith("rw") and name not in _NO_MEMORY:
            yield int(start, 16), int(end, 16)
