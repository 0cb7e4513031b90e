"""Times and limits of the CPNS Server, each with its unit and its reason. Code points are in `cpns.numbers`."""

KEYS_KEPT = 2  # newest Group Keys of a Service Group in the store (SEC-29)

# Updates of Group Keys
BATCHING_S = 2.0  # leaves within it make one update (SEC-19); bounds how long a leaver still reads
BATCHING_MAX_S = 60.0  # SEC-05: leave means now
PERIOD_MAX_S = 3660 * 86400  # ten years: what is typed beyond that is a slip
PERIOD_MIN_S = 60  # shorter periods would make every member's flash and radio work for nothing
UPDATE_OF_ANOTHER_S = 3.0  # so long after it is due, an update that another process should make is made here
UPDATE_RETRY_S = 60  # after an update that failed: disk full, versions used up
PERIODIC_LEAD_S = 30  # periodic keys are activated this much later, so that all members change together

# Deliveries to PN GWs and, past them, to PNEs
ANSWER_TIMEOUT_S = 20.0  # one request to a PN GW from when it goes out, retransmissions included
PLACES = 1024  # requests under way at once, each some 10 KiB of memory
PLACES_OF_SILENT = PLACES // 4  # of them to PN GWs that do not answer
QUIET_S = 2.0  # so long after its request a PN GW seems silent; CoAP repeats after 2 to 3 s (RFC 7252, 4.8)
DEPARTURES_AT_ONCE = 64  # then answers are read: a kernel keeps some 250 datagrams for us by default
PRESENCE_LOOK_S = 0.5  # between looks whether a broker, or a PN GW at one, is there by now
AWAY_BELIEVED_S = 600.0  # then one request goes to a PN GW that is away, as brokers say
CLAIM_READ_S = 3.0  # a broker sends what it has kept at once
CLAIM_BACK_S = 20.0  # a Server that is pushed off a broker again and again comes back after MQTT_SERVER_AGAIN_S
BROKER_GRACE_S = 60.0  # a broker may be away so long without an alarm, as while it is restarted
CARRIED_ANSWER_S = 45.0  # from when a PN GW took a key for a PNE until the PNE's answer: three windows of a slow board
ENTITY_KEY_WAIT_S = 600.0  # a member without Entity User Key is an alarm then: a handshake takes a board a minute
RETRY_MIN_S = 2.0
RETRY_MAX_S = 600.0
FAILURES_UNTIL_ALARM = 3

# Storing what PN GWs say
LOT_S = 0.05  # one synced commit for what comes within it: an SD card does 20 a second
LOT_RETRY_S = 5.0  # after a medium that refused
COMPLAIN_EVERY_S = 60.0  # at most one line of the log in this time about deliveries that a store prevents

SETTLE_S = 0.05  # deliveries begin this long after a change, so that the answer that caused it is there first
LOOK_AT_LEAST_EVERY_S = 30.0  # the background looks around even if nobody calls

# What one PN may cost (SEC-19)
MESSAGES_PER_GATEWAY = (100.0, 4000)  # of a PN GW: per second, as each may be a synced commit; burst, after a failure
GATEWAYS_COUNTED = 1 << 17  # whose messages are counted
UPDATES_PER_HOUR_MAX = 60  # of a Service Group at the usual pace because of one PN; then each waits BATCHING_MAX_S
PNES_PER_PN_MAX = 4096  # bound to it, present or long gone
END_TO_END_MEMBERS_PER_PN_MAX = 8192  # 1,000 boards with 8 groups; each membership has a delivery, and may be an alarm
GROUPS_PER_OWNER_MAX = 16
GROUP_NAMES_PER_PN_MAX = 256  # names are kept for ever, because version floors are (SEC-04)
JOINS_PER_HOUR_MAX = 6  # of one PNE into groups it was in before; every leave needs a join first
LOSSES_PER_HOUR_MAX = 6  # updates of one Service Group because one PN GW says that it lost its store
PNE_PULLS_PER_HOUR_MAX = 240  # of one PNE in end-to-end groups, each of which may make one delivery
WINDOWS_PER_HOUR_MAX = 1  # updates of one Service Group because a member lost its replay windows (SEC-24)

# Version lists (SEC-28)
VERSION_LIST_EVERY_S = 900
VERSION_LIST_OVERDUE_S = 2 * VERSION_LIST_EVERY_S  # one may be lost
SILENCE_LOOK_S = 15.0  # between looks for those that are overdue
STORE_LOOK_S = 2.5
"""How often a medium that could not be written is tried again."""

PAGE = 5000  # rows of one answer of the database where there may be many: some 50 ms

# PostgreSQL
ALARMS_LOOK_S = 5.0  # so often a process shows its alarms to the others
ALARMS_SHOWN_AT_ONCE = 300  # rows; some 30 ms in the event loop
POLL_S = 30.0  # what other processes changed is looked for at least so often, told or not
LISTEN_AGAIN_S = 1.0  # after a connection for notifications was lost
DATABASE_WAIT_S = 2.0  # for one answer of the database; the event loop waits so long once, then the store is in trouble
