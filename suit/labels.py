"""Numbers of the SUIT manifest that updates of boards use (draft-ietf-suit-manifest-33, IANA considerations).

The document has more of them. Whatever is not here is refused.
"""

TAG_ENVELOPE = 107
TAG_SIGN1 = 18  # RFC 9052

# Envelope
AUTHENTICATION = 2
MANIFEST = 3

# Manifest; the last two are command sequences
VERSION = 1
NUMBER = 2
COMMON = 3
VALIDATE = 7
INSTALL = 20

# Common
COMPONENTS = 2
SHARED = 4

# Commands
VENDOR_IDENTIFIER = 1
CLASS_IDENTIFIER = 2
IMAGE_MATCH = 3
SET_COMPONENT = 12
OVERRIDE = 20
FETCH = 21

# Parameters
VENDOR_ID = 1
CLASS_ID = 2
DIGEST = 3
SIZE = 14
URI = 21

SHA256 = -16  # a digest's algorithm (RFC 9054)
POLICY_MAX = 15  # the four bits of a reporting policy, which a board does not follow
