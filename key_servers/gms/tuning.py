"""Times and limits of the GMS. Times are seconds."""

AUTHORISATION_S = 24 * 3600
"""How long an authorisation for group management services lasts; a client renews it with every connection."""
ANSWER_S = 10
"""A notification without an answer is repeated after this, then after twice, four times ... as long."""
BACK_OFF_MAX_S = 3600
KEY_ATTEMPTS_MAX = 10
"""A client that fetched a key so often and never answered gets it no more. Revocations are repeated without end."""
LONG_POLL_MAX_S = 30
"""Below the minute after which routers of homes forget a silent TCP connection."""
LOOK_EVERY_S = 5
"""An open long poll looks so often for what another process on the same store (a command, a second GMS) changed."""
KEY_ID_BITS = 28
KEY_ID_DRAWS = 64
"""Draws of a random GMK-ID before giving up: with half of all numbers used, one in 2**64 keys would fail."""
OWN_KEYS_AHEAD_S = 300
"""The GMS fetches its signing key of the next key period so long before it begins."""
OWN_KEYS_WAIT_S = 5
OWN_KEYS_AGAIN_S = 60
"""While the present key does, a silent KMS holds up notifications so long, and so often."""
GROUPS_OF_A_KEY_MAX = 16
NAMES_OF_A_KEY_MAX = 2048
"""Octets of its group URIs and its text, so that the message stays below what clients take (4,096)."""
TOKEN_DAYS = 365
COMB_TEETH = 12
"""Of the combs in each process of the pool: a GMS sends to many users, so 10 MB go for a quarter of the time."""
