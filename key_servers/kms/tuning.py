"""Times and limits of the KMS, each with its unit and its reason."""

REQUEST_TIMEOUT_S = 10.0  # to read one request: who sends slower holds a connection for nothing
REQUESTS_PER_HOUR_MAX = 120  # of one user; keys are fetched once a period, and after a lost answer again
REFUSALS_LOGGED_EVERY_S = 10.0  # at most one line, with the number of those left out
WORKERS = 1  # threads that compute keys: the arithmetic holds the interpreter's lock anyway

TOKEN_ID_OCTETS = 6  # finds the row, is no secret
TOKEN_SECRET_OCTETS = 32
TOKEN_DAYS = 365
TOKEN_MAX = 128  # characters of an Authorization header's token

KEY_PERIOD_S = 30 * 86400  # UserKeyPeriod of a new KMS
CERTIFICATE_DAYS = 10 * 365
TLS_CERTIFICATE_DAYS = 825  # of the self-signed one for a lab: what TLS libraries still accept
