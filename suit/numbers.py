"""Code points of updates between PN GW and PNE, and their sizes (docs/protocol.md section 16)."""

PATH = "update"  # the CoAP resource, at both ends

# First item of a request. REPORT and PIECE are from a PNE, ASK is from the PN GW
REPORT = 1
PIECE = 2
ASK = 3

# What a PIECE asks for
ENVELOPE = 0
PAGE = 1
FRAME = 2
SEALED = 3  # on the air only: a coded frame that members of a Service Group can read

# State of a PNE, in its REPORT
IDLE = 0
COLLECTING = 1  # detail: pieces that are missing
WAITING = 2  # all is there; it installs at its next start
TRIAL = 3
FELL_BACK = 4  # detail: a reason
REFUSED = 5  # detail: a reason

# Reasons of FELL_BACK and REFUSED
NO_REASON = 0
NOT_CONFIRMED = 1  # on trial it did not reach its PN GW
NOT_WHOLE = 2  # digest or size of the image are not those of the manifest
BOOT_LOADER = 3  # the boot loader went back to the firmware before
CRASHED = 4  # on trial it ended with an error, or the watchdog reset the board
NO_AGENT = 5  # the image lacks modules of an agent, so that those of another one would run in their place
OTHER_KEY = 10
NO_KEY = 11
OTHER_CLASS = 12
OLD_NUMBER = 13
TRIED_BEFORE = 14
NOT_UNDERSTOOD = 15  # the manifest has what this board does not read
NO_ROOM = 16
FLASH_FAILED = 17
NO_HEAP = 18  # its code runs in the flash, which has no two slots, and its heap has no room for an agent in a file
NO_FLOOR = 19  # its record of the numbers is damaged, so that any number might be an old one
NO_SLOT = 20  # it runs one slot, and its record names the other one: at its start it could not be read

BLOCK = 1024  # octets of a coded frame
ENVELOPE_MAX = 1024  # octets of an envelope without its image
NUMBER_MAX = 0xFFFFFFFF  # of a sequence number; a board that tried 1 << 63 could not even report it
IMAGE_MAX = 0x180000  # octets: a slot of the firmware's OTA variant
HASH = 16  # octets of SHA-256 that stand for a frame or a page
PAGE_FRAMES = 64  # hashes in a page
ID = 8  # octets of the digest of the manifest that name an update
