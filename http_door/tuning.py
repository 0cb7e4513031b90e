"""Times and limits of the HTTP door, each with its unit and its reason."""

BACKLOG = 128  # connections the kernel holds until the next turn of the event loop takes them
ACCEPTED_AT_ONCE = 16  # in one turn of the event loop, so that those who are inside are served between
ACCEPT_PAUSE_S = 0.25  # while the machine has no room for another connection
DESCRIPTORS_KEPT = 64  # for the store, the log and worker processes
UNSENT_S = 30  # until a peer that takes nothing of an answer is given up (TCP_USER_TIMEOUT)
TLS_SHUTDOWN_S = 2.0  # to part in TLS's way

REQUEST_TIMEOUT_S = 10.0  # to read one body: who sends slower holds a connection for nothing
LOGGED_EVERY_S = 10.0  # at most one line of a kind, with the number of those left out

TLS_CERTIFICATE_DAYS = 825  # of the self-signed one for a lab: what TLS libraries still accept
