"""Times and limits, each with its unit and its reason. Code points are in `numbers.py`."""

# Lengths, octets
ENTITY_ID_MAX = 64
CREDENTIAL_ID_MAX = 48  # entity ID in a credential: lakers 0.6 hashes contexts above 255 octets wrongly (by value)
MESSAGE_MAX = 8192  # one CPNS message, any form
UPLINK_MESSAGE_MAX = 131072  # the same where whole PNs are listed: LISTED_MAX names of 64 octets, in XML too
LISTED_MAX = 1024  # names or versions in one message between PN GW and CPNS Server: one tree of PNEs
ERROR_TEXT_MAX = 96
GKDK_MAX = 4096
RECEIPT_MAX = 32  # octets that a PNE keeps for its PN GW, of 14 today
SOFTWARE_MAX = 16  # octets
KEY_MESSAGE_MAX = 1280  # an I_MESSAGE of some 900 octets with its notice, in one datagram
TUNNEL_DATAGRAM_MAX = 1280  # EDHOC and OSCORE of PNE and CPNS Server; the longest of today has some 200 octets
CREDENTIAL_MAX = 128  # CCS octets: an entity ID of 48 and less than 64 around it
BROADCAST_OBJECT_MAX = 1400  # below any Wi-Fi MTU, never an IP fragment
GROUP_MESSAGE_MAX = 1024  # payload of one group message
ENTRIES_PER_OBJECT = 70  # 70 * 18 octets and the fixed part stay below BROADCAST_OBJECT_MAX

# Keys
GROUP_KEY_LEN = 16
WRAPPED_KEY_LEN = 24  # RFC 3394 of one Group Key
KEYS_PER_RING = 3  # the sending key, one in grace time, one ahead
EPOCH_JUMP_MAX = 16  # SEC-03: a broadcast may not burn the version space
GRACE_AFTER_LEAVE_S = 30  # SEC-05: one BLE delivery
GRACE_MAX_S = 3600  # SEC-05
ACTIVATION_AHEAD_MAX_S = 86400  # SEC-05

# Receiving broadcasts (SEC-09, SEC-11)
BAD_SIGNATURES_MAX = 3
BAD_SIGNATURE_WINDOW_S = 60
BROADCAST_IGNORE_MIN_S = 60
BROADCAST_IGNORE_MAX_S = 960
RECONFIRM_INTERVAL_S = 60
REPORT_S = 60  # how long a confirmation without session is repeated

# Receiving adverts (SEC-10)
ADVERT_ROWS_MAX = 80  # rows of one object: 1,400 octets and their air form fit
ADVERT_OBJECTS_MAX = 4  # objects that are being received; 4 * 80 rows are 6.4 KB, 4 of 6 rows half a KB
ADVERT_OBJECT_S = 10  # seconds after its newest row; the slowest sender takes longer for a large object
ADVERT_DONE_MAX = 8  # finished objects whose adverts are known, as senders repeat them ..
ADVERT_DONE_S = 60  # .. for so many seconds: a member that finds an object of the same identification blocks no longer
ADVERT_TRIES_ROWS = 12  # rows of an object for which other sets of rows are tried; each try of more rows takes too long
ADVERT_TRIES_MAX = 16

# Pull (SEC-13)
PULL_JITTER_S = 5
PULL_BACKOFF_MIN_S = 30
PULL_BACKOFF_MAX_S = 3600
PULL_AT_LEAST_EVERY_S = 86400

# Group messages (SEC-24)
REPLAY_WINDOW = 32
INC_PER_SENDER_MAX = 4
SENDERS_MAX = 32  # replay states kept per Service Group
EVICTED_MAX = 64  # replay states that had to make room, of which the highest number is remembered, 12 octets each
SEQUENCE_STEP = 64  # numbers a sender reserves with one store write (SEC-22)
WINDOW_STORE_STEP = 16  # numbers a receiver gives up with one write while messages come faster than ..
WINDOW_STORE_INTERVAL_S = 10  # .. one in this time, the messages of all senders of the group together
