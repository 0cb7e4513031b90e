"""Times and limits of boards, each with its unit and its reason; those of the protocol are in `cpns/tuning.py`."""

SOFTWARE = "0.1.0"  # the version of the agent is that of the project

# Session (SEC-21), ms
HANDSHAKE_BACKOFF_MIN = 5000
HANDSHAKE_BACKOFF_MAX = 600000
SERVER_HANDSHAKES = 60000  # ms from one session with the CPNS Server to the next, less for the first ones
EXCHANGE_TIMEOUT = 20000  # of one request; CoAP's own 46 s would let an application wait long for a dead gateway
EDHOC_TIMEOUT = 30000  # of message_1 or message_3: under load a small gateway computes for some seconds
CONNECT_TIMEOUT = 60000  # how long a refresh or leave waits for a session to come up, while there is a network
CANNOT_NOW_MIN = 30000  # pauses of a join whose gateway cannot ask the Server now, each four times the one before: the
CANNOT_NOW_MAX = 3600000  # gateway counts joins, and delays boards that ask more than six times in an hour (SEC-19)
PROBE_TIMEOUT = 2000  # for an answer from the gateway's last address; leaves room for two datagrams
SILENT_TIMEOUT = 5000  # of message_1, or a first request, to an address that did not answer the probe
DISCOVERY_TIMEOUT = 2000  # for answers to the question to all, which come after a leisure (RFC 7252, 8.2)
CONNECTING = 8000  # more of each time limit if a connection has to be made: by scanning, connecting, subscribing
EUK_RENEWAL_INTERVAL = 3600000  # ms between handshakes because of keys under an unknown Entity User Key (SEC-25)
SESSION_AGE_MAX = 30 * 86400 * 1000
SESSION_NUMBERS_MAX = (1 << 20) - (1 << 14)  # sender numbers of one OSCORE context, leaving some for its renewal
CHALLENGES_MAX = 64  # Echo challenges after a start; a peer that replays gets no more, and the session is renewed

# GATT
GATT_SUBSCRIBING = 3000  # ms after which a central that has written nothing is sent to all the same
GATT_SILENT = 15000  # ms without a datagram from a central after which its connection is ended
GATT_REPEATS = 3  # times that a datagram without an answer is sent again to a central until its connection is ended
GATT_STALLED = 2000  # ms for which the radio has no room for a value until the connection is ended
GATT_QUEUE_MAX = 4  # datagrams that wait for a connection
DATAGRAM_MAX = 1400  # octets of one that comes in fragments

# Service Groups
GROUPS_MAX = 8  # memberships at a time, by the budget of RAM
ASSIGN_INTERVAL = 1800000  # ms between requests for a lost GKDK: half as many as the PN GW answers (SEC-19)
LEISURE_DEFAULT = 5000  # ms, if the PN GW names none
LEISURE_MAX = 60000  # ms
OLD_GENERATION_MAX = 30 * 86400 * 1000  # ms, SEC-07

SENDERS_MAX = 22  # replay states of one group at a time: 26 octets each in one record of the store, with 768 of evicted
WINDOW_WRITE_EVERY = 10000  # ms for each write of a replay state, on average; beyond that messages are flagged instead:
WINDOW_WRITES_BURST = 640000  # ms of that at once; a member whose numbers jump would wear out the flash

PULL_IGNORING = 5000  # ms between pulls while broadcasts of newer keys are heard and ignored (SEC-09)
PULL_ONLINE = 5000  # ms between pulls when network or PN GW come back, as broadcasts were missed meanwhile

# Updates, ms
UPDATE_LEISURE = 5000  # at most, before a report and a first pull: what all boards hear, they hear at once
UPDATE_REPORT_EVERY = 86400 * 1000
UPDATE_REPORT_ALONE = 3600000  # of a board in no group, or in end-to-end ones: the PN GW hears of it by nothing else
UPDATE_RETRY_MIN = 60000  # after a report without answer; twice as long each time, but while an update is on trial
UPDATE_RETRY_MAX = 3600000
UPDATE_PULL_RETRY = 10000  # from a pull without answer to a report, also if the PN GW is asked too much
UPDATE_MISSED = 2000  # at most, before the pull of a piece without which frames that are heard are of no use
UPDATE_HINT_EVERY = 30000  # between reports because of frames of an unknown update; twice as long each time
UPDATE_PULL_LEISURE = 10000  # before the first pull of what was broadcast: then all boards pull
UPDATE_PULL_GAP = 100  # between pulls: a house of boards that pull shares one radio channel
UPDATE_LOOK_EVERY = 1000  # between manifests that were broadcast and are looked at
UPDATE_RESTART_SPREAD = 10000  # at most, before the restart: a house whose boards all restart at once is dark
UPDATE_BY_AIR_MAX = 86400  # seconds for which a PN GW may put off a board that it broadcasts to

# Queues
REQUESTS_MAX = 4  # requests of the PN GW that wait to be handled
ANSWERS_MAX = 8  # answers kept of a question to all
INBOX_MAX = 8  # messages kept for a slow application; newer ones are dropped and counted

# Pairing (SEC-20)
PAIRING_WINDOW = 300000  # ms
PAIRING_PAUSE = 5000  # ms between tries of an open window

# Heap. Objects that last must lie close together: otherwise a heap of 96 KiB has no 1,500 octets in one piece left for
# the longest datagrams, long before it is full. But the more often garbage is collected, the slower the board is.
GARBAGE_MAX = 8192  # octets that are allocated between two collections
