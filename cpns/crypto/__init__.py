"""The primitives, on what each Python has: hashlib and cryptolib on a board, cryptography elsewhere."""
