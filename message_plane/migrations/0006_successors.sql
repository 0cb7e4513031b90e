-- A board that is provisioned under a name that is taken: its key gets the name when the board is first heard with it.
-- Until then the key that has the name is good, so that a provisioning that is cut short changes nothing (SEC-33).

CREATE TABLE successor (
    entity_id    TEXT PRIMARY KEY,
    x            BLOB NOT NULL UNIQUE CHECK (length(x) = 32),
    ccs          BLOB NOT NULL,
    kid          BLOB NOT NULL CHECK (length(kid) = 8),
    preferred_sg TEXT
) STRICT;
