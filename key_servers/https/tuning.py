"""Sizes of bearer tokens."""

TOKEN_ID_OCTETS = 6  # finds the row, is no secret
TOKEN_SECRET_OCTETS = 32
TOKEN_MAX = 128  # characters of an Authorization header's token
