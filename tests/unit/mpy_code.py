"""Files that have the form of MicroPython's code, for tests of what carries them."""

HEAD = b"M\x06\x00\x1f"


def mpy(code: bytes = b"") -> bytes:
    """Return the octets of a .mpy file, of version 6, of a module without names whose bytecode is `code`."""
    number = len(code) << 3
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return HEAD + b"\0\0" + bytes(reversed(digits)) + code
