"""Times and limits of the KMS, each with its unit and its reason."""

REQUESTS_PER_HOUR_MAX = 120  # of one user; keys are fetched once a period, and after a lost answer again
FINISH_S = 5.0  # to end what is being answered when the KMS ends
WORKERS = 1  # threads that compute keys: the arithmetic holds the interpreter's lock anyway

TOKEN_DAYS = 365

KEY_PERIOD_S = 30 * 86400  # UserKeyPeriod of a new KMS
CERTIFICATE_DAYS = 10 * 365
