-- Who is known, and the OSCORE contexts made with them (docs/protocol.md sections 2 and 3).

CREATE TABLE credential (
    entity_id TEXT PRIMARY KEY,
    role      TEXT NOT NULL CHECK (role IN ('pne', 'gateway', 'server')),
    x         BLOB NOT NULL UNIQUE CHECK (length(x) = 32),  -- one key, one name (SEC-16)
    ccs       BLOB NOT NULL,
    kid       BLOB NOT NULL CHECK (length(kid) = 8)
) STRICT;

CREATE INDEX credential_by_kid ON credential (kid);

CREATE TABLE oscore_context (
    recipient_id   BLOB PRIMARY KEY,  -- ours: the kid of what the peer sends
    sender_id      BLOB NOT NULL,
    entity_id      TEXT NOT NULL REFERENCES credential (entity_id) ON DELETE CASCADE,
    master_secret  BLOB NOT NULL CHECK (length(master_secret) = 16),
    master_salt    BLOB NOT NULL CHECK (length(master_salt) = 8),
    established    INTEGER NOT NULL,  -- Unix seconds
    sender_ceiling INTEGER NOT NULL,  -- numbers below it may have been used; the next process goes on from here
    host           TEXT,              -- where the peer's last verified request came from, or where it listens
    port           INTEGER
) STRICT;
-- No replay window: after a restart it is unknown, and Echo finds it again (RFC 8613, B.1.2).

CREATE INDEX oscore_context_by_entity ON oscore_context (entity_id);

-- One row: which process may use the contexts (SEC-23). Times are milliseconds since boot.
CREATE TABLE lease (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    token    INTEGER NOT NULL,
    holder   TEXT,
    expires  INTEGER NOT NULL,
    owner_x  BLOB  -- the key under which the contexts were made
) STRICT;

INSERT INTO lease (only_row, token, holder, expires) VALUES (1, 0, NULL, 0);
