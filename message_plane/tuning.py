"""Times and limits of the message plane, each with its unit and its reason."""

# Sessions (architecture.md section 3, SEC-22, SEC-27)
SESSION_LIFE_S = 30 * 86400  # seconds of running: neither wall clock nor time switched off ends a session (SEC-36)
SESSION_NUMBERS_MAX = 1 << 20  # messages in either direction
NUMBERS_STEP = 64  # sender numbers reserved with one synced commit
NUMBERS_SKIPPED = 1 << 14  # at most, at a start: an old copy of a store then hardly uses numbers that were used since
REPLAY_WINDOW = 64  # an uplink may deliver out of order
COUNT_TIME_EVERY_S = 3600  # one synced commit an hour stores the age of all sessions; a kill loses at most so much
RENEW_MIN_S = 60  # a peer that says it has lost the session is believed once a minute at most
ECHO_CHALLENGES = (0.5, 6)  # per session: per second, and burst; each costs a sender number

# Handshakes (SEC-21)
HANDSHAKES_FREE = (10.0, 10)  # above this rate each unknown peer must show that it gets answers at its address
HANDSHAKES_MAX = (200.0, 200)  # handshakes that are computed at most, 1.5 ms each
HANDSHAKES_PER_ADDRESS = (1.0, 3)
VOUCHED_S = 5.0  # between two looks at all credentials for a name that the link vouches for
HANDSHAKES_PER_CARRIER = (6.0, 64)  # of all peers that one PN GW brings: a quarter of HALF_OPEN_MAX in HALF_OPEN_S
ECHO_LIFE_S = 60  # a board may need seconds to come back with the Echo value
HALF_OPEN_MAX = 1024
HALF_OPEN_PER_ADDRESS = 4  # of peers that have proven their address
HALF_OPEN_UNPROVEN = 64  # of all others together; from a quarter of this on every peer is asked for Echo first
HALF_OPEN_KNOWN = 16384  # of registered peers that their link vouches for, one each: all come back after a failure
HALF_OPEN_S = 30  # a board computes for several seconds between message_2 and message_3
ADDRESSES_REMEMBERED = 4096
PENALTY_S = 60  # for an address whose octets made the EDHOC library give up
PROVISIONAL_MAX = 1024  # unregistered sessions in a pairing window: five seconds of HANDSHAKES_MAX, a board needs two
PROVISIONAL_PER_ADDRESS = 4
PAIRING_S = 300  # SEC-20

# CoAP
DATAGRAM_MAX = 8192 + 256  # one CPNS message and what CoAP and OSCORE add to it
OPTIONS_MAX = 16  # in one message; messages of this program have five at most
AROUND_PAYLOAD = 96  # octets that CoAP and OSCORE add to a block of a body, with all options that are known here
BLOCK_EXPONENT_MAX = 6  # blocks of at most 1,024 octets (RFC 7959, 2.2), which no network on the path fragments
BLOCKWISE_S = 60  # a transfer in blocks that rests longer is forgotten
BUSY = 16  # from so many requests without an answer on, acknowledging each early costs more than it helps
BUSY_ACKNOWLEDGE_S = 0.7  # then an answer within this time carries the acknowledgement; a board repeats after 1 s
RECENT_MAX = 8192  # answered requests kept for retransmissions of the same request
RECENT_S = 247  # EXCHANGE_LIFETIME (RFC 7252, 4.8.2)
LEAVES_S = 10  # work that must follow an answer does not wait longer for the answer to be sent (NSTART)
HANDLERS_MAX = 512  # requests being handled at once, all peers together
HANDLERS_PER_PEER = 8
REQUESTS_MAX = 256  # requests of this endpoint under way at once
REASON_MAX = 96  # octets of text in an error answer

# GATT (docs/protocol.md, "GATT")
GATT_DATAGRAM_MAX = 1400  # octets, as those of the broadcast plane; one board has one buffer for it
GATT_VALUE_MAX = 512  # octets of a value (Bluetooth Core, Vol 3, Part F, 3.2.9)
GATT_CONNECTIONS_MAX = 3  # any adapter has so many, beside advertising and scanning
GATT_CONNECTING_MAX = 2  # connections that are made at once, at most one of them to a stranger
GATT_CONNECT_S = 5.0  # takes 0.4 s, with half of the packets lost a few seconds
GATT_WRITE_S = 5.0  # one value and its acknowledgement; a peer that takes longer has stalled
GATT_CLOSE_S = 5.0  # BlueZ needs 2.3 to 2.7 s
GATT_IDLE_S = 30.0  # a connection that is not used ends
GATT_MAKES_ROOM_S = 1.0  # the same while another board waits
GATT_STRANGER_S = 10.0  # so long a stranger keeps its place while another board waits; a handshake takes a few seconds
GATT_HOLD_S = 60.0  # so long any board keeps its place while another one waits
GATT_AGAIN_S = 1.0  # between two connections to one board; doubled after each on which nothing has verified ..
GATT_AGAIN_MAX_S = 30.0  # .. up to this
GATT_CONNECTS = (4.0, 8)  # connections to all boards: per second, and burst
GATT_CONNECTS_STRANGERS = (2.0, 4)  # those to strangers, each of which may begin HANDSHAKES_PER_ADDRESS
GATT_HEARD_S = 30.0  # a chip may report an advert that does not change once in a scan only
GATT_WANTS_S = 15.0  # so long after its last advert that says so a board counts as wanting a connection
GATT_PREFERRED_MAX = 1024  # addresses with a session, as many as a PN may have boards
GATT_STRANGERS_MAX = 64  # addresses without a session that are remembered
GATT_QUEUED_S = 10.0  # a datagram waits so long for a connection; requests to boards have no more time
GATT_QUEUED_MAX = 8  # datagrams that wait for one board
GATT_QUEUES_MAX = 256  # boards that datagrams wait for
GATT_DROPPED_MAX = 16  # fragments of one connection that were dropped, after which it ends

# MQTT (docs/protocol.md, "MQTT")
MQTT_DATAGRAM_MAX = 128 << 10  # octets; brokers carry more, and the longest message of an uplink fits in two
MQTT_BODY_MAX = (1 << 16) - 1 - AROUND_PAYLOAD  # AES-CCM-16 encrypts no more at once (RFC 9053, 4.2); else blocks
MQTT_AROUND_DATAGRAM = 1024  # octets of a packet beside its payload: the topic, and properties that a broker may add
MQTT_OPEN_MAX = 500  # publications that a broker has not acknowledged
MQTT_WAITING_PER_TOPIC = 64  # datagrams that wait for one receiver: more than requests under way to it
MQTT_WAITING_MAX = 1 << 16  # of all receivers
MQTT_EXPIRES_S = 3600  # a message, and the session of an end that is away: a delivery is repeated by then (SEC-27)
MQTT_CONNECT_S = 5.0  # TCP and TLS; then the same for the broker's answer, and for each subscription
MQTT_KEEP_ALIVE_S = 30  # a broker that is gone without a word is noticed after twice as long
MQTT_AGAIN_S = (1.0, 60.0)  # the longest pause after the first failed round of all brokers, doubled up to the second
MQTT_UNSENT_MAX = 1 << 14  # packets, mostly acknowledgements, that a broker has not read while it sends
MQTT_SAY_AGAIN_S = 1.0  # before this end contradicts a broker that tells it is gone
MQTT_HINT_S = 5.0  # at most one hint in this time that a peer is back, as anybody may cause it
MQTT_PER_SENDER = (500.0, 1000)  # datagrams of one tag at one broker: an eighth of what one core takes, and burst
MQTT_LOG_LINES = (1 / 60, 6)  # about one broker: per second, and burst; its state has the newest
MQTT_SERVER_AGAIN_S = (0.5, 5.0)  # the same for a CPNS Server: there is one, and all PN GWs wait for it
MQTT_TAGS_REMEMBERED = 1 << 17  # peers of which it is known at which broker they are
MQTT_STABLE_S = 10.0  # after a connection that has lasted so long the pauses begin anew
MQTT_ABSENT_S = 60.0  # a PN GW leaves a broker from which the Server is away so long

# Tunnels through PN GWs (docs/protocol.md section 11)
TUNNEL_PER_PNE = 4  # datagrams of one PNE that wait for an answer
TUNNEL_PER_GATEWAY = HANDLERS_PER_PEER - 2  # of all its PNEs: two handlers are left for what the PN GW itself asks
TUNNEL_ANSWER_S = 2.0  # computing and one synced commit; what is ignored, such as a replay, waits so long in vain

# Reading sockets
READ_BURST = 64  # datagrams that are read in a row before other work gets its turn
RECEIVE_BUFFER = 1 << 20  # octets requested from the kernel: a thousand confirmations may come at once

# Logging
LOG_EVERY_S = 60  # at most one line in this time about incidents that any sender can cause
