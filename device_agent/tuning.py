"""Times and limits of the board's side, each with its unit and its reason; the protocol's are in `cpns/tuning.py`."""

SOFTWARE = "0.1.0"  # the version of the agent, that of the project

# Session (SEC-21), ms
HANDSHAKE_BACKOFF_MIN = 5000
HANDSHAKE_BACKOFF_MAX = 600000
EXCHANGE_TIMEOUT = 20000  # one request; CoAP's own 46 s would keep an application waiting for a dead gateway
EDHOC_TIMEOUT = 30000  # message_1 or message_3: a small gateway computes for some seconds under load
CONNECT_TIMEOUT = 60000  # how long a refresh or leave waits for a session to come up, while there is a network
CANNOT_NOW_MIN = 30000  # pauses of a join whose gateway cannot ask the Server now, four times longer each time: the
CANNOT_NOW_MAX = 3600000  # gateway counts joins, and holds who asks more than six times in an hour (SEC-19)
PROBE_TIMEOUT = 2000  # is somebody there where the gateway was last? Two datagrams
SILENT_TIMEOUT = 5000  # message_1, or a first request, to where nobody answered that
DISCOVERY_TIMEOUT = 2000  # answers to the multicast-like question come after a leisure (RFC 7252, 8.2)
SESSION_AGE_MAX = 30 * 86400 * 1000
SESSION_NUMBERS_MAX = (1 << 20) - (1 << 14)  # sender numbers of one OSCORE context, leaving some for its renewal
CHALLENGES_MAX = (
    64  # Echo challenges of one start; whoever replays old requests gets no more, and the session is renewed
)

# Service Groups
GROUPS_MAX = 8  # memberships at a time: the budget of RAM
ASSIGN_INTERVAL = 1800000  # ms between questions for a lost GKDK: half of what the PN GW answers (SEC-19)
LEISURE_DEFAULT = 5000  # ms, when the PN GW names none
LEISURE_MAX = 60000  # ms
OLD_GENERATION_MAX = 30 * 86400 * 1000  # ms, SEC-07

SENDERS_MAX = 22  # replay states of one group at a time: 26 octets each in one record of the store, with 768 of evicted
WINDOW_WRITE_EVERY = 2000  # ms; more replay states of one group are not stored in the long run, but messages flagged:
WINDOW_WRITES_BURST = 128000  # ms of that at once; a member who jumps from number to number would wear out the flash

PULL_IGNORING = 5000  # ms between pulls while broadcasts of newer keys are heard and ignored (SEC-09)
PULL_ONLINE = 5000  # ms between pulls when network or PN GW come back: what was broadcast meanwhile was missed

# Queues
REQUESTS_MAX = 4  # requests of the PN GW that wait to be handled
ANSWERS_MAX = 8  # answers to a question to everybody
INBOX_MAX = 8  # messages kept for an application that is slow; newer ones are dropped and counted

# Pairing (SEC-20)
PAIRING_WINDOW = 300000  # ms
PAIRING_PAUSE = 5000  # ms between tries of an open window

# Heap. What lasts is to lie close together: a heap of 96 KiB is left without 1,500 octets in one piece, for the longest
# datagrams, before it is full. The more often garbage is collected, the slower the board is.
GARBAGE_MAX = 12288  # octets that are allocated between two collections
