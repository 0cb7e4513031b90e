"""Times and limits, each with its unit and its reason. Code points are in `numbers.py`."""

from micropython import const

# Lengths, octets
ENTITY_ID_MAX = const(64)
MESSAGE_MAX = const(8192)  # one CPNS message, any form
BROADCAST_OBJECT_MAX = const(1400)  # below any Wi-Fi MTU, never an IP fragment
GROUP_MESSAGE_MAX = const(1024)  # payload of one group message
ENTRIES_PER_OBJECT = const(70)  # 70 * 18 octets and the fixed part stay below BROADCAST_OBJECT_MAX

# Keys
GROUP_KEY_LEN = const(16)
EPOCH_JUMP_MAX = const(16)  # SEC-03: a broadcast may not burn the version space
GRACE_AFTER_LEAVE_S = const(30)  # SEC-05: one BLE delivery
GRACE_MAX_S = const(3600)  # SEC-05
ACTIVATION_AHEAD_MAX_S = const(86400)  # SEC-05

# Receiving broadcasts (SEC-09, SEC-11)
BAD_SIGNATURES_MAX = const(3)
BAD_SIGNATURE_WINDOW_S = const(60)
BROADCAST_IGNORE_MIN_S = const(60)
BROADCAST_IGNORE_MAX_S = const(960)
RECONFIRM_INTERVAL_S = const(60)

# Pull (SEC-13)
PULL_JITTER_S = const(5)
PULL_BACKOFF_MIN_S = const(30)
PULL_BACKOFF_MAX_S = const(3600)
PULL_AT_LEAST_EVERY_S = const(86400)

# Group messages (SEC-24)
REPLAY_WINDOW = const(32)
INC_PER_SENDER_MAX = const(4)
SENDERS_MAX = const(32)  # replay states kept per Service Group on a board
