"""Times and limits of the web page, each with its unit and its reason."""

from http_door.admission import Limits

PORT = 8686
LIMITS = Limits(  # of connections: a home has a few browsers, each with six connections and a stream of events
    strangers=64, strangers_of_one_address=24, members=192, members_of_one_user=32, first_request_s=10.0, idle_s=60.0
)
FORM_MAX = 64 * 1024  # octets of a form; none of ours needs more than a few hundred
FINISH_S = 0.5  # that a request under way may still take at the end
LISTEN_AGAIN_S = 10.0  # until a port that was taken is tried again
RENDER_TURN_S = 0.005  # of rendering, then the event loop serves boards; a page of 1,000 boards takes many turns
COMPRESSED_FROM = 1024  # octets of a page; less is not worth the time
COMPRESSED_AT_ONCE = 1 << 16  # octets: 1 ms of a small processor, less than it may take until a thread has its turn
STATIC_AGE_S = 365 * 86400  # a file's URL changes with its content

PASSWORD_MIN = 8  # characters
PASSWORD_MAX = 1024  # octets; scrypt must not be fed megabytes
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1  # 32 MiB for about 0.1 s on a PC, 0.5 s on a Raspberry Pi 3

FAILURES = 5  # wrong passwords of one address within FAILURE_WINDOW_S
FAILURES_OF_ALL = 30  # of all addresses from which nobody has logged in yet
FAILURE_WINDOW_S = 60.0
KNOWN_ADDRESSES = 64  # from which somebody has logged in: the failures of others do not count for them

SESSIONS = 32  # at once; the one that was not used for longest gives way
SESSION_AGE_S = 7 * 86400.0  # from log-in
SESSION_IDLE_S = 24 * 3600.0
LINK_AGE_S = 15 * 60.0  # of a URL that logs in once
LINKS = 4  # that are valid at once

STREAMS = 16  # connections that read events as they come
STREAM_BEAT_S = 15.0  # between two signs of life, for proxies and to notice a session that has ended
STREAM_PAUSE_S = 0.05  # after the first of several events, so that a busy gateway sends few pieces
STREAM_STUCK_S = 30.0  # until a browser that takes nothing is given up
STREAM_RETRY_MS = 3000  # after which a browser connects again
EVENTS_MAX = 500  # in one answer
